"""A second opinion: an unspent-output set in plain dicts, by a reader of its own, that knows nothing of undo."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass, field

from helpers.reference import Reader, RefTx, read_block, sha256d
from utxoiq.balances.ledger import Ledger
from utxoiq.balances.records import Balance
from utxoiq.chain.serialize import Coin

NOTHING = Balance(0, None, None)


def outpoints(tx: RefTx) -> list[bytes]:
    """What a transaction spends: txid and index, 36 bytes each."""
    reader = Reader(tx.stripped)
    reader.take(4)
    spent = []
    for _ in range(reader.compact_size()):
        spent.append(reader.take(36))
        reader.take(reader.compact_size() + 4)
    return spent


def spendable(script: bytes) -> bool:
    return not script.startswith(b"\x6a") and len(script) <= 10_000


@dataclass
class Recount:
    """All coins after some blocks of one branch, and since when each script has held some."""

    height: int = -1
    coins: dict[bytes, Coin] = field(default_factory=dict)
    seen: dict[bytes, tuple[int, int]] = field(default_factory=dict)
    held: Counter[bytes] = field(default_factory=Counter)
    ever: set[bytes] = field(default_factory=set)

    def connect(self, raw: bytes, height: int) -> set[bytes]:
        """Take up a block; gives the scripts it paid or spent from."""
        self.height, touched = height, set()
        for t, tx in enumerate(read_block(raw)):
            for outpoint in outpoints(tx) if t else ():
                coin = self.coins.pop(outpoint)
                self.held[coin.script] -= coin.value
                touched.add(coin.script)
            for n, (value, script) in enumerate(tx.outputs if height else ()):
                if spendable(script):
                    self.coins[sha256d(tx.stripped) + n.to_bytes(4, "little")] = Coin(value, script, height, t == 0)
                    self.held[script] += value
                    touched.add(script)
        for script in touched:
            if self.held[script] == 0:
                self.seen.pop(script, None)
            else:
                self.seen[script] = (self.seen.get(script, (height,))[0], height)
        self.ever |= touched
        return touched

    def copy(self) -> Recount:
        return Recount(self.height, dict(self.coins), dict(self.seen), Counter(self.held), set(self.ever))

    def balance(self, script: bytes) -> Balance:
        return Balance(self.held[script], *self.seen[script]) if self.held[script] else NOTHING

    def from_coins(self) -> dict[bytes, int]:
        """Balances added up from nothing but the coins."""
        sums: dict[bytes, int] = defaultdict(int)
        for coin in self.coins.values():
            sums[coin.script] += coin.value
        return {script: sat for script, sat in sums.items() if sat}


def assert_equal(ledger: Ledger, recount: Recount, ever: set[bytes], *, heights: bool = True) -> None:
    """Every script ever seen on any branch has the balance of a recount, and together they are all there is."""
    scripts = sorted(ever)
    expected = [recount.balance(script) for script in scripts]
    assert {script: b.sat for script, b in zip(scripts, expected, strict=True) if b.sat} == recount.from_coins()
    found = ledger.balances(scripts)
    if heights:
        assert found == expected
    assert [balance and balance.sat for balance in found] == [balance.sat for balance in expected]
    totals = ledger.totals()
    assert (totals.scripts, totals.sat) == (len(recount.from_coins()), sum(recount.from_coins().values()))
