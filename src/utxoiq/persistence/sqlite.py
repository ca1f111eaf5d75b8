"""The embedded store over SQLite. One block is one transaction; doing it twice writes nothing twice."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from utxoiq.errors import ConfigError, NotLinked, StoreError, WrongNetwork
from utxoiq.history import Past
from utxoiq.models import (
    Backfilled,
    BlockBalances,
    BlockFacts,
    BlockFlows,
    BlockRecord,
    Cursor,
    Insight,
    MempoolSnapshot,
    Outcome,
    Signal,
    digest,
)
from utxoiq.persistence.database import Database
from utxoiq.persistence.leases import Leases
from utxoiq.persistence.outbox import Outbox
from utxoiq.persistence.outcomes import Outcomes

URL = "sqlite:///"
REORG = "its block was disconnected from the best chain"
SUPERSEDED = "derived again from fuller inputs"
RETURNED = "its block returned to the best chain"
BACKFILLED = "found by a backfill that was asked not to narrate"
BRANCH = """
WITH RECURSIVE branch (block_hash, prev_hash, depth) AS (
    SELECT block_hash, prev_hash, 1 FROM blocks WHERE block_hash = ?
    UNION ALL
    SELECT b.block_hash, b.prev_hash, depth + 1 FROM branch JOIN blocks b ON b.block_hash = branch.prev_hash
    WHERE depth < ?
)
"""
PAST_OF_BRANCH = (
    BRANCH + "SELECT facts, flows, snapshot, balances FROM branch JOIN current_facts USING (block_hash) "  # noqa: S608
    "LEFT JOIN current_flows USING (block_hash) LEFT JOIN block_snapshots USING (block_hash) "
    "LEFT JOIN mempool_snapshots USING (snapshot_id) LEFT JOIN current_balances USING (block_hash) ORDER BY depth DESC"
)
MOST_STORED_TRANSFERS = 20
"""The largest of a block's flows that are stored one by one; its sums are of all."""
JSON_COLUMNS = {"confidence_basis", "metadata", "evidence", "inputs"}
FLAGS = {"simulated", "processed", "grounded"}
NOT_STORED = {"processed", "processed_at", "retracted_at"}


def open_store(url: str, *, must_exist: bool = False) -> SqliteStore:
    """The store at `sqlite:///FILE`. Raises ConfigError for another URL, StoreError where it can't be opened."""
    if not url.startswith(URL) or len(url) == len(URL):
        raise ConfigError(f"store {url!r}: give sqlite:///FILE, or sqlite:////absolute/FILE")
    path = Path(url.removeprefix(URL))
    if must_exist and not path.exists():
        raise StoreError(f"no store at {path}: run `utxoiq scan` first, or give another --db")
    return SqliteStore(path)


def values_of(row: sqlite3.Row) -> dict[str, Any]:
    """A row of signals or insights, JSON and flags read."""

    def value(name: str) -> Any:
        if name in JSON_COLUMNS:
            return json.loads(row[name])
        return bool(row[name]) if name in FLAGS else row[name]

    return {name: value(name) for name in row.keys()}  # noqa: SIM118


def signal_of(row: sqlite3.Row) -> Signal:
    """A row of `signal_state` as a signal."""
    return Signal(**{k: v for k, v in values_of(row).items() if k in Signal.__dataclass_fields__})


class SqliteStore:
    """One network's blocks, facts, signals and insights."""

    def __init__(self, path: Path) -> None:
        """Open or create. Raises StoreError for a file that is no such store, or of a newer version."""
        self.database = Database(path)
        self.leases, self.outbox = Leases(self.database), Outbox(self.database)
        self.outcomes = Outcomes(self.database)

    def close(self) -> None:
        """Let go of the file."""
        self.database.close()

    def __enter__(self) -> SqliteStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def network(self) -> str | None:
        """The network this store is bound to, None while it is empty."""
        name: str | None = self.database.value("SELECT value FROM meta WHERE key = 'network'")
        return name

    def cursor(self) -> Cursor | None:
        """The tip, None while there is none."""
        rows = self.database.query("SELECT block_hash, height FROM cursor")
        return Cursor(*rows[0]) if rows else None

    def state(self, block_hash: str) -> str | None:
        """`connected`, `disconnected`, `island`, or None for a block never seen."""
        name: str | None = self.database.value("SELECT state FROM block_state WHERE block_hash = ?", block_hash)
        return name

    def window(self, block_hash: str, size: int) -> list[Past]:
        """Up to `size` blocks ending with `block_hash`, linked by parent, oldest first, without a gap."""
        if size <= 0:
            return []
        return [
            Past(
                BlockFacts.from_dict(json.loads(facts)),
                None if flows is None else BlockFlows.from_dict(json.loads(flows)),
                None if snapshot is None else MempoolSnapshot.from_dict(json.loads(snapshot)),
                None if balances is None else BlockBalances.from_dict(json.loads(balances)),
            )
            for facts, flows, snapshot, balances in self.database.query(PAST_OF_BRANCH, block_hash, size)
        ]

    def mempool_of(self, block_hash: str) -> MempoolSnapshot | None:
        """What a block was mined from, None where that was not seen."""
        text = self.database.value(
            "SELECT snapshot FROM block_snapshots JOIN mempool_snapshots USING (snapshot_id) WHERE block_hash = ?",
            block_hash,
        )
        return None if text is None else MempoolSnapshot.from_dict(json.loads(text))

    def balances_of(self, block_hash: str) -> BlockBalances | None:
        """What a block did to large balances, None where that is not known."""
        text = self.database.value("SELECT balances FROM current_balances WHERE block_hash = ?", block_hash)
        return None if text is None else BlockBalances.from_dict(json.loads(text))

    def ancestors(self, block_hash: str) -> Iterator[tuple[str, bytes]]:
        """(hash, header) of a stored block and of those below it, downwards, as far as they are linked."""
        while True:
            rows = self.database.query("SELECT prev_hash, header FROM blocks WHERE block_hash = ?", block_hash)
            if not rows:
                return
            yield block_hash, rows[0]["header"]
            block_hash = rows[0]["prev_hash"]

    def stale_signals(self, since: int) -> tuple[int, int | None]:
        """Signals that hold, are not narrated, and were recorded before `since` (Unix seconds): how many, and when the
        first of them was."""
        sql = "SELECT count(*), min(recorded_at) FROM current_signals WHERE NOT processed AND recorded_at < ?"
        count, first = self.database.query(sql, since)[0]
        return count, first

    def signals_with_flows(self) -> Iterator[tuple[Signal, BlockFlows | None]]:
        """All signals that hold, oldest first, each with what labelled entities did in its block."""
        rows = self.database.query(
            "SELECT s.*, f.flows FROM current_signals s LEFT JOIN current_flows f USING (block_hash) "
            "ORDER BY s.block_height, s.signal_id"
        )
        for row in rows:
            yield signal_of(row), None if row["flows"] is None else BlockFlows.from_dict(json.loads(row["flows"]))

    # Writing

    def connect(self, record: BlockRecord) -> int:
        """Store a block and all it led to, in one transaction: the number of rows written.

        A block that is there already, in the same standing, writes nothing. Raises WrongNetwork, NotLinked for a
        block whose parent is not the tip (islands, with `cursor` None, have none), StoreError.
        """
        facts, at = record.facts, int(time.time())
        standing = "connected" if record.cursor else "island"
        with self.database.transaction():
            before = self.state(facts.blockhash)
            if before == standing or (before is not None and standing == "island"):
                self._pass(record)
                return 0
            self._bind(facts.network)
            if record.cursor:
                self._advance(record.cursor, facts.previousblockhash)
            rows = self._write_block(record, at) + self._write_audit(record, at) + self._write_found(record, at)
            rows += self._event("block_events", {"block_hash": facts.blockhash}, standing, record.correlation_id, at)
            if record.cursor:
                self._set_cursor(record.cursor)
        return rows

    def fill(self, record: BlockRecord, work: Backfilled) -> int:
        """Store a block of the best chain where the store does not stand, or more of one it has: the number of rows
        written. The tip stays; of what it said before, only signals of the types derived are superseded. `work` is
        where the backfill stands afterwards.

        Raises WrongNetwork, NotLinked where another block of this height holds, StoreError.
        """
        facts, at = record.facts, int(time.time())
        with self.database.transaction():
            self._bind(facts.network)
            known = self.state(facts.blockhash) == "connected"
            rival = self.connected_at(facts.height)
            if rival not in (None, facts.blockhash):
                raise NotLinked(f"block {facts.blockhash} can't be filled in: at height {facts.height} stands {rival}")
            if not known:
                self._check_place(facts)
            rows = self._write_block(record, at)
            if known and self._is_damaged(facts.blockhash):
                rows += self._write_facts(facts, at, always=True)
            rows += self._write_found(record, at, work.signal_types)
            if not work.narrate:
                rows += self._skip(record, at)
            if not known:
                told = {"block_hash": facts.blockhash}
                rows += self._event("block_events", told, "connected", record.correlation_id, at)
            self._mark(work)
        return rows

    def _check_place(self, facts: BlockFacts) -> None:
        """Raise NotLinked for a block above the tip, or that its neighbours in the store do not link to."""
        tip, height = self.cursor(), facts.height or 0
        if tip is not None and height > tip.height:
            raise NotLinked(f"block {facts.blockhash} can't be filled in: the store's tip is at height {tip.height}")
        below = self.connected_at(height - 1)
        above = self.database.value(
            "SELECT prev_hash FROM block_state WHERE height = ? AND state = 'connected'", height + 1
        )
        if below not in (None, facts.previousblockhash) or above not in (None, facts.blockhash):
            raise NotLinked(f"block {facts.blockhash} can't be filled in: height {height} of the store is another's")

    def _is_damaged(self, block_hash: str) -> bool:
        """Whether the facts that count are not those their digest was made of."""
        rows = self.database.query("SELECT digest, facts FROM current_facts WHERE block_hash = ?", block_hash)
        return bool(rows) and digest(json.loads(rows[0]["facts"])) != rows[0]["digest"]

    def backfilled(self, name: str) -> tuple[int, int, int] | None:
        """Where a backfill stands: next height, blocks and signals so far; None before it began. Raises StoreError."""
        rows = self.database.query("SELECT next_height, blocks, signals FROM backfills WHERE name = ?", name)
        return tuple(rows[0]) if rows else None

    def _mark(self, work: Backfilled) -> None:
        self.database.execute(
            "INSERT OR REPLACE INTO backfills VALUES (?, ?, ?, ?)",
            work.name, work.next_height, work.blocks, work.signals,
        )  # fmt: skip

    def _skip(self, record: BlockRecord, at: int) -> int:
        """Mark signals that nobody is to narrate."""
        told = {"event": "skipped", "reason": BACKFILLED, "correlation_id": record.correlation_id, "recorded_at": at}
        new = [
            signal.signal_id
            for signal in record.signals
            if not self.database.value("SELECT processed FROM signal_state WHERE signal_id = ?", signal.signal_id)
        ]
        return sum(self.database.insert("narration_events", {"signal_id": name, **told}) for name in new)

    def connected_at(self, height: int | None) -> str | None:
        """The hash of the block of the best chain at a height, None where the store has none."""
        name: str | None = self.database.value(
            "SELECT block_hash FROM block_state WHERE height = ? AND state = 'connected'", height
        )
        return name

    def connected_range(self) -> tuple[int, int] | None:
        """The lowest and the highest connected block, None where there is none. Raises StoreError."""
        rows = self.database.query("SELECT min(height), max(height) FROM block_state WHERE state = 'connected'")
        return None if rows[0][0] is None else tuple(rows[0])

    def _write_found(self, record: BlockRecord, at: int, signal_types: Collection[str] | None = None) -> int:
        """All but the block itself."""
        rows = self._write_flows(record.flows, at) + self._write_balances(record.balances, at)
        rows += self._write_forecasts(record, at)
        rows += self._append("signals", "signal_id", record.signals, record.correlation_id, at)
        rows += self._append("insights", "insight_id", record.insights, record.correlation_id, at)
        return rows + self._supersede(record, at, signal_types)

    def disconnect(self, block_hash: str, correlation_id: str) -> int:
        """Take the tip off the chain and retract what it said, with the reason: the number of rows written.

        Raises NotLinked where `block_hash` is not the tip, StoreError.
        """
        at = int(time.time())
        with self.database.transaction():
            tip = self.cursor()
            if tip is None or tip.block_hash != block_hash:
                raise NotLinked(
                    f"block {block_hash} can't be disconnected: the tip is {tip.block_hash if tip else 'none'}"
                )
            rows = 0
            for row in self.database.query("SELECT signal_id FROM current_signals WHERE block_hash = ?", block_hash):
                rows += self._retract(row["signal_id"], REORG, None, correlation_id, at)
            rows += self._event("block_events", {"block_hash": block_hash}, "disconnected", correlation_id, at)
            parent = self.database.query(
                "SELECT p.block_hash, p.height, p.state FROM blocks b JOIN block_state p ON p.block_hash = b.prev_hash "
                "WHERE b.block_hash = ?",
                block_hash,
            )
            linked = parent and parent[0]["state"] == "connected"
            self._set_cursor(Cursor(parent[0]["block_hash"], parent[0]["height"]) if linked else None)
        return rows

    def persist_signals(self, signals: Sequence[Signal], correlation_id: str) -> int:
        """Store signals of known blocks in one batch: the number of rows written. Those of a block that is no longer on
        the chain are retracted at once. Raises StoreError."""
        at, rows = int(time.time()), 0
        with self.database.transaction():
            for signal in signals:
                if self.state(signal.block_hash) != "disconnected":
                    rows += self._append("signals", "signal_id", [signal], correlation_id, at)
                elif self._insert("signals", signal, at):
                    rows += 1 + self._retract(signal.signal_id, REORG, None, correlation_id, at)
        return rows

    def supersede(
        self,
        signal_id: str,
        successor: Signal | None,
        insights: Sequence[Insight],
        reason: str,
        correlation_id: str,
        outcome: Outcome | None = None,
    ) -> int:
        """Retract a signal, and store what takes its place, if anything does, with what it means; and its `outcome`,
        where this tells it: the number of rows written. One that is said just the same is not retracted. Raises
        StoreError."""
        at, rows = int(time.time()), 0
        with self.database.transaction():
            rows += self.outcomes.write([outcome]) if outcome else 0
            if successor is not None and successor.signal_id == signal_id:
                return rows
            if successor is not None:
                rows += self._append("signals", "signal_id", [successor], correlation_id, at)
                rows += self._append("insights", "insight_id", insights, correlation_id, at)
            if self._last_event("signals", "signal_id", signal_id) != "retracted":
                name = successor.signal_id if successor else None
                rows += self._retract(signal_id, reason, name, correlation_id, at)
        return rows

    def restate(self, rows: Iterable[tuple[BlockFacts, BlockFlows | None]]) -> int:
        """Store the facts and flows of known blocks as other labels tell them: the number of blocks of which something
        was new. Earlier rows stay; the newest counts. Raises StoreError."""
        at, blocks = int(time.time()), 0
        with self.database.transaction():
            for facts, flows in rows:
                blocks += bool(self._write_facts(facts, at) + self._write_flows(flows, at))
            if blocks:
                self.database.execute("DELETE FROM undecided")  # what was unknown of the past may be known now
        return blocks

    def add_snapshot(self, snapshot: MempoolSnapshot) -> int:
        """Keep a mempool snapshot: 1, or 0 for one kept before. Raises StoreError."""
        with self.database.transaction():
            return self._write_snapshot(snapshot)

    def forget_snapshots(self, before: int) -> int:
        """Drop mempool snapshots taken before `before` (Unix seconds) that no block was mined from: how many. Raises
        StoreError."""
        with self.database.transaction():
            return self.database.execute(
                "DELETE FROM mempool_snapshots WHERE taken_at < ? AND snapshot_id NOT IN "
                "(SELECT snapshot_id FROM block_snapshots)",
                before,
            )

    def add_settings(self, event: str, settings: dict[str, Any], changes: list[Any], reason: str) -> None:
        """Remember that settings were `applied` or `refused`, and what changed. Raises StoreError."""
        row = {"event": event, "digest": digest(settings), "settings": settings, "changes": changes, "reason": reason}
        with self.database.transaction():
            self.database.insert("settings_events", {**row, "recorded_at": int(time.time())})

    def _bind(self, network: str) -> None:
        self.database.insert("meta", {"key": "network", "value": network})
        if self.network != network:
            raise WrongNetwork(
                f"{self.database.path} holds {self.network}, not {network}: give each network its own --db"
            )

    def _advance(self, cursor: Cursor, prev_hash: str) -> None:
        tip = self.cursor()
        if tip is not None and tip.block_hash != prev_hash:
            raise NotLinked(f"block {cursor.block_hash} does not follow the stored tip {tip.block_hash}")

    def _pass(self, record: BlockRecord) -> None:
        """The tip moves over a block that was filled in before it came."""
        tip = self.cursor()
        if record.cursor and (tip is None or tip.block_hash == record.facts.previousblockhash):
            self._set_cursor(record.cursor)

    def _set_cursor(self, cursor: Cursor | None) -> None:
        self.database.execute("DELETE FROM cursor")
        if cursor:
            self.database.insert("cursor", {"one": 1, "block_hash": cursor.block_hash, "height": cursor.height})

    def _write_block(self, record: BlockRecord, at: int) -> int:
        facts = record.facts
        block = {
            "block_hash": facts.blockhash,
            "height": facts.height,
            "prev_hash": facts.previousblockhash,
            "time": facts.time,
            "header": record.block.block.raw[:80].tobytes(),
            "source": record.block.source,
            "simulated": facts.simulated,
            "recorded_at": at,
        }
        return self.database.insert("blocks", block) + self._write_facts(facts, at)

    def _write_facts(self, facts: BlockFacts, at: int, *, always: bool = False) -> int:
        values = facts.as_dict()
        stored = {
            "block_hash": facts.blockhash,
            "digest": digest(values),
            "facts_version": facts.facts_version,
            "labels_version": facts.labels_version,
            "facts": json.dumps(values, ensure_ascii=False, separators=(",", ":")),
            "recorded_at": at,
        }
        latest = self.database.value("SELECT digest FROM current_facts WHERE block_hash = ?", facts.blockhash)
        return self.database.insert("facts", stored) if always or stored["digest"] != latest else 0

    def _write_flows(self, flows: BlockFlows | None, at: int) -> int:
        if flows is None:
            return 0
        return self._write_changed("flows", flows, lambda: asdict(flows.sums(MOST_STORED_TRANSFERS)), at)

    def _write_balances(self, balances: BlockBalances | None, at: int) -> int:
        return self._write_changed("balances", balances, balances.as_dict, at) if balances else 0

    def _write_changed(
        self, table: str, found: BlockFlows | BlockBalances, values: Callable[[], dict[str, Any]], at: int
    ) -> int:
        """Append what is known of a block, unless just that counts already."""
        latest = self.database.value(f"SELECT digest FROM current_{table} WHERE block_hash = ?", found.blockhash)  # noqa: S608
        if latest == found.digest:
            return 0
        row = {"block_hash": found.blockhash, "digest": found.digest, "labels_version": found.labels_version}
        return self.database.insert(table, {**row, table: values(), "recorded_at": at})

    def _write_forecasts(self, record: BlockRecord, at: int) -> int:
        told = {"correlation_id": record.correlation_id, "recorded_at": at}
        rows = [{"forecast_id": one.forecast_id, **asdict(one), **told} for one in record.forecasts]
        return sum(self.database.insert("forecasts", row) for row in rows)

    def _write_audit(self, record: BlockRecord, at: int) -> int:
        snapshot = record.block.mempool
        if snapshot is None:
            return 0
        row = {"block_hash": record.facts.blockhash, "snapshot_id": snapshot.snapshot_id, "audit": record.audit}
        return self._write_snapshot(snapshot) + self.database.insert("block_snapshots", {**row, "recorded_at": at})

    def _write_snapshot(self, snapshot: MempoolSnapshot) -> int:
        row = {"snapshot_id": snapshot.snapshot_id, "taken_at": snapshot.taken_at, "tip": snapshot.tip}
        return self.database.insert("mempool_snapshots", {**row, "snapshot": snapshot.as_dict()})

    def _event(self, table: str, row: dict[str, Any], event: str, correlation_id: str, at: int) -> int:
        return self.database.insert(table, {**row, "event": event, "correlation_id": correlation_id, "recorded_at": at})

    def _insert(self, table: str, item: Signal | Insight, at: int) -> int:
        values = {f.name: getattr(item, f.name) for f in fields(item) if f.name not in NOT_STORED}
        return self.database.insert(table, {**values, "recorded_at": at})

    def _append(
        self, table: str, key: str, items: Sequence[Signal] | Sequence[Insight], correlation_id: str, at: int
    ) -> int:
        """Insert what is new; reinstate what was retracted and is said again."""
        return sum(
            self._insert(table, item, at) or self._reinstate(table, key, getattr(item, key), correlation_id, at)
            for item in items
        )

    def _reinstate(self, table: str, key: str, name: str, correlation_id: str, at: int) -> int:
        """A signal with the words found for it, which need not be found again."""
        if self._last_event(table, key, name) != "retracted":
            return 0
        rows = self._event(f"{table[:-1]}_events", {key: name, "reason": RETURNED}, "reinstated", correlation_id, at)
        if table == "signals":
            for row in self.database.query("SELECT insight_id FROM insights WHERE signal_id = ?", name):
                rows += self._reinstate("insights", "insight_id", row["insight_id"], correlation_id, at)
        return rows

    def _last_event(self, table: str, key: str, name: str) -> str | None:
        events = f"{table[:-1]}_events"
        sql = f"SELECT event FROM {events} WHERE {key} = ? ORDER BY seq DESC LIMIT 1"  # noqa: S608
        event: str | None = self.database.value(sql, name)
        return event

    def _supersede(self, record: BlockRecord, at: int, signal_types: Collection[str] | None) -> int:
        """Retract what this block said before and does not say now, naming what takes its place."""
        now = {s.signal_id for s in record.signals}
        successors = {(s.signal_type, s.kind, s.subject): s.signal_id for s in record.signals}
        rows, block_hash = 0, record.facts.blockhash
        for old in self.database.query("SELECT * FROM current_signals WHERE block_hash = ?", block_hash):
            concerned = signal_types is None or old["signal_type"] in signal_types
            if concerned and old["signal_id"] not in now:
                successor = successors.get((old["signal_type"], old["kind"], old["subject"]))
                rows += self._retract(old["signal_id"], SUPERSEDED, successor, record.correlation_id, at)
        return rows

    def _retract(self, signal_id: str, reason: str, successor: str | None, correlation_id: str, at: int) -> int:
        row = {"signal_id": signal_id, "reason": reason, "superseded_by": successor}
        rows = self._event("signal_events", row, "retracted", correlation_id, at)
        for insight in self.database.query("SELECT insight_id FROM current_insights WHERE signal_id = ?", signal_id):
            told = {"insight_id": insight["insight_id"], "reason": reason}
            rows += self._event("insight_events", told, "retracted", correlation_id, at)
        return rows
