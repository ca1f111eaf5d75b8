"""Headers as a tree: the chain with the most work, and the steps by which a node that saw them would have got there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from utxoiq.chain.hashes import Hash256
from utxoiq.errors import SourceError


@dataclass(slots=True)
class Node:
    """A header in the tree; `place` says where its block is stored. `work` and `height` follow from its branch."""

    block_hash: Hash256
    prev_hash: Hash256
    own_work: int
    time: int
    place: int
    work: int = 0
    height: int = -1


class HeaderTree:
    """Linked headers. A root is a block whose parent is not among them: genesis, or where a pruned store begins."""

    def __init__(self, arrivals: Iterable[Node], root_height: Callable[[Node], int]) -> None:
        """`arrivals` in the order they were stored; `root_height` tells the height of a root."""
        self._nodes: dict[Hash256, Node] = {}
        for node in arrivals:
            self._nodes.setdefault(node.block_hash, node)
        self._tips = self._link(root_height)
        self.tip = self._tips[-1] if self._tips else None

    def __getitem__(self, block_hash: Hash256) -> Node:
        return self._nodes[block_hash]

    def __contains__(self, block_hash: Hash256) -> bool:
        return block_hash in self._nodes

    def __iter__(self) -> Iterator[Node]:
        return iter(self._nodes.values())

    def _link(self, root_height: Callable[[Node], int]) -> list[Node]:
        """Give every node its work and height; the tips the best chain had, one after the other.

        A block counts from when all its ancestors are there; of equal work the first to arrive stays (Core's rule).
        """
        waiting: dict[Hash256, list[Node]] = defaultdict(list)
        linked: set[Hash256] = set()
        tips: list[Node] = []
        for arrived in self._nodes.values():
            parent = self._nodes.get(arrived.prev_hash)
            if parent is not None and parent.block_hash not in linked:
                waiting[arrived.prev_hash].append(arrived)
                continue
            ready = [arrived]
            for node in ready:
                parent = self._nodes.get(node.prev_hash)
                node.height = root_height(node) if parent is None else parent.height + 1
                node.work = node.own_work + (parent.work if parent else 0)
                linked.add(node.block_hash)
                ready += waiting.pop(node.block_hash, ())
            best = max(ready, key=lambda node: node.work)
            if not tips or best.work > tips[-1].work:
                tips.append(best)
        return tips

    def ancestors(self, node: Node) -> Iterator[Node]:
        """The node, its parent, and so on down to the root."""
        current: Node | None = node
        while current is not None:
            yield current
            current = self._nodes.get(current.prev_hash)

    def path(self, start: Node | None, end: Node) -> tuple[list[Node], list[Node]]:
        """From `start` to `end`: nodes to disconnect, tip downwards, and nodes to connect, upwards."""
        down: list[Node] = []
        up: list[Node] = []
        left: Node | None = start
        right: Node | None = end
        while left is not right:
            if right is None or (left is not None and left.height >= right.height):
                assert left is not None
                down.append(left)
                left = self._nodes.get(left.prev_hash)
            else:
                up.append(right)
                right = self._nodes.get(right.prev_hash)
        return down, up[::-1]

    def steps(self, start: Hash256 | None) -> Iterator[tuple[bool, Node]]:
        """(connect?, node) from `start` to the tip.

        From nothing, the way the tips followed each other, so that stale branches are seen and taken back; from a
        known block, the shortest way. Raises SourceError for a start that is not in the tree.
        """
        if start is not None and start not in self._nodes:
            raise SourceError(
                f"block {start}, the tip of the store, is not in this source: another chain, or too short"
            )
        tips = self._tips if start is None else self._tips[-1:]
        here = None if start is None else self._nodes[start]
        for tip in tips:
            down, up = self.path(here, tip)
            yield from ((False, node) for node in down)
            yield from ((True, node) for node in up)
            here = tip
