"""What passes between the parts. Plain frozen records; importing this imports neither NumPy nor a kernel."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple
from uuid import UUID, uuid5

from utxoiq.units import COIN

if TYPE_CHECKING:
    from utxoiq.chain.block import Block, Spent
    from utxoiq.chain.hashes import Hash256
    from utxoiq.chain.network import Network
    from utxoiq.errors import UtxoiqError

FACTS_VERSION = 3
"""Raised whenever the same bytes would give other facts."""
SINCE_VERSION_2 = ("package_feerate_p5_kvb", "large_coins")

LARGE_COIN, MOST_LARGE_COINS = 100 * COIN, 10
"""Of each block the ten largest spent coins, from 100 BTC up, are told with their age: what a node without coin heights
can still be asked for."""

BLOCK_WEIGHT = 4_000_000 - 8_000
"""What a miner fills with transactions (consensus/consensus.h less policy.h's DEFAULT_BLOCK_RESERVED_WEIGHT)."""

LARGE_HOLDING = 1000 * COIN
"""What a script holds that is told among the largest holders."""
MOST_EVIDENCE = 10
"""Transactions named for one change of a balance."""

NAMESPACE = UUID("5f1c3a52-6f0e-5d1b-9a70-75747869710a")

REAL_NETWORK = "main"
"""Where signals that were right tell how often later ones will be."""

SignalType = Literal["mempool", "exchange", "miner", "whale", "treasury", "predictive"]

Json = Any


def canonical_json(value: Json) -> str:
    """The one spelling of a JSON value that ids and digests are made from."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


@dataclass(frozen=True, slots=True)
class NextBlock:
    """What a miner who took the best of a mempool would mine now."""

    weight: int
    fees: int
    """Sat."""
    feerate_percentiles_kvb: list[int]
    """5, 10, 25, 50, 75, 90 % by weight, in integer sat/kvB, of transactions at the rate of their package; empty for an
    empty mempool."""


@dataclass(frozen=True, slots=True)
class MempoolSnapshot:
    """A node's mempool at one moment. Feerates in integer sat/kvB, sizes in vB, weights in weight units."""

    taken_at: int
    """Wall clock, Unix seconds UTC."""
    tip: str
    """The block it was taken upon, so whose child it foretells."""
    transactions: int
    vsize: int
    minfee_kvb: int
    """What a transaction must pay to be let in: above `relayfee_kvb` while the node throws transactions out."""
    relayfee_kvb: int
    basis: Literal["feerate diagram", "verbose listing"] | None
    """What `next_block` and `border_feerates_kvb` were made from; None where the node offers neither, and they are."""
    next_block: NextBlock | None = None
    backlog_weight: int | None = None
    """Of all that waits."""
    border_feerates_kvb: list[int] | None = None
    """The lowest rate in each of the next blocks that would be full, at most 8."""
    node_estimates_kvb: list[int | None] | None = None
    """What the node itself advises (`estimatesmartfee`) for confirmation within 2, 6 and 144 blocks; None where it has
    no data, or was not asked."""

    @property
    def snapshot_id(self) -> str:
        """Its content's digest."""
        return digest(self.as_dict())

    def as_dict(self) -> dict[str, Json]:
        """Its fields; without the node's estimates where it was not asked, as before they were."""
        values = asdict(self)
        if self.node_estimates_kvb is None:
            del values["node_estimates_kvb"]
        return values

    @property
    def blocks_to_clear(self) -> float | None:
        """How many full blocks the backlog fills."""
        return None if self.backlog_weight is None else self.backlog_weight / BLOCK_WEIGHT

    @classmethod
    def from_dict(cls, values: Mapping[str, Json]) -> MempoolSnapshot:
        """The snapshot that `as_dict` gave. Raises TypeError for unknown or missing fields."""
        next_block = values["next_block"]
        return cls(**{**values, "next_block": None if next_block is None else NextBlock(**next_block)})


@dataclass(frozen=True, slots=True)
class BlockData:
    """A decoded block with what its source knows beside it."""

    block: Block
    height: int | None
    spent: Spent | None
    """None where the source has no spent outputs, or can't tell which they are."""
    prior_times: tuple[int, ...] | None
    """Unix times of the (up to ten) headers before it, oldest first; None where an ancestor is missing."""
    source: str
    mempool: MempoolSnapshot | None = None
    """The last one taken before the block was known, upon its parent; None for history."""

    @property
    def block_hash(self) -> Hash256:
        return self.block.block_hash

    @property
    def prev_hash(self) -> Hash256:
        return self.block.header.prev_hash

    @property
    def network(self) -> Network:
        return self.block.network


@dataclass(frozen=True, slots=True)
class Connected:
    """The best chain grew by this block, whose parent was its tip."""

    block: BlockData


@dataclass(frozen=True, slots=True)
class Disconnected:
    """The tip was taken off the best chain."""

    block_hash: Hash256
    height: int


@dataclass(frozen=True, slots=True)
class BlockFacts:
    """What one block did. Amounts in sat, sizes in bytes, times in Unix seconds UTC; None is unknown, never zero.

    The fields of Bitcoin Core's `getblockstats` come first, under its names and with its values (the coinbase is
    left out of all but `txs`, `outs` and the `utxo_*` fields; feerates are cut to whole sat/vB). Then our own;
    names ending in `_kvb` are integer sat/kvB.
    """

    blockhash: str
    height: int | None
    time: int
    mediantime: int | None
    txs: int
    ins: int
    outs: int
    subsidy: int | None
    total_out: int
    total_size: int
    total_weight: int
    swtxs: int
    swtotal_size: int
    swtotal_weight: int
    avgtxsize: int
    mediantxsize: int
    mintxsize: int
    maxtxsize: int
    utxo_increase: int
    utxo_increase_actual: int | None
    utxo_size_inc: int | None
    utxo_size_inc_actual: int | None
    totalfee: int | None
    avgfee: int | None
    medianfee: int | None
    minfee: int | None
    maxfee: int | None
    avgfeerate: int | None
    minfeerate: int | None
    maxfeerate: int | None
    feerate_percentiles: list[int] | None

    network: str
    previousblockhash: str
    merkleroot: str
    version: int
    bits: str
    size: int
    weight: int
    feerate_percentiles_kvb: list[int] | None
    """10, 25, 50, 75, 90 % by weight, each transaction by itself."""
    package_feerate_p5_kvb: int | None
    """The rate that all but the last 5 % of the block's weight paid, by in-block package."""
    package_feerate_percentiles_kvb: list[int] | None
    """The same with each transaction at the feerate of its in-block package (CPFP)."""
    packages: int | None
    """In-block packages of two transactions and more."""
    top_fee: dict[str, Json] | None
    """The largest fee: txid, fee, feerate_kvb; None where fees are unknown or there are none."""
    output_types: dict[str, list[int]]
    """Script type -> [outputs, sat], the coinbase's included."""
    spent_types: dict[str, list[int]] | None
    coinbase_value: int
    """What the coinbase claims."""
    coinbase_unclaimed: int | None
    """Subsidy + fees - claim: satoshis its miner left to nobody."""
    coinbase_tag: str
    """Readable text of the coinbase script: what a miner chose to write."""
    coinbase_payouts: list[list[Json]]
    """The first ten payouts: [address or script hex, sat]."""
    pool: str | None
    """Entity id of the pool the block is attributed to."""
    pool_name: str | None
    pool_by: str | None
    """`payout_address` or `tag`."""
    coin_blocks_destroyed: int | None
    """Sum of sat x blocks since each spent coin was made."""
    coin_days_destroyed: float | None
    """Sum of BTC x days since each spent coin was made, by block times."""
    oldest_coin: dict[str, Json] | None
    """The oldest coin spent: txid of the spender, value, age_blocks."""
    large_coins: list[dict[str, Json]] | None
    """The ten largest coins spent, from 100 BTC up: txid of the spender, value, age_blocks (None unknown)."""
    large_transfers: list[dict[str, Json]] | None
    """Transactions that moved 100 BTC and more to other scripts than they spent: txid, moved, change, fee, and the
    numbers of inputs and outputs."""
    labels_version: str
    facts_version: int = FACTS_VERSION
    simulated: bool = False

    def as_dict(self) -> dict[str, Json]:
        """All fields in order, as JSON values."""
        return {f.name: getattr(self, f.name) for f in fields(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Json]) -> BlockFacts:
        """The facts `as_dict` gave, also of older versions: what those did not know is None. Raises TypeError for
        unknown or missing fields."""
        return cls(**{**dict.fromkeys(SINCE_VERSION_2), **values})


@dataclass(frozen=True)
class EntityFlow:
    """What one transaction, or a block, did to one entity. Sat; see facts/flows.py for the terms."""

    SUMMED: ClassVar[tuple[str, ...]] = (
        "spent", "received", "fee", "arrived", "left", "left_least", "payments", "returned",
    )  # fmt: skip

    spent: int
    received: int
    fee: int
    arrived: int
    left: int
    uncertain: bool = False
    """Other inputs or outputs of the transaction may be this entity's too: no flow is claimed."""
    uncertain_value: int = 0
    """Of a block: what such transactions moved of it, in none of the amounts."""
    left_least: int = 0
    """What left it even if the largest output that nobody is known to own is its change."""
    payments: int = 0
    """Transactions of two outputs and more that it alone paid for, and that paid somebody else."""
    returned: int = 0
    """Of those, the ones that brought change back to a labelled script."""

    def amounts(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.SUMMED}

    @classmethod
    def of(cls, sums: Mapping[str, int]) -> EntityFlow:
        """From sums of `amounts`, and of `uncertain_value`; what is missing is 0."""
        return cls(**{name: sums.get(name, 0) for name in (*cls.SUMMED, "uncertain_value")})  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Transfer:
    """A transaction that touched labelled entities. Values in sat."""

    txid: str
    pattern: Literal["coinbase", "coinjoin", "internal", "consolidation", "batch", "payment"]
    inputs: int
    outputs: int
    value_in: int
    value_out: int
    fee: int
    entities: dict[str, EntityFlow]
    coinbase_value: int | None = None
    """Of what it spends, the sat that coinbases made; None where the source does not tell which those are."""

    @property
    def size(self) -> int:
        """The largest amount that left, arrived or moved within one entity."""
        return max(max(flow.left, flow.arrived, min(flow.spent, flow.received)) for flow in self.entities.values())


class Part(NamedTuple):
    """What a transaction spends of one script, or pays to one."""

    owner: str | None
    """The entity its label names."""
    key: str
    """Of the script (`facts.kinship.script_key`); empty for small outputs that are told as one."""
    sat: int


@dataclass(frozen=True, slots=True)
class Large:
    """A transaction of a value worth a second look, whoever is labelled in it. Values in sat."""

    txid: str
    inputs: int
    outputs: int
    value_in: int
    value_out: int
    fee: int
    coinbase_value: int | None
    is_joint: bool
    """It looks like a CoinJoin, whoever spends."""
    spent: list[Part]
    made: list[Part]


OF_TRANSFER = tuple(f.name for f in fields(Transfer) if f.name != "entities")


@dataclass(frozen=True)
class BlockFlows:
    """Flows of one block under one label set. The coinbase's outputs are received, but in neither `value_`."""

    blockhash: str
    labels_version: str
    value_in: int
    value_in_labelled: int
    """Of that, from labelled scripts: the rest is of unknown owners."""
    value_out: int
    value_out_labelled: int
    entities: dict[str, EntityFlow]
    between: list[list[Json]]
    """[from, to, sat], `unknown` for nobody's."""
    kinds: dict[str, list[int]]
    """Kind of entity -> [arrived, left]: what crossed the border of all entities of the kind together."""
    transfers: list[Transfer]
    """Largest first."""
    kin: list[list[str]] = field(default_factory=list)
    """[entity or nothing, keys of unlabelled scripts that were spent together, with its own], see facts/kinship.py."""
    met: dict[str, list[str]] = field(default_factory=dict)
    """Entity -> keys of unlabelled scripts that it paid much, or that paid it much."""
    agreed: dict[str, list[int]] = field(default_factory=dict)
    """Entity -> [its labelled scripts that were spent with others of its own, those spent among another's]."""
    singles: list[str] = field(default_factory=list)
    """Entities of which one transaction brought or took LARGE_COIN and more."""
    heirs: list[list[str]] = field(default_factory=list)
    """[key of an unlabelled script that got most of a large transaction, entity or nothing, keys that spent]."""
    large: list[Large] = field(default_factory=list)
    """Of this block only: never stored."""

    @property
    def share(self) -> float | None:
        """The part of the value spent that carries a label, None where nothing was spent."""
        return round(self.value_in_labelled / self.value_in, 6) if self.value_in else None

    def sums(self, most_transfers: int = 0) -> BlockFlows:
        """Without its transfers, but for the largest."""
        return replace(self, transfers=self.transfers[:most_transfers], large=[])

    @cached_property
    def digest(self) -> str:
        """Of all of it. Flows without kin have the digest they had before there was any."""
        plain = {**vars(self), "entities": {who: vars(flow) for who, flow in self.entities.items()}}
        transfers = [
            [*(getattr(one, name) for name in OF_TRANSFER), {who: vars(flow) for who, flow in one.entities.items()}]
            for one in self.transfers
        ]
        del plain["large"]  # block and labels tell it whole
        for name in ("kin", "met", "agreed", "singles", "heirs"):
            if not plain[name]:
                del plain[name]
        return digest({**plain, "transfers": transfers})

    @classmethod
    def from_dict(cls, values: Mapping[str, Json]) -> BlockFlows:
        """The sums of what `asdict` gave. Raises TypeError for unknown or missing fields."""
        entities = {name: EntityFlow(**flow) for name, flow in values["entities"].items()}
        return cls(**{**values, "entities": entities, "transfers": [], "large": []})


class BalanceChange(NamedTuple):
    """What a block did to what one script holds. Sat."""

    script: str
    """Hex."""
    address: str | None
    before: int
    after: int
    txids: list[str]
    """Of the block's transactions that paid it or spent from it, at most MOST_EVIDENCE, in the order of the block."""
    untold: int = 0
    """How many more of these there are."""

    @property
    def transactions(self) -> int:
        """All of the block that paid it or spent from it."""
        return len(self.txids) + self.untold


class Held(NamedTuple):
    """What the labelled scripts of an entity hold together, and how many they are. Sat."""

    before: int
    after: int
    scripts: int


@dataclass(frozen=True)
class BlockBalances:
    """What a block did to large balances, by a ledger of all scripts. Sat; `before` is at its parent."""

    blockhash: str
    labels_version: str
    least: int
    """Changes are of all scripts that held as much before or after."""
    changes: list[BalanceChange]
    """By script."""
    holders: int
    """Scripts that hold LARGE_HOLDING and more after the block."""
    held: int
    """What they hold together."""
    entities: dict[str, Held]
    """Of the entities whose labelled scripts it touched."""

    @cached_property
    def digest(self) -> str:
        """Of all of it."""
        return digest(self.as_dict())

    def as_dict(self) -> dict[str, Json]:
        """Its fields, as JSON values; of changes only what differs from its default, so digests stay what they were."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**plain, "changes": [one if one.untold else one[:-1] for one in self.changes]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Json]) -> BlockBalances:
        """The balances that `as_dict` gave. Raises TypeError for unknown or missing fields."""
        changes = [BalanceChange(*one) for one in values["changes"]]
        return cls(**{**values, "changes": changes, "entities": {k: Held(*v) for k, v in values["entities"].items()}})


@dataclass(frozen=True, slots=True)
class Signal:
    """Something measured, dated, evidenced and unusual in one block. Built by `Signal.derive`, which names it."""

    signal_id: str
    signal_type: SignalType
    kind: str
    subject: str
    """Whom or what it is about: an entity id, a txid, or `chain`."""
    block_height: int | None
    block_hash: str
    confidence: float
    """A probability; `confidence_basis` says of what and on how many cases it rests."""
    confidence_basis: dict[str, Json]
    metadata: dict[str, Json]
    evidence: dict[str, list[str]]
    created_at: int
    """Block time, Unix seconds UTC."""
    model_version: str
    inputs: dict[str, Json]
    """Digest and versions of all the processor saw."""
    simulated: bool = False
    correlation_id: str = ""
    recorded_at: int | None = None
    processed: bool = False
    processed_at: int | None = None

    @classmethod
    def derive(cls, **values: Any) -> Signal:
        """A signal with the id its content gives it: doing the work twice gives the same one."""
        name = [values[k] for k in ("block_hash", "signal_type", "kind", "subject", "model_version")]
        name.append(values["inputs"]["digest"])
        return cls(signal_id=str(uuid5(NAMESPACE, canonical_json(name))), **values)

    def content(self) -> dict[str, Json]:
        """All that replaying the recorded inputs must give again, to the byte."""
        passing = {"correlation_id", "recorded_at", "processed", "processed_at"}
        return {k: v for k, v in asdict(self).items() if k not in passing}


@dataclass(frozen=True, slots=True)
class Outcome:
    """Whether a signal was right, by what docs/signals calls so of its kind."""

    signal_id: str
    right: bool
    by: str
    """How it was resolved, in a few words."""
    height: int
    """Of the block by which it was known: the store's tip when it was recorded."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a method expects of a later block, said before that block. Feerates in integer sat/kvB."""

    method: str
    """`utxoiq`, or one it is measured against: `naive`, `rolling_median`, `ses`, `node`."""
    horizon: Literal["next_block", "1h", "24h"]
    block_hash: str
    """The block after which it was said."""
    target_height: int
    """Whose median package feerate is meant."""
    value_kvb: int
    low_kvb: int | None
    high_kvb: int | None
    """Ends of an interval meant to hold in 80 % of cases; None for methods that give none."""
    cases: int
    """Settled forecasts that the interval rests on."""
    model_version: str

    @property
    def forecast_id(self) -> str:
        """Derived: the same work twice gives the same one."""
        return str(uuid5(NAMESPACE, canonical_json(["forecast", *asdict(self).values()])))


@dataclass(frozen=True, slots=True)
class Insight:
    """What a signal means, in words whose every number, name and date came from the signal."""

    insight_id: str
    signal_id: str
    category: SignalType
    headline: str
    summary: str
    confidence: float
    confidence_explanation: str
    evidence: dict[str, list[Json]]
    """block_heights, transaction_ids."""
    provider: str
    model: str
    prompt_version: str
    grounded: bool
    created_at: int
    """Block time, Unix seconds UTC."""
    simulated: bool = False
    chart_url: str | None = None
    retracted_at: int | None = None


@dataclass(frozen=True, slots=True)
class Cursor:
    """The tip a store has reached."""

    block_hash: str
    height: int


@dataclass(frozen=True, slots=True)
class BlockRecord:
    """All that one block leaves behind, committed together or not at all."""

    block: BlockData
    facts: BlockFacts
    signals: tuple[Signal, ...]
    insights: tuple[Insight, ...]
    cursor: Cursor | None
    """Where the store stands afterwards; None for an island, which moves no tip."""
    correlation_id: str
    audit: dict[str, Json] | None = None
    """What `block.mempool` had foretold, beside what was mined."""
    flows: BlockFlows | None = None
    """None where what the block spent is unknown."""
    forecasts: tuple[Forecast, ...] = ()
    balances: BlockBalances | None = None
    """None without a ledger that stood at the parent."""


@dataclass(frozen=True, slots=True)
class Backfilled:
    """Where a backfill stands once a block is stored; kept with it, so that a kill loses nothing."""

    name: str
    """Of the work: the same range, types, labels and models have the same."""
    signal_types: tuple[str, ...]
    narrate: bool
    next_height: int
    blocks: int
    signals: int


@dataclass(frozen=True, slots=True)
class BackfillResult:
    """What a backfill did; a resumed one counts what was done before."""

    first: int
    last: int
    """Heights, both included."""
    blocks_processed: int
    signals_generated: int
    poorer: int
    """Blocks left as they are: this source knows less of them than the store."""
    seconds: float
    correlation_id: str


@dataclass(frozen=True, slots=True)
class PersistenceResult:
    """How a write went. `written` counts rows that were not there before."""

    success: bool
    written: int = 0
    error: str | None = None
    transient: bool = False
    """On failure: the same write may succeed later."""


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """How a block went. On failure nothing of it was written and the block waits."""

    success: bool
    block_height: int | None
    signals: list[Signal]
    correlation_id: str
    timing_metrics: dict[str, float]
    """signal_generation_ms, signal_persistence_ms, total_duration_ms."""
    insights: list[Insight] = field(default_factory=list)
    forecasts: list[Forecast] = field(default_factory=list)
    error: str | None = None
    failure: UtxoiqError | None = None
    """What was raised, where it was not the store that failed."""
    rows_written: int = 0
    """0 for a block that the store had already."""


def digest(value: Json) -> str:
    """SHA-256 over the canonical JSON, as hex."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
