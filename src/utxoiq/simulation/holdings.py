"""The truth about what scripts hold: balances that pass a limit, or change much within a week.

Known when a run is over, for only then is it known which coins there were before it.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Iterator
from typing import TYPE_CHECKING

from utxoiq.chain.address import address_of
from utxoiq.chain.network import NETWORKS
from utxoiq.simulation.plan import START_HEIGHT, Event
from utxoiq.units import COIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from utxoiq.simulation.pending import Deal
    from utxoiq.simulation.wallets import Owned

LIMIT, TOLD = 1_000 * COIN, 100 * COIN
"""docs/signals/whale.md: what is watched for, and from which balance on changes are seen."""
WEEK, QUIET, CHANGES = 1008, 144, 3
SHARE, ALL_SHARE, HISTORY = 10, 50, 144
"""docs/signals/whale.md: a tenth of what was held, a fiftieth of what all hold, and the least past of the latter."""


class Holdings:
    """Every coin there was before the run and is known of, and what each block did to each script."""

    def __init__(self, coins: Iterable[Owned]) -> None:
        self.coins = {(owned.txid, owned.vout): owned.coin for owned in coins}
        """Those of before the run, by txid (internal order) and index: more are found as they are spent."""
        self._nets: list[Counter[bytes]] = []

    def close_block(self, deals: Sequence[Deal]) -> None:
        """Take note of what a block's payments do; what its coinbase pays comes later."""
        nets = Counter[bytes]()
        for deal in deals:
            for owned in deal.inputs:
                nets[owned.coin.script] -= owned.coin.value
                if owned.coin.height < START_HEIGHT:
                    self.coins[owned.txid, owned.vout] = owned.coin
            for payment in deal.outputs:
                nets[payment.target.lock.script] += payment.value
        self._nets.append(nets)

    def reward(self, height: int, script: bytes, value: int) -> None:
        """What the coinbase of a block of the best chain pays."""
        self._nets[height - START_HEIGHT][script] += value

    def events(self) -> Iterator[Event]:
        """All there is to tell, in order of height."""
        balances = Counter[bytes]()
        for coin in self.coins.values():
            balances[coin.script] += coin.value
        paths: dict[bytes, list[tuple[int, int, int]]] = defaultdict(list)
        told: dict[tuple[bytes, bool], int] = {}
        every = _Together(sum(sat for sat in balances.values() if sat >= LIMIT))
        for step, nets in enumerate(self._nets):
            gained = 0
            for script, net in nets.items():
                before, after = balances[script], balances[script] + net
                if net and max(before, after) >= LIMIT:
                    yield from _crossing(step, script, before, after)
                if net and max(before, after) >= TOLD:
                    paths[script].append((step, before, after))
                    yield from _weekly(step, script, paths[script], told)
                balances[script] = after
                gained += (after if after >= LIMIT else 0) - (before if before >= LIMIT else 0)
            yield from every.close_block(step, gained)


def _crossing(step: int, script: bytes, before: int, after: int) -> Iterator[Event]:
    if (before >= LIMIT) != (after >= LIMIT):
        kind = "balance_above" if after >= LIMIT else "balance_below"
        yield _event(kind, step, script, max(before, after) / LIMIT, before, after)


def _weekly(
    step: int, script: bytes, path: Sequence[tuple[int, int, int]], told: dict[tuple[bytes, bool], int]
) -> Iterator[Event]:
    """The first block in a while after which much was gathered or given within a week."""
    recent = [one for one in path if one[0] > step - WEEK]
    base, after = recent[0][1], path[-1][2]
    change = after - base
    way = [(one[2] > one[1]) == (change > 0) for one in recent]
    size = abs(change) / max(LIMIT, base / SHARE)
    if size < 1 or max(base, after) < LIMIT or not way[-1] or sum(way) < CHANGES:
        return
    last, told[script, change > 0] = told.get((script, change > 0), -QUIET - 1), step
    if step - last > QUIET:
        yield _event("balance_gathered" if change > 0 else "balance_given", step, script, size, base, after)


def _event(kind: str, step: int, script: bytes, size: float, before: int, after: int) -> Event:
    address = address_of(script, NETWORKS["simulated"]) or f"script:{script.hex()}"
    detail: dict[str, int | str] = {"address": address, "before_sat": before, "after_sat": after}
    return Event("whale", kind, None, START_HEIGHT + step, size, detail)


class _Together:
    """What all scripts of a thousand bitcoins and more hold."""

    def __init__(self, held: int) -> None:
        self._held, self._past = held, deque[int](maxlen=WEEK)
        self._told = -QUIET - 1

    def close_block(self, step: int, gained: int) -> Iterator[Event]:
        self._held += gained
        base = self._past[0] if self._past else 0
        far = base > 0 and abs(self._held - base) * ALL_SHARE >= base
        if far and len(self._past) >= HISTORY:
            if step - self._told > QUIET:
                kind = "large_holders_gain" if self._held > base else "large_holders_loss"
                detail: dict[str, int | str] = {"before_sat": base, "after_sat": self._held}
                size = abs(self._held - base) * ALL_SHARE / base
                yield Event("whale", kind, None, START_HEIGHT + step, size, detail)
            self._told = step
        self._past.append(self._held)
