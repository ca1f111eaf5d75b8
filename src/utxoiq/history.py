"""The past of a block: what was recorded of the blocks before it, and columns made of that once and then extended."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import repeat
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, overload

from utxoiq.models import BlockBalances, BlockFacts, BlockFlows, MempoolSnapshot

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

T = TypeVar("T")


class Past(NamedTuple):
    """What is remembered of one block; None is unknown."""

    facts: BlockFacts
    flows: BlockFlows | None = None
    """Sums only: a stored block has no transfers."""
    mempool: MempoolSnapshot | None = None
    """What it was mined from."""
    balances: BlockBalances | None = None


class History:
    """Blocks in a row, oldest first, that only grows; windows look at parts of it.

    What is derived of each block is kept beside it, so that a block costs its own derivation and not that of a month.
    """

    def __init__(self, rows: Iterable[Past] = ()) -> None:
        self.rows = list(rows)
        self._series: dict[Hashable, list[Any]] = {}
        self._columns: dict[Hashable, tuple[int, NDArray[np.int64]]] = {}
        self._places: dict[Hashable, tuple[int, dict[Any, list[tuple[int, Any]]]]] = {}
        self._lock = Lock()

    def append(self, row: Past) -> None:
        self.rows.append(row)

    def window(self, size: int) -> Window:
        """The last `size` blocks, fewer where there are not as many."""
        return Window(self, max(0, len(self.rows) - size), len(self.rows))

    def series(self, of: Callable[..., T], args: tuple[Hashable, ...], start: int, stop: int) -> list[T]:
        """`of(row, *args)` of rows start to stop. `of` must be pure: it is called once a row."""
        with self._lock:
            kept = self._series.setdefault((of, args), [])
            kept.extend(of(row, *args) for row in self.rows[len(kept) : stop])
            return kept[start:stop]

    def column(self, of: Callable[..., int], args: tuple[Hashable, ...], start: int, stop: int) -> NDArray[np.int64]:
        """The same as an array, which the caller must not change."""
        import numpy as np  # noqa: PLC0415 most processors need none

        with self._lock:
            filled, kept = self._columns.get((of, args), (0, np.empty(0, np.int64)))
            if len(kept) < stop:
                kept = np.concatenate([kept[:filled], np.empty(2 * stop - filled, np.int64)])
            if filled < stop:
                kept[filled:stop] = list(map(of, self.rows[filled:stop], *map(repeat, args)))
                self._columns[of, args] = stop, kept
            return kept[start:stop]

    def places(
        self, of: Callable[..., Iterable[tuple[Any, T]]], args: tuple[Hashable, ...], stop: int
    ) -> dict[Any, list[tuple[int, T]]]:
        """Key -> [(row, value)], oldest first, of the pairs that `of(row, *args)` gives of at least the rows before
        `stop`. The caller must not change it."""
        with self._lock:
            filled, found = self._places.get((of, args), (0, {}))
            for place in range(filled, stop):
                for key, value in of(self.rows[place], *args):
                    found.setdefault(key, []).append((place, value))
            self._places[of, args] = max(filled, stop), found
            return found


class Window(Sequence[BlockFacts]):
    """The facts of the blocks before one, oldest first, without a gap; beside them their flows and mempools."""

    def __init__(self, history: History, start: int, stop: int) -> None:
        self._history, self._start, self._stop = history, start, stop

    @classmethod
    def of(cls, rows: Iterable[Past] = ()) -> Window:
        """A window of just these."""
        history = History(rows)
        return cls(history, 0, len(history.rows))

    def __len__(self) -> int:
        return self._stop - self._start

    @overload
    def __getitem__(self, index: int) -> BlockFacts: ...
    @overload
    def __getitem__(self, index: slice) -> Window: ...
    def __getitem__(self, index: int | slice) -> BlockFacts | Window:
        """The facts of one block; a slice (of step 1) is a shorter window."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                raise ValueError("a window is of blocks in a row: no steps")
            return Window(self._history, self._start + start, self._start + max(start, stop))
        return self._history.rows[range(self._start, self._stop)[index]].facts

    def __iter__(self) -> Iterator[BlockFacts]:
        return (row.facts for row in self.rows)

    @property
    def rows(self) -> list[Past]:
        return self._history.rows[self._start : self._stop]

    def last(self, size: int) -> Window:
        """Its last `size` blocks."""
        return self[max(0, len(self) - size) :]

    def series(self, of: Callable[..., T], *args: Hashable) -> list[T]:
        """`of(row, *args)` of each block. `of` must be pure, and a function that lives as long as the program."""
        return self._history.series(of, args, self._start, self._stop)

    def column(self, of: Callable[..., int], *args: Hashable) -> NDArray[np.int64]:
        """The same as an array, which the caller must not change."""
        return self._history.column(of, args, self._start, self._stop)

    def values(self, of: Callable[..., Iterable[tuple[Any, T]]], *args: Hashable) -> Callable[[Any], list[T]]:
        """A look-up in the (key, value) pairs that `of(row, *args)` gives of each block: of a key, oldest first."""
        places, start, stop = self._history.places(of, args, self._stop), self._start, self._stop
        return lambda key: [value for place, value in places.get(key, ()) if start <= place < stop]
