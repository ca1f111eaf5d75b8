"""What blocks did to large balances, by a recount from nothing but the blocks; and a keeper led along a chain."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path

from balances.chains import REGTEST, SMALL, Item, Steps, core_run, kernel_chain
from balances.oracle import Recount, outpoints, spendable
from chain.test_kernel_oracle import NEVER_SPENT, P2WSH
from helpers.build import OP_TRUE
from helpers.economy import economy_labels
from helpers.reference import read_block, sha256d
from utxoiq.balances.ledger import Ledger
from utxoiq.chain.address import address_of
from utxoiq.chain.hashes import Hash256
from utxoiq.entities.labels import LabelSet
from utxoiq.entities.records import Entity, Label
from utxoiq.entities.words import script_of_word
from utxoiq.facts.flows import compute_flows
from utxoiq.models import LARGE_HOLDING, MOST_EVIDENCE, BalanceChange, BlockBalances, BlockData, Held
from utxoiq.pipeline.holdings import BalanceKeeper
from utxoiq.units import COIN

SPENDABLE = [script for script in NEVER_SPENT if spendable(script)]
LEAST = COIN
"""What the ledgers of these tests keep scripts from."""


def owner(name: str, *scripts: bytes) -> Entity:
    text = " ".join(f"script:{script.hex()}" for script in scripts)
    return Entity(name, name.title(), "exchange", None, (), None, (Label("made", "high", "2026-01-05", text),))


@cache
def kernel_labels() -> LabelSet:
    """Of the kernel's chain: one who has half of all coins, and one of scripts of many kinds."""
    return LabelSet((owner("open", OP_TRUE), owner("many", *NEVER_SPENT[:4], b"\x00\x14" + bytes(20))), "k1", REGTEST)


@cache
def other_labels() -> LabelSet:
    """Another version, in which one of them owns other scripts."""
    return LabelSet((owner("open", P2WSH), owner("late", *SPENDABLE)), "k2", REGTEST)


CHAINS = {"kernel": (kernel_chain, kernel_labels), "core": (core_run, economy_labels)}


def data_of(item: Item) -> BlockData:
    return BlockData(item.block, item.height, item.spent, None, "test")


@cache
def scripts_of(labels: LabelSet) -> dict[str, list[bytes]]:
    """Entity -> its scripts, from its addresses."""
    return {
        who: sorted({script_of_word(word, labels.network) for word in one.addresses})
        for who, one in labels.entities.items()
    }


def touches(recount: Recount, item: Item) -> dict[bytes, list[str]]:
    """Script -> the transactions of a block that pay it or spend from it, in order; before the recount takes it up."""
    found: dict[bytes, list[str]] = defaultdict(list)
    made: dict[bytes, bytes] = {}
    for t, tx in enumerate(read_block(item.raw) if item.height else ()):
        txid = sha256d(tx.stripped)
        spent = {made.get(o) or recount.coins[o].script for o in (outpoints(tx) if t else ())}
        paid = [script for _, script in tx.outputs]
        made |= {txid + n.to_bytes(4, "little"): script for n, script in enumerate(paid)}
        for script in spent | set(filter(spendable, paid)):
            found[script].append(txid[::-1].hex())
    return found


@dataclass
class Counted:
    """A recount along a chain."""

    chain: Steps
    least: int = LEAST
    now: Recount = field(default_factory=Recount)

    @cached_property
    def _returns(self) -> set[Hash256]:
        return {item.prev for connect, item in self.chain.steps if not connect}

    @cached_property
    def _remembered(self) -> dict[Hash256, Recount]:
        return {}

    def connect(self, item: Item, labels: LabelSet) -> BlockBalances:
        """Take up a block: what a ledger must tell of it."""
        if item.prev in self._returns:
            self._remembered[item.prev] = self.now.copy()
        before, touched = Counter(self.now.held), touches(self.now, item)
        self.now.connect(item.raw, item.height)
        held = self.now.held
        changes = [
            BalanceChange(
                script.hex(), address_of(script, REGTEST), before[script], held[script],
                touched[script][:MOST_EVIDENCE], len(touched[script][MOST_EVIDENCE:]),
            )
            for script in sorted(touched) if max(before[script], held[script]) >= self.least
        ]  # fmt: skip
        large = [sat for sat in held.values() if sat >= max(LARGE_HOLDING, self.least)]
        entities = {
            who: Held(sum(before[one] for one in scripts), sum(held[one] for one in scripts), len(scripts))
            for who, scripts in scripts_of(labels).items()
            if not touched.keys().isdisjoint(scripts)
        }
        return BlockBalances(
            str(item.hash), labels.version, self.least, changes, len(large), sum(large), entities
        )  # fmt: skip

    def disconnect(self, item: Item) -> None:
        self.now = self._remembered[item.prev].copy()


@dataclass
class Led:
    """A keeper led along a chain, beside a recount, as a pipeline leads it."""

    folder: Path
    which: str = "kernel"
    best: dict[int, BlockData] = field(default_factory=dict)
    """What its source has: height -> block."""

    def __post_init__(self) -> None:
        chain, labels = CHAINS[self.which]
        self.chain, self.labels = chain(), labels()
        self.counted = Counted(self.chain)
        if not self.folder.exists():
            Ledger.create(self.folder, REGTEST, kept_from=LEAST).close()
        self.keeper = BalanceKeeper(self.folder, self.best.__getitem__, settings=SMALL)

    async def ask(self, item: Item, labels: LabelSet | None = None) -> BlockBalances | None:
        """Give the keeper a block."""
        data, labels = data_of(item), labels or self.labels
        return await self.keeper.connect(data, compute_flows(data, labels), labels)

    def pass_over(self, connect: bool, item: Item, labels: LabelSet | None = None) -> BlockBalances | None:
        """A step of the source and the recount that the keeper does not see: what it should have told."""
        if not connect:
            del self.best[item.height]
            self.counted.disconnect(item)
            return None
        self.best[item.height] = data_of(item)
        return self.counted.connect(item, labels or self.labels)

    async def take(self, connect: bool, item: Item, labels: LabelSet | None = None) -> BlockBalances | None:
        """A step by both, equal in all."""
        expected = self.pass_over(connect, item, labels)
        if not connect:
            await self.keeper.disconnect(item.hash)
            return None
        found = await self.ask(item, labels)
        assert found == expected
        return found

    async def missed(self, item: Item) -> str:
        """A block of which nothing is known: the reason."""
        self.pass_over(True, item)
        assert await self.ask(item) is None
        reason = self.keeper.status.reason
        assert reason
        assert "\n" not in reason
        return reason

    def reopen(self) -> None:
        """As after a restart."""
        self.keeper.close()
        self.keeper = BalanceKeeper(self.folder, self.best.__getitem__, settings=SMALL)
