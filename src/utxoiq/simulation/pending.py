"""Transactions, and the block they wait in while it is being filled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from utxoiq.chain.hashes import Hash256, double_sha256
from utxoiq.chain.serialize import Coin, Tx, TxInput, tx_bytes
from utxoiq.simulation.plan import Event
from utxoiq.simulation.wallets import DUST, Owned, Payment, Target, fee_of, worth

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

REPLACEABLE = 0xFFFFFFFD


@dataclass(frozen=True, slots=True)
class Signed:
    """A transaction with the coins it spends and its hashes."""

    tx: Tx
    spent: tuple[Coin, ...]
    raw: bytes
    txid: Hash256
    wtxid: Hash256

    @property
    def fee(self) -> int:
        """In satoshis."""
        return sum(coin.value for coin in self.spent) - sum(value for value, _ in self.tx.outputs)


class Paid(NamedTuple):
    """A payment made, and the coin that came back as change, if any."""

    signed: Signed
    change: Owned | None


def sign(tx: Tx, spent: tuple[Coin, ...]) -> Signed:
    """`tx` with its bytes and hashes."""
    raw = tx_bytes(tx)
    wtxid = Hash256(double_sha256(raw))
    has_witness = any(txin.witness for txin in tx.inputs)
    return Signed(tx, spent, raw, tx.txid if has_witness else wtxid, wtxid)


class Pending:
    """A block being filled. Outputs can be spent at once, so the order made is an order in which it is valid."""

    def __init__(self, height: int, feerate: int, rng: Random, events: list[Event]) -> None:
        self.height = height
        self.feerate = feerate
        """What people pay about now, in sat/kvB."""
        self.transactions: list[Signed] = []
        self._rng = rng
        self._events = events

    def bid(self) -> int:
        """What one person offers, in sat/kvB: 0.7 to 1.6 times the usual."""
        return int(self.feerate * (0.7 + 0.9 * self._rng.random()))

    def pay(self, inputs: Sequence[Owned], payments: Sequence[Payment], change: Target | None, rate: int) -> Paid:
        """Spend `inputs`; what is left after the fee at `rate` sat/kvB goes to `change`, or all of it to the miner."""
        outputs = list(payments)
        left = worth(inputs) - sum(payment.value for payment in payments)
        at = -1
        if change is not None:
            left -= fee_of(inputs, [p.target.lock for p in payments] + [change.lock], rate)
            if left >= DUST:
                at = self._rng.randrange(len(outputs) + 1)
                outputs.insert(at, Payment(left, change))
        assert left >= 0
        signed = self._sign(inputs, outputs)
        made = [self._credit(signed.txid, index, payment) for index, payment in enumerate(outputs)]
        return Paid(signed, made[at] if at >= 0 else None)

    def log(self, kind: str, **detail: int | str) -> None:
        """Write an event of this block down."""
        self._events.append(Event(kind, self.height, detail))

    def _sign(self, inputs: Sequence[Owned], outputs: Sequence[Payment]) -> Signed:
        tx = Tx(
            tuple(self._input(owned) for owned in inputs),
            tuple((payment.value, payment.target.lock.script) for payment in outputs),
        )
        signed = sign(tx, tuple(owned.coin for owned in inputs))
        self.transactions.append(signed)
        return signed

    def _input(self, owned: Owned) -> TxInput:
        script, witness = owned.kind.unlock(self._rng)
        return TxInput(owned.txid, owned.vout, script, REPLACEABLE, witness)

    def _credit(self, txid: Hash256, index: int, payment: Payment) -> Owned:
        lock, wallet = payment.target
        owned = Owned(txid, index, Coin(payment.value, lock.script, self.height), lock.kind)
        if wallet is not None:
            wallet.coins.append(owned)
        return owned
