"""The double's mempool: what it takes in, what it throws out and when, and the sequence numbers of both."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import pbk
from pbk.script import PrecomputedTransactionData

from helpers.node.chainstate import Chainstate
from helpers.node.clusters import Chunk, chunks_of, closure, connected, improves
from helpers.node.wire import Transaction
from utxoiq.chain.serialize import Coin
from utxoiq.units import COIN

MIN_FEERATE = 100
"""The least feerate taken in, and the least more a replacement pays, in sat/kvB."""
MATURITY = 100
EXPIRY = 336 * 3600
CLUSTER_COUNT, CLUSTER_WEIGHT = 64, 404_000
ALL_FLAGS = pbk.ScriptVerificationFlags.ALL


class Rejected(Exception):
    """A transaction the mempool doesn't take, with the node's reason."""


class Listener(Protocol):
    """Who hears what enters and leaves."""

    def transaction_added(self, transaction: Transaction, sequence: int) -> None: ...

    def transaction_removed(self, transaction: Transaction, sequence: int) -> None: ...


@dataclass(frozen=True)
class Pooled:
    """A transaction in the mempool."""

    transaction: Transaction
    fee: int
    time: int
    height: int
    spends_coinbase: bool
    unbroadcast: bool

    @property
    def txid(self) -> bytes:
        return self.transaction.txid

    @property
    def weight(self) -> int:
        return self.transaction.weight

    @property
    def vsize(self) -> int:
        return (self.weight + 3) // 4


class Mempool:
    """Unconfirmed transactions on top of a chainstate."""

    def __init__(self, chainstate: Chainstate, listener: Listener, clock: Callable[[], float]) -> None:
        self.chainstate = chainstate
        self.listener = listener
        self.clock = clock
        self.clear()

    def clear(self) -> None:
        """Begin as after a start of the node."""
        self.entries: dict[bytes, Pooled] = {}
        self.spenders: dict[bytes, bytes] = {}
        self.parents: dict[bytes, set[bytes]] = {}
        self.children: dict[bytes, set[bytes]] = {}
        self.sequence = 1
        self._chunks: list[Chunk] | None = None

    @property
    def chunks(self) -> list[Chunk]:
        """In the order of mining."""
        if self._chunks is None:
            self._chunks = chunks_of(self.entries, self.parents, self.children)
        return self._chunks

    @property
    def ordered(self) -> list[Pooled]:
        return [self.entries[txid] for chunk in self.chunks for txid in chunk.txids]

    def ancestors(self, txid: bytes) -> set[bytes]:
        return closure([txid], self.parents)

    def descendants(self, txids: Iterable[bytes]) -> list[bytes]:
        """With the transactions themselves, by hash."""
        return sorted(closure(txids, self.children))

    def coin(self, outpoint: bytes) -> Coin | None:
        """An output that is unspent on the chain, or made by the mempool."""
        maker = self.entries.get(outpoint[:32])
        index = int.from_bytes(outpoint[32:], "little")
        if maker is not None and index < len(maker.transaction.outputs):
            return Coin(*maker.transaction.outputs[index], self.chainstate.tip.height + 1)
        return self.chainstate.coins.get(outpoint)

    def accept(
        self, transaction: Transaction, *, unbroadcast: bool = True, returning: bool = False, time: int | None = None
    ) -> None:
        """Take a transaction in. Raises Rejected. `returning` is for those whose block was taken off."""
        spent = self._check_inputs(transaction)
        entry = self._pooled(transaction, spent, unbroadcast=unbroadcast, time=time)
        if not returning:
            check_feerate(entry.fee, entry.vsize)
        conflicts = {self.spenders[point] for point in transaction.outpoints if point in self.spenders}
        doomed = self.descendants(conflicts)
        self._check_replacement(entry, doomed)
        self._check_cluster(entry, set(doomed))
        self._check_diagram(entry, set(doomed))
        check_scripts(transaction, spent)
        for txid in doomed:
            self._remove(txid, told=True)
        self._add(entry)
        if not returning:
            self._expire()
            if entry.txid not in self.entries:
                raise Rejected("mempool full")
        self.listener.transaction_added(transaction, self._next_sequence())

    def accept_package(self, transactions: list[Transaction]) -> None:
        """Take in parents that a child pays for: the feerate is that of all of them. Raises Rejected."""
        fees, size, entries = 0, 0, []
        for transaction in transactions:
            entry = self._pooled(transaction, self._check_inputs(transaction), unbroadcast=True, time=None)
            fees, size = fees + entry.fee, size + entry.vsize
            self._add(entry)
            entries.append(entry)
        try:
            check_feerate(fees, size)
        except Rejected:
            for entry in reversed(entries):
                self._forget(entry.txid)
            raise
        self._expire()
        for entry in entries:
            self.listener.transaction_added(entry.transaction, self._next_sequence())

    def block_joins(self, transactions: list[Transaction]) -> None:
        """What a connected block confirms goes without a word; what it contradicts goes with one."""
        for transaction in transactions:
            if transaction.txid in self.entries:
                self._remove(transaction.txid, told=False)
            for outpoint in transaction.outpoints:
                if outpoint in self.spenders:
                    self.remove_with_descendants([self.spenders[outpoint]])

    def blocks_left(self, transactions: list[Transaction], *, resurrect: bool) -> None:
        """What disconnected blocks had confirmed comes back if it can; what depended on it goes if it can't."""
        for transaction in transactions:
            try:
                if not resurrect or transaction.is_coinbase:
                    raise Rejected("not wanted")
                self.accept(transaction, unbroadcast=False, returning=True)
            except Rejected:
                made = [transaction.created(n) for n in range(len(transaction.outputs))]
                own = [transaction.txid] if transaction.txid in self.entries else []
                self.remove_with_descendants(own or [self.spenders[p] for p in made if p in self.spenders])
        self._link_again(transactions)
        self.remove_with_descendants([txid for txid, entry in self.entries.items() if not self._still_valid(entry)])
        self._expire()

    def remove_with_descendants(self, txids: Iterable[bytes]) -> None:
        """Core's order here is that of its graph, which is nearly that of arrival."""
        doomed = closure(txids, self.children)
        for txid in [txid for txid in self.entries if txid in doomed]:
            self._remove(txid, told=True)

    def _still_valid(self, entry: Pooled) -> bool:
        tip = self.chainstate.tip
        if not is_final(entry.transaction, tip.height + 1, tip.median_time):
            return False
        coins = (self.chainstate.coins.get(outpoint) for outpoint in entry.transaction.outpoints)
        heights = (coin.height for coin in coins if coin is not None and coin.is_coinbase)
        return all(tip.height + 1 - height >= MATURITY for height in heights)

    def _check_inputs(self, transaction: Transaction) -> list[Coin]:
        chain = self.chainstate
        if transaction.is_coinbase:
            raise Rejected("coinbase")
        if len(transaction.stripped) < 65:
            raise Rejected("tx-size-small")
        if not is_final(transaction, chain.tip.height + 1, chain.tip.median_time):
            raise Rejected("non-final")
        if transaction.txid in self.entries:
            raise Rejected("txn-already-in-mempool")
        spent = []
        for outpoint in transaction.outpoints:
            coin = self.coin(outpoint)
            if coin is None:
                raise Rejected("bad-txns-inputs-missingorspent")
            if coin.is_coinbase and chain.tip.height + 1 - coin.height < MATURITY:
                depth = chain.tip.height + 1 - coin.height
                raise Rejected(f"bad-txns-premature-spend-of-coinbase, tried to spend coinbase at depth {depth}")
            spent.append(coin)
        return spent

    def _pooled(self, transaction: Transaction, spent: list[Coin], *, unbroadcast: bool, time: int | None) -> Pooled:
        value_in, value_out = sum(coin.value for coin in spent), sum(value for value, _ in transaction.outputs)
        if value_in < value_out:
            raise Rejected(f"bad-txns-in-belowout, value in ({money(value_in)}) < value out ({money(value_out)})")
        return Pooled(
            transaction,
            value_in - value_out,
            int(self.clock()) if time is None else time,
            self.chainstate.tip.height,
            any(coin.is_coinbase for coin in spent),
            unbroadcast,
        )

    def _check_replacement(self, entry: Pooled, doomed: list[bytes]) -> None:
        if not doomed:
            return
        name, fees = entry.txid[::-1].hex(), sum(self.entries[txid].fee for txid in doomed)
        if entry.fee < fees:
            raise Rejected(
                f"insufficient fee, rejecting replacement {name}, less fees than conflicting txs; "
                f"{money(entry.fee)} < {money(fees)}"
            )
        more, least = entry.fee - fees, fee_at(MIN_FEERATE, entry.vsize)
        if more < least:
            raise Rejected(
                f"insufficient fee, rejecting replacement {name}, not enough additional fees to relay; "
                f"{money(more)} < {money(least)}"
            )

    def _check_cluster(self, entry: Pooled, doomed: set[bytes]) -> None:
        parents = {txin.txid for txin in entry.transaction.inputs} & self.entries.keys()
        if parents & doomed:
            raise Rejected("bad-txns-spends-conflicting-tx")
        cluster: set[bytes] = set()
        waiting = set(parents)
        while waiting:
            txid = waiting.pop()
            cluster.add(txid)
            waiting |= (self.parents[txid] | self.children[txid]) - doomed - cluster
        weight = entry.weight + sum(self.entries[txid].weight for txid in cluster)
        if len(cluster) + 1 > CLUSTER_COUNT or weight > CLUSTER_WEIGHT:
            raise Rejected("too-large-cluster")

    def _check_diagram(self, entry: Pooled, doomed: set[bytes]) -> None:
        """A replacement must be better for whoever mines, however much is mined."""
        if not doomed:
            return
        parents = {txin.txid for txin in entry.transaction.inputs} & self.entries.keys()
        touched = connected(parents | doomed, self.parents, self.children)
        kept = {txid: self.entries[txid] for txid in touched - doomed} | {entry.txid: entry}
        up = {txid: self.parents[txid] - doomed for txid in touched - doomed} | {entry.txid: parents}
        down: dict[bytes, set[bytes]] = {txid: set() for txid in kept}
        for txid, above in up.items():
            for parent in above:
                down[parent].add(txid)
        before = chunks_of({txid: self.entries[txid] for txid in touched}, self.parents, self.children)
        if not improves(before, chunks_of(kept, up, down)):
            raise Rejected("replacement-failed, insufficient feerate: does not improve feerate diagram")

    def _add(self, entry: Pooled) -> None:
        txid = entry.txid
        self.entries[txid] = entry
        self.children[txid] = set()
        self.parents[txid] = {txin.txid for txin in entry.transaction.inputs} & self.entries.keys()
        for parent in self.parents[txid]:
            self.children[parent].add(txid)
        for outpoint in entry.transaction.outpoints:
            self.spenders[outpoint] = txid
        self._chunks = None

    def _link_again(self, transactions: list[Transaction]) -> None:
        """What came back from blocks may have children that stayed."""
        for transaction in transactions:
            if transaction.txid in self.entries:
                for index in range(len(transaction.outputs)):
                    child = self.spenders.get(transaction.created(index))
                    if child is not None:
                        self.parents[child].add(transaction.txid)
                        self.children[transaction.txid].add(child)
        self._chunks = None

    def _remove(self, txid: bytes, *, told: bool) -> None:
        sequence = self._next_sequence()
        entry = self._forget(txid)
        if told:
            self.listener.transaction_removed(entry.transaction, sequence)

    def _forget(self, txid: bytes) -> Pooled:
        entry = self.entries.pop(txid)
        for outpoint in entry.transaction.outpoints:
            del self.spenders[outpoint]
        for parent in self.parents.pop(txid):
            self.children[parent].discard(txid)
        for child in self.children.pop(txid):
            self.parents[child].discard(txid)
        self._chunks = None
        return entry

    def _expire(self) -> None:
        oldest = int(self.clock()) - EXPIRY
        for txid in self.descendants(txid for txid, entry in self.entries.items() if entry.time < oldest):
            self._remove(txid, told=True)

    def _next_sequence(self) -> int:
        self.sequence += 1
        return self.sequence - 1


def fee_at(feerate: int, vsize: int) -> int:
    """The fee for `vsize` at a feerate in sat/kvB, rounded up."""
    return -(-feerate * vsize // 1000)


def check_feerate(fee: int, vsize: int) -> None:
    least = fee_at(MIN_FEERATE, vsize)
    if fee < least:
        raise Rejected(f"min relay fee not met, {fee} < {least}")


def money(sat: int) -> str:
    """BTC as Core's FormatMoney has it: at least two decimals."""
    whole, rest = divmod(sat, COIN)
    digits = f"{rest:08d}"
    return f"{whole}.{digits[:2]}{digits[2:].rstrip('0')}"


def is_final(transaction: Transaction, height: int, median_time: int) -> bool:
    if transaction.lock_time == 0:
        return True
    limit = height if transaction.lock_time < 500_000_000 else median_time
    return transaction.lock_time < limit or all(txin.sequence == 0xFFFFFFFF for txin in transaction.inputs)


def check_scripts(transaction: Transaction, spent: list[Coin]) -> None:
    """Every input against the script it spends, by Core's interpreter."""
    spender = pbk.Transaction(transaction.raw)
    outputs = [pbk.TransactionOutput(pbk.ScriptPubkey(coin.script), coin.value) for coin in spent]
    precomputed = PrecomputedTransactionData(spender, outputs)
    for index, coin in enumerate(spent):
        valid, why = False, "Script evaluated without error but finished with a false/empty top stack element"
        try:
            valid = pbk.ScriptPubkey(coin.script).verify(coin.value, spender, precomputed, index, ALL_FLAGS)
        except pbk.ScriptVerifyException as error:
            why = error.status.name
        if not valid:
            raise Rejected(f"mempool-script-verify-flag-failed ({why})")
