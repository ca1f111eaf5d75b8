"""Transactions, and the block they wait in while it is being filled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from utxoiq.chain.hashes import Hash256, double_sha256
from utxoiq.chain.serialize import Coin, Tx, TxInput, tx_bytes
from utxoiq.simulation.wallets import DUST, Owned, Payment, Target, Wallet, fee_of, worth

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

REPLACEABLE, SETTLED = 0xFFFFFFFD, 0xFFFFFFFE
"""Sequence numbers of what may be replaced (BIP 125), and of what may not."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A transaction with the coins it spends, its hashes and its weight."""

    tx: Tx
    spent: tuple[Coin, ...]
    raw: bytes
    txid: Hash256
    wtxid: Hash256
    weight: int

    @property
    def fee(self) -> int:
        """In satoshis."""
        return sum(coin.value for coin in self.spent) - sum(value for value, _ in self.tx.outputs)


class Deal(NamedTuple):
    """A transaction with everything nobody but its makers knows: whose coins went where."""

    signed: Signed
    inputs: Sequence[Owned]
    outputs: Sequence[Payment]
    joint: bool
    """A CoinJoin."""


class Paid(NamedTuple):
    """A payment made, and the coin that came back as change, if any."""

    signed: Signed
    change: Owned | None


def sign(tx: Tx, spent: tuple[Coin, ...]) -> Signed:
    """`tx` with its bytes, hashes and weight."""
    raw = tx_bytes(tx)
    stripped = tx_bytes(tx, witness=False) if any(txin.witness for txin in tx.inputs) else raw
    wtxid = Hash256(double_sha256(raw))
    txid = wtxid if stripped is raw else Hash256(double_sha256(stripped))
    return Signed(tx, spent, raw, txid, wtxid, 3 * len(stripped) + len(raw))


class Pending:
    """A block being filled. What it makes can be spent from the next block on; only a child that pays for its parent
    comes in the same one."""

    def __init__(self, step: int, height: int, feerate: int, rng: Random) -> None:
        self.step, self.height = step, height
        self.feerate = feerate
        """What people pay about now, in sat/kvB."""
        self.deals: list[Deal] = []
        self.rescued: dict[int, int] = {}
        """Index of a child -> index of the parent it pays for."""
        self._rng = rng
        self._made: list[tuple[Wallet, Owned]] = []

    @property
    def transactions(self) -> list[Signed]:
        """In an order in which they are valid."""
        return [deal.signed for deal in self.deals]

    def bid(self) -> int:
        """What one person offers, in sat/kvB: 0.65 to 1.35 times the usual."""
        return max(2, int(self.feerate * (0.65 + 0.7 * self._rng.random())))

    def pay(
        self, inputs: Sequence[Owned], payments: Sequence[Payment], change: Target | None, rate: int, *,
        joint: bool = False,
    ) -> Paid:  # fmt: skip
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
        self.deals.append(Deal(signed, inputs, outputs, joint))
        made = [self._make(signed.txid, index, payment) for index, payment in enumerate(outputs)]
        return Paid(signed, made[at] if at >= 0 else None)

    def rescue(self, parent: Owned, target: Target, rate: int) -> None:
        """Spend a coin that the last transaction made, so that both are mined."""
        self._made = [(wallet, owned) for wallet, owned in self._made if owned is not parent]
        self.rescued[len(self.deals)] = len(self.deals) - 1
        self.pay([parent], [], target, rate)

    def settle(self) -> None:
        """Hand out what was made: the block is full."""
        for wallet, owned in self._made:
            wallet.coins.append(owned)
        self._made = []

    def _sign(self, inputs: Sequence[Owned], outputs: Sequence[Payment]) -> Signed:
        draw = self._rng.random()
        sequence = REPLACEABLE if draw < 0.6 else SETTLED
        tx = Tx(
            tuple(self._input(owned, sequence) for owned in inputs),
            tuple((payment.value, payment.target.lock.script) for payment in outputs),
        )
        return sign(tx, tuple(owned.coin for owned in inputs))

    def _input(self, owned: Owned, sequence: int) -> TxInput:
        script, witness = owned.kind.unlock(self._rng)
        return TxInput(owned.txid, owned.vout, script, sequence, witness)

    def _make(self, txid: Hash256, index: int, payment: Payment) -> Owned | None:
        lock, owner, wallet = payment.target
        if owner is None:
            return None
        owned = Owned(txid, index, Coin(payment.value, lock.script, self.height), lock.kind, owner)
        if wallet is not None:
            self._made.append((wallet, owned))
        return owned
