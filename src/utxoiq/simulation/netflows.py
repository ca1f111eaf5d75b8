"""The truth about net flows: what each exchange, and all together, gained over six blocks."""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from utxoiq.simulation.cast import EXCHANGES
from utxoiq.simulation.plan import START_HEIGHT, Event
from utxoiq.units import COIN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from utxoiq.simulation.accountant import Nets
    from utxoiq.simulation.pending import Deal
    from utxoiq.simulation.plan import Plan

FLOW_BLOCKS, THRESHOLD, QUIET = 6, 100 * COIN, 12
"""docs/signals/exchange.md: blocks summed up, what counts, and after how many without it begins anew."""
EVERY = "all_exchanges"


@dataclass(slots=True)
class Episode:
    """Net flows of half the threshold and more, one way, at no more than twelve blocks' distance from each other."""

    begin: int
    last: int
    peak: int
    """Satoshis, below 0 where it went out."""


@dataclass(slots=True)
class Account:
    """The last six blocks of one exchange."""

    recent: deque[int] = field(default_factory=lambda: deque(maxlen=FLOW_BLOCKS))
    episodes: dict[bool, Episode] = field(default_factory=dict)
    """Those that go on, by whether they go in."""


class NetFlows:
    """Episodes of much net flow. What was no planned surge follows from single flows, or for all exchanges together
    from those of one, and says so (`follows_from`)."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._accounts = {who: Account() for who in [*(entity.id for entity in EXCHANGES), EVERY]}

    def close_block(self, height: int, deals: Sequence[tuple[Deal, Nets]]) -> list[Event]:
        """The episodes that have ended with this block."""
        nets: dict[str, int] = defaultdict(int)
        for deal, of in deals:
            for owner, gained in of.gained.items() if not deal.joint else ():
                if owner.kind == "exchange":
                    nets[owner.id] += gained
                    nets[EVERY] += gained
        ended = [event for who in self._accounts for event in self._end(who, height - QUIET)]
        for who, account in self._accounts.items():
            account.recent.append(nets[who])
            _extend(account, height)
        return ended

    def finish(self) -> list[Event]:
        """The episodes that go on when the run ends."""
        return [event for who in self._accounts for event in self._end(who, None)]

    def _end(self, who: str, before: int | None) -> Iterable[Event]:
        """Forget the episodes last seen before a height (None: all), and tell of them."""
        episodes = self._accounts[who].episodes
        for inward, episode in list(episodes.items()):
            if before is None or episode.last < before:
                del episodes[inward]
                yield self._event(who, "net_inflow" if inward else "net_outflow", episode)

    def _event(self, who: str, kind: str, episode: Episode) -> Event:
        detail: dict[str, int | str] = {"amount_sat": abs(episode.peak), "blocks": episode.last - episode.begin + 1}
        begin, end = episode.begin - START_HEIGHT - FLOW_BLOCKS, episode.last - START_HEIGHT
        planned = (self._plan.at(who, step) for step in range(begin, end + 1))
        if who == EVERY:
            detail["follows_from"] = "the flows of single exchanges"
        elif not any(one and one.kind == kind for one in planned):
            detail["follows_from"] = "single flows"
        return Event("exchange", kind, who, episode.begin, abs(episode.peak) / THRESHOLD, detail)


def _extend(account: Account, height: int) -> None:
    net = sum(account.recent)
    if 2 * abs(net) < THRESHOLD:
        return
    episode = account.episodes.setdefault(net > 0, Episode(height, height, net))
    episode.last = height
    episode.peak = max(episode.peak, net, key=abs)
