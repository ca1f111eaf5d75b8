"""Windows made by hand: an ordinary past, and for each kind of signal a case in which it must be said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from itertools import islice
from random import Random
from typing import Any

from utxoiq.chain.address import address_of
from utxoiq.chain.block import decode_block, read_undo_spent
from utxoiq.chain.network import NETWORKS
from utxoiq.entities.labels import LabelSet
from utxoiq.entities.records import Entity, Label
from utxoiq.facts.compute import compute_facts
from utxoiq.history import History, Past, Window
from utxoiq.insights.vocabulary import KINDS as VOCABULARY
from utxoiq.models import (
    BLOCK_WEIGHT,
    BalanceChange,
    BlockBalances,
    BlockData,
    BlockFacts,
    BlockFlows,
    EntityFlow,
    MempoolSnapshot,
    NextBlock,
    Signal,
    Transfer,
)
from utxoiq.processors.base import ProcessingContext, SignalProcessor
from utxoiq.processors.exchange import EVERY
from utxoiq.simulation.economy import simulate
from utxoiq.units import COIN

NETWORK = NETWORKS["simulated"]
NO_LABELS = LabelSet((), "none", NETWORK)
HEIGHT, TIME, SPACING = 900_000, 1_700_000_000, 600
RATES = [1000, 1500, 2000, 3000, 5000]
"""Percentiles of an ordinary block, in sat/kvB."""
USUAL = RATES[2]
POOLS = ("aster", "basalt", "cobalt", "dune")
SUBSIDY = 312_500_000


def entity(name: str, title: str, kind: Any, grade: Any = "high", **more: Any) -> Entity:
    """Somebody with one label; nobody looks at its addresses here."""
    values = {"ticker": None, "tags": (), "known_holdings": None, "labels": (Label("made", grade, "2026-01-05", ""),)}
    return Entity(id=name, name=title, kind=kind, **{**values, **more})


HOLDINGS = {"sat": 2000 * COIN, "as_of": "2026-01-05", "source": "a filing"}
ENTITIES = (
    entity("borealis", "Borealis", "exchange"),
    entity("cirrus", "Cirrus", "exchange"),
    entity("aster", "Aster", "mining_pool"),
    entity("stratum", "Stratum Holdings", "treasury", ticker="STRH", known_holdings=HOLDINGS),
    entity("drift", "Drift Fund", "etf", "medium"),
    entity("glacia", "State of Glacia", "government", "low"),
)
LABELS = LabelSet(ENTITIES, "made", NETWORK)


@cache
def block() -> BlockData:
    """A decoded block with payments, its spent outputs, and nothing before it."""
    made = next(islice((b for b in simulate(3, 4) if b.n_tx > 1), 1))
    decoded = decode_block(made.raw, NETWORK)
    return BlockData(decoded, made.height, read_undo_spent(decoded, made.undo), None, "test")


@cache
def _facts() -> BlockFacts:
    return compute_facts(block(), NO_LABELS)


def at(i: int, **changes: Any) -> BlockFacts:
    """The facts of an ordinary block, `i` after the first; changed where told."""
    pool = POOLS[i % len(POOLS)]
    usual: dict[str, Any] = {
        "blockhash": f"{i + 1:064x}",
        "previousblockhash": f"{i:064x}",
        "height": HEIGHT + i,
        "time": TIME + SPACING * i,
        "txs": 101 + i % 7,
        "weight": BLOCK_WEIGHT,
        "subsidy": SUBSIDY,
        "totalfee": 400_000,
        "package_feerate_percentiles_kvb": RATES,
        "top_fee": {"txid": f"{i:064x}", "fee": 20_000, "feerate_kvb": 9000},
        "pool": pool,
        "pool_name": pool.title(),
        "pool_by": "tag",
        "coinbase_value": SUBSIDY + 400_000,
        "coinbase_unclaimed": 0,
        "coin_blocks_destroyed": (1000 + 37 * (i % 50)) * COIN,
        "large_coins": [],
        "large_transfers": [],
        "labels_version": LABELS.version,
    }
    return replace(_facts(), **{**usual, **changes})


@cache
def past(blocks: int, **changes: Any) -> tuple[BlockFacts, ...]:
    """`blocks` ordinary blocks in a row, all changed alike."""
    return tuple(at(i, **changes) for i in range(blocks))


def rates(factor: float) -> list[int]:
    """The percentiles of a block that pays `factor` times the usual."""
    return [int(rate * factor) for rate in RATES]


# Mempools


def snapshot(i: int, backlog_blocks: float = 3, **changes: Any) -> MempoolSnapshot:
    """What waited before the block `at(i)`: so many full blocks."""
    weight = int(backlog_blocks * BLOCK_WEIGHT)
    usual: dict[str, Any] = {
        "taken_at": TIME + SPACING * i - 20,
        "tip": f"{i:064x}",
        "transactions": weight // 800,
        "vsize": weight // 4,
        "minfee_kvb": 100,
        "relayfee_kvb": 100,
        "basis": "feerate diagram",
        "next_block": NextBlock(min(weight, BLOCK_WEIGHT), 400_000, [900, *RATES]),
        "backlog_weight": weight,
        "border_feerates_kvb": [1000] * int(backlog_blocks),
    }
    return MempoolSnapshot(**{**usual, **changes})


@cache
def waiting(blocks: int, backlog_blocks: float = 3) -> tuple[MempoolSnapshot, ...]:
    """The mempools of `blocks` ordinary blocks in a row."""
    return tuple(snapshot(i, backlog_blocks) for i in range(blocks))


# Flows


def gets(btc: float) -> EntityFlow:
    """So much came from others."""
    sat = round(btc * COIN)
    return EntityFlow(spent=0, received=sat, fee=0, arrived=sat, left=0)


def pays(btc: float, change: float = 5, least: float | None = None) -> EntityFlow:
    """It alone paid so much to others, with `change` BTC back to a label; without any, `least` left it at least."""
    sat, back = round(btc * COIN), round(change * COIN)
    left_least = sat if least is None else round(least * COIN)
    return EntityFlow(sat + back, back, 0, 0, sat, left_least=left_least, payments=1, returned=int(back > 0))


def keeps(btc: float) -> EntityFlow:
    """It moved so much from addresses of its own to others of its own."""
    return EntityFlow(round(btc * COIN), round(btc * COIN), 0, 0, 0)


def unsure(flow: EntityFlow) -> EntityFlow:
    """The same in company of unknown owners: no flow is claimed."""
    return replace(flow, uncertain=True)


def transfer(entities: dict[str, EntityFlow], txid: str = "cd" * 32, **changes: Any) -> Transfer:
    """A payment of two inputs and two outputs between these, and nobody's."""
    value = max(max(flow.spent, flow.received) for flow in entities.values())
    usual: dict[str, Any] = {"pattern": "payment", "inputs": 2, "outputs": 2, "value_in": value, "value_out": value,
                             "fee": 0, "coinbase_value": 0}  # fmt: skip
    return Transfer(txid=txid, entities=entities, **{**usual, **changes})


def flows(now: BlockFacts, *transfers: Transfer, labels: LabelSet = LABELS, **changes: Any) -> BlockFlows:
    """The flows of a block of these transactions, in which 10,000 BTC were spent."""
    sums: dict[str, Counter[str]] = {}
    kinds: dict[str, list[int]] = {}
    for one in transfers:
        for who, flow in one.entities.items():
            of_it = sums.setdefault(who, Counter())
            of_it.update({"uncertain_value": flow.spent or flow.received} if flow.uncertain else flow.amounts())
        for kind, net in _net_by_kind(one, labels).items():
            kinds.setdefault(kind, [0, 0])[net < 0] += abs(net)
    usual: dict[str, Any] = {
        "blockhash": now.blockhash,
        "labels_version": labels.version,
        "value_in": 10_000 * COIN,
        "value_in_labelled": sum(flow.spent for one in transfers for flow in one.entities.values()),
        "value_out": 10_000 * COIN,
        "value_out_labelled": sum(flow.received for one in transfers for flow in one.entities.values()),
        "entities": {who: EntityFlow.of(sums[who]) for who in sorted(sums)},
        "between": [],
        "kinds": dict(sorted(kinds.items())),
        "transfers": sorted(transfers, key=lambda one: (-one.size, one.txid)),
    }
    return BlockFlows(**{**usual, **changes})


def _net_by_kind(one: Transfer, labels: LabelSet) -> Counter[str]:
    """What passes between two of a kind is neither in nor out."""
    nets: Counter[str] = Counter()
    for who, flow in one.entities.items():
        nets[labels.entities[who].kind] += 0 if flow.uncertain else flow.arrived - flow.left
    return nets


def trade(i: int, net: float = 0, who: str = "borealis", change: float = 5) -> BlockFlows:
    """A block in which an exchange pays 2 BTC to customers and gets as much and `net` BTC more, in one transaction
    each."""
    came, went = (2 + net, 2) if net >= 0 else (2, 2 - net)
    one = transfer({who: pays(went, change)}, f"{2 * i:064x}")
    other = transfer({who: gets(came)}, f"{2 * i + 1:064x}")
    return flows(at(i), one, other)


@cache
def trading(blocks: int) -> tuple[BlockFlows, ...]:
    """Flows of ordinary blocks: an exchange whose net flow is -2 to 2 BTC a block."""
    rng = Random(11)
    return tuple(trade(i, rng.randrange(-20, 21) / 10) for i in range(blocks))


# Balances


SCRIPT = "0014" + "5a" * 20
"""A script nobody labels."""


def changed(before: float, after: float, script: str = SCRIPT) -> BalanceChange:
    """What a block did to a script's balance, in BTC."""
    address = address_of(bytes.fromhex(script), NETWORKS["main"])
    return BalanceChange(script, address, round(before * COIN), round(after * COIN), ["fe" * 32])


def balances(i: int, *changes: BalanceChange, **values: Any) -> BlockBalances:
    """Of the block `at(i)`: 2,000 scripts hold two million bitcoins, before these changes or others."""
    usual: dict[str, Any] = {
        "blockhash": at(i).blockhash, "labels_version": LABELS.version, "least": 100 * COIN, "changes": [*changes],
        "holders": 2000, "held": 2_000_000 * COIN, "entities": {},
    }  # fmt: skip
    return BlockBalances(**{**usual, **values})


def stepping(steps: Mapping[int, tuple[float, float]], script: str = SCRIPT) -> tuple[BlockBalances, ...]:
    """Balances of blocks 0 to the last of these steps, each (before, after) in BTC."""
    return tuple(balances(i, *([changed(*steps[i], script)] if i in steps else [])) for i in range(max(steps) + 1))


# What a processor is shown


def rows(
    facts: Iterable[BlockFacts], mempools: Sequence[MempoolSnapshot | None] = (),
    flows: Sequence[BlockFlows | None] = (), balances: Sequence[BlockBalances | None] = (),
) -> list[Past]:  # fmt: skip
    """The past: mempools, flows and balances are those of its last blocks, sums of the second, as a store gives
    them."""
    blocks = list(facts)

    def last(values: Sequence[Any]) -> list[Any]:
        return [*[None] * (len(blocks) - len(values)), *values][-len(blocks) :]

    each = zip(blocks, last(flows), last(mempools), last(balances), strict=True) if blocks else ()
    return [Past(one, moved and moved.sums(), seen, held) for one, moved, seen, held in each]


def context(
    window: Window | Sequence[BlockFacts], now: BlockFacts, labels: LabelSet = LABELS,
    mempools: Sequence[MempoolSnapshot | None] = (), flows: Sequence[BlockFlows | None] = (),
    balances: Sequence[BlockBalances | None] = (),
) -> ProcessingContext:  # fmt: skip
    """`mempools` are those of the window, `flows` and `balances` those of the window and of `now`."""
    past = () if isinstance(window, Window) else rows(window, mempools, flows[:-1], balances[:-1])
    seen = window if isinstance(window, Window) else Window.of(past)
    moved, held = flows[-1] if flows else None, balances[-1] if balances else None
    return ProcessingContext(now, seen, labels, "correlation", moved, held)


async def said(
    processor: SignalProcessor, window: Window | Sequence[BlockFacts], now: BlockFacts,
    mempools: Sequence[MempoolSnapshot | None] = (), flows: Sequence[BlockFlows | None] = (),
    labels: LabelSet = LABELS,
) -> list[Signal]:  # fmt: skip
    """The signals of `now` after `window`; `mempools` and `flows` are those of the window and of `now`."""
    seen = context(window, now, labels, mempools[:-1], flows)
    return await processor.process_block(replace(block(), mempool=mempools[-1] if mempools else None), seen)


async def heard(
    processor: SignalProcessor, blocks: Sequence[BlockFacts], flows: Sequence[BlockFlows | None] = (),
    mempools: Sequence[MempoolSnapshot | None] = (), labels: LabelSet = LABELS,
) -> list[list[Signal]]:  # fmt: skip
    """The signals of each block of a chain, seen after those before it, in one history that grows."""
    history, found = History(), []
    seen = zip(blocks, flows or [None] * len(blocks), mempools or [None] * len(blocks), strict=True)
    for now, moved, mempool in seen:
        shown = ProcessingContext(now, history.window(processor.window_size), labels, "correlation", moved)
        found.append(await processor.process_block(replace(block(), mempool=mempool), shown))
        history.append(Past(now, moved and moved.sums(), mempool))
    return found


async def told(
    processor: SignalProcessor, blocks: Sequence[BlockFacts], flows: Sequence[BlockFlows | None] = (),
    mempools: Sequence[MempoolSnapshot | None] = (),
) -> list[tuple[int, str]]:  # fmt: skip
    """(height, kind) of all signals in a chain."""
    each = await heard(processor, blocks, flows, mempools)
    return [(signal.block_height or 0, signal.kind) for signals in each for signal in signals]


# Cases


@dataclass(frozen=True)
class Case:
    """A block that one kind of signal is about."""

    facts: Sequence[BlockFacts]
    """Of its window."""
    now: BlockFacts
    mempools: Sequence[MempoolSnapshot | None] = ()
    """Of the window and of the block."""
    flows: Sequence[BlockFlows | None] = ()
    balances: Sequence[BlockBalances | None] = ()
    subjects: tuple[str, ...] = ("chain",)
    """What is said about, in order."""
    name: str = ""
    signal_type: str = ""
    kind: str = ""

    @property
    def rows(self) -> list[Past]:
        """Of its window, in a list of their own."""
        return list(self._rows)

    @cached_property
    def _rows(self) -> list[Past]:
        return rows(self.facts, self.mempools[:-1], self.flows[:-1], self.balances[:-1])

    @cached_property
    def window(self) -> Window:
        """One for all who ask, with what is derived of it."""
        return Window.of(self.rows)

    @property
    def block(self) -> BlockData:
        return replace(block(), mempool=self.mempools[-1] if self.mempools else None)

    @property
    def moved(self) -> BlockFlows | None:
        return self.flows[-1] if self.flows else None

    def context(self, window: Window | None = None) -> ProcessingContext:
        """With its own window, or with this one."""
        seen = self.window if window is None else window
        held = self.balances[-1] if self.balances else None
        return ProcessingContext(self.now, seen, LABELS, "correlation", self.moved, held)

    async def said(self, processor: SignalProcessor, window: Window | None = None) -> list[Signal]:
        return await processor.process_block(self.block, self.context(window))


def by(pools: Sequence[str]) -> tuple[BlockFacts, ...]:
    """A chain found by these."""
    return tuple(at(i, pool=pool, pool_name=pool.title()) for i, pool in enumerate(pools))


@cache
def rising_pool() -> tuple[BlockFacts, ...]:
    """1,008 blocks in which Ember finds one of 20, then 200 in which it finds two of five; others find the rest."""
    rng = Random(5)
    chances = [0.05] * 1008 + [0.4] * 200
    return by(["ember" if rng.random() < chance else rng.choice(POOLS) for chance in chances])


FIRST_TOLD = 1051
"""The block of `rising_pool` after which its share is told: found once, and fixed."""


@cache
def growing_pool() -> tuple[BlockFacts, ...]:
    """1,008 blocks of which Ember finds 39 %, then 800 of which it finds half; others find the rest."""
    rng = Random(0)
    return by(["ember" if rng.random() < (0.39 if i < 1008 else 0.5) else rng.choice(POOLS) for i in range(1808)])


FIRST_CONCENTRATED = 1727
"""The first block of `growing_pool` after which more than 40 % of 1,008 are beyond doubt: found once, and fixed."""


def moved(btc: float, **changes: Any) -> dict[str, Any]:
    """A large transfer, as facts list it."""
    usual = {"txid": "ef" * 32, "moved": round(btc * COIN), "change": 0, "fee": 5000, "inputs": 1, "outputs": 2}
    return {**usual, **changes}


DAYS = 11 * 144


def pressing(sign: int) -> Case:
    """Eleven days in which 6.9 BTC net go one way with each block, and a block with 20 that makes it 1,000 a day."""
    each = tuple(trade(i, sign * 6.9) for i in range(DAYS - 1))
    return Case(past(DAYS - 1), at(DAYS - 1), flows=(*each, trade(DAYS - 1, sign * 20)), subjects=(EVERY,))


def single(entities: dict[str, EntityFlow], subject: str, **changes: Any) -> Case:
    """One large transaction after a day in which an exchange's change came back to it."""
    now = at(144)
    return Case(past(144), now, flows=(*trading(144), flows(now, transfer(entities, **changes))), subjects=(subject,))


def flooding(sign: int) -> Case:
    """An ordinary past of an exchange, then five transactions of 60 BTC the same way."""
    now = at(660)
    each = [transfer({"borealis": gets(60) if sign > 0 else pays(60)}, f"{n:064x}") for n in range(5)]
    return Case(past(660), now, flows=(*trading(660), flows(now, *each)), subjects=("borealis", EVERY))


def whale(**changes: Any) -> Case:
    now = at(576, **changes)
    return Case(past(576), now, flows=(flows(now),), subjects=("ef" * 32,))


def holding(*each: BlockBalances | None, subject: str = "") -> Case:
    """A block after as many others as there are balances of."""
    now = at(len(each) - 1)
    return Case(past(len(each) - 1), now, balances=each, subjects=(subject or changed(0, 0).address or "",))


OVERPAID = {"txid": "ab" * 32, "fee": 2 * COIN, "feerate_kvb": 90_000_000}
SOON = ("next_block", "1h")
"""A day ahead there are too few settled cases in 300 blocks."""
MADE: dict[tuple[str, str], Callable[[], Case]] = {
    ("mempool", "fee_spike"): lambda: Case(past(144), at(144, package_feerate_percentiles_kvb=rates(10))),
    ("mempool", "fee_drop"): lambda: Case(past(144), at(144, package_feerate_percentiles_kvb=rates(0.1))),
    ("mempool", "tx_count_record"): lambda: Case(past(144), at(144, txs=501)),
    ("mempool", "payments_resume"): lambda: Case(past(144, txs=1), at(144, txs=4)),
    ("mempool", "fee_overpaid"): lambda: Case(
        past(144), at(144, totalfee=2 * COIN + 380_000, top_fee=OVERPAID), subjects=("ab" * 32,)
    ),
    ("mempool", "congestion"): lambda: Case(past(144), at(144), (*waiting(144), snapshot(144, 30))),
    ("mempool", "mempool_emptied"): lambda: Case(past(144), at(144), (*waiting(144), snapshot(144, 0.5))),
    ("mempool", "purging"): lambda: Case(past(144), at(144), (*waiting(144), snapshot(144, minfee_kvb=2000))),
    ("miner", "halving"): lambda: Case(past(144), at(144, height=1_050_000, subsidy=SUBSIDY // 2)),
    ("miner", "reward_unclaimed"): lambda: Case(past(144), at(144, coinbase_unclaimed=SUBSIDY), subjects=("aster",)),
    ("miner", "empty_block"): lambda: Case(
        past(144), at(144, txs=1, totalfee=0, top_fee=None, weight=1000), subjects=("aster",)
    ),
    ("miner", "pool_share_shift"): lambda: Case(
        rising_pool()[:FIRST_TOLD], rising_pool()[FIRST_TOLD], subjects=("ember",)
    ),
    ("miner", "underfilled_block"): lambda: Case(
        past(144), at(144, weight=BLOCK_WEIGHT // 4), (snapshot(144),), subjects=("aster",)
    ),
    ("miner", "pool_streak"): lambda: Case(
        by([*POOLS * 36, *["aster"] * 6])[:-1], at(149, pool="aster", pool_name="Aster"), subjects=("aster",)
    ),
    ("miner", "hashrate_concentration"): lambda: Case(
        growing_pool()[FIRST_CONCENTRATED - 1080 : FIRST_CONCENTRATED],
        growing_pool()[FIRST_CONCENTRATED],
        subjects=("ember",),
    ),
    ("miner", "miner_distribution"): lambda: single({"aster": pays(60)}, "aster", coinbase_value=9 * COIN),
    ("exchange", "net_inflow"): lambda: flooding(1),
    ("exchange", "net_outflow"): lambda: flooding(-1),
    ("exchange", "large_deposit"): lambda: single({"borealis": gets(150)}, "borealis"),
    ("exchange", "large_withdrawal"): lambda: single({"borealis": pays(150)}, "borealis"),
    ("exchange", "internal_reshuffle"): lambda: single({"borealis": keeps(150)}, "borealis", pattern="internal"),
    ("treasury", "accumulation"): lambda: single({"stratum": gets(50)}, "stratum"),
    ("treasury", "distribution"): lambda: single({"stratum": pays(50)}, "stratum"),
    ("treasury", "internal_reshuffle"): lambda: single({"stratum": keeps(50)}, "stratum", pattern="consolidation"),
    ("whale", "large_transfer"): lambda: whale(large_transfers=[moved(3000)]),
    ("whale", "large_consolidation"): lambda: whale(large_transfers=[moved(3000, inputs=40)]),
    ("whale", "dormant_coins"): lambda: whale(
        large_coins=[{"txid": "ef" * 32, "value": 120 * COIN, "age_blocks": 400_000}]
    ),
    ("whale", "coin_age_spike"): lambda: replace(whale(coin_blocks_destroyed=60_000 * COIN), subjects=("chain",)),
    ("whale", "balance_above"): lambda: holding(balances(0), balances(1, changed(900, 1200))),
    ("whale", "balance_below"): lambda: holding(balances(0), balances(1, changed(1200, 0))),
    ("whale", "balance_gathered"): lambda: holding(*stepping({50: (1000, 1400), 300: (1400, 1800), 576: (1800, 2200)})),
    ("whale", "balance_given"): lambda: holding(*stepping({50: (3000, 2600), 300: (2600, 2200), 576: (2200, 1800)})),
    ("whale", "large_holders_gain"): lambda: holding(
        *map(balances, range(576)), balances(576, held=2_050_000 * COIN), subject="chain"
    ),
    ("whale", "large_holders_loss"): lambda: holding(
        *map(balances, range(576)), balances(576, held=1_950_000 * COIN), subject="chain"
    ),
    ("predictive", "feerate_rise"): lambda: Case(
        past(300), at(300, package_feerate_percentiles_kvb=rates(0.5)), subjects=SOON
    ),
    ("predictive", "feerate_fall"): lambda: Case(
        past(300), at(300, package_feerate_percentiles_kvb=rates(2.5)), subjects=SOON
    ),
    ("predictive", "liquidity_inflow"): lambda: pressing(1),
    ("predictive", "liquidity_outflow"): lambda: pressing(-1),
}
"""For each kind a case, in which nothing else is said."""


def named(signal_type: str, kind: str) -> str:
    """A kind's name; of kinds that two types have, with the type."""
    shared = sum(other == kind for _, other in VOCABULARY) > 1
    return f"{signal_type}/{kind}" if shared else kind


KINDS = tuple(named(*key) for key in MADE)


@cache
def case(name: str) -> Case:
    key = next(key for key in MADE if named(*key) == name)
    return replace(MADE[key](), name=name, signal_type=key[0], kind=key[1])


def processor_of(name: str) -> SignalProcessor:
    """The one that speaks in a case."""
    from utxoiq.processors.discovery import discover

    return next(p for p in discover() if p.signal_type == case(name).signal_type and case(name).kind in p.kinds)


async def signal_of(name: str) -> Signal:
    """The first signal of its case."""
    return (await case(name).said(processor_of(name)))[0]
