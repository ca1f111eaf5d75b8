"""The schema of the SQLite store. Rows are only appended; views give what holds now. Working state are the cursor,
leases, where backfills stand, signals whose outcome the blocks after them did not tell, the outbox with how far it was
shipped, and mempool snapshots that no block was mined from, which are dropped after some weeks."""

from __future__ import annotations

import re

APPLICATION_ID = 0x7574786F  # "utxo"
SCHEMA_VERSION = 6

WITHDRAWN = "the labels it rests on were withdrawn or changed"
UNDER_NEW_LABELS = "derived again under other labels"
"""Reasons of retractions by which a signal is judged: its outcome counts, though it no longer holds."""

TABLES = """
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;

CREATE TABLE IF NOT EXISTS cursor (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    block_hash TEXT NOT NULL REFERENCES blocks,
    height INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS blocks (
    block_hash TEXT PRIMARY KEY,
    height INTEGER,
    prev_hash TEXT NOT NULL,
    time INTEGER NOT NULL,
    header BLOB NOT NULL CHECK (length(header) = 80),
    source TEXT NOT NULL,
    simulated INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS blocks_by_height ON blocks (height);

CREATE TABLE IF NOT EXISTS block_events (
    seq INTEGER PRIMARY KEY,
    block_hash TEXT NOT NULL REFERENCES blocks,
    event TEXT NOT NULL CHECK (event IN ('connected', 'disconnected', 'island')),
    correlation_id TEXT NOT NULL,
    recorded_at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS block_events_by_block ON block_events (block_hash, seq);

CREATE TABLE IF NOT EXISTS facts (
    seq INTEGER PRIMARY KEY,
    block_hash TEXT NOT NULL REFERENCES blocks,
    digest TEXT NOT NULL,
    facts_version INTEGER NOT NULL,
    labels_version TEXT NOT NULL,
    facts TEXT NOT NULL CHECK (json_valid(facts)),
    recorded_at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS facts_by_block ON facts (block_hash, seq);

CREATE TABLE IF NOT EXISTS flows (
    seq INTEGER PRIMARY KEY,
    block_hash TEXT NOT NULL REFERENCES blocks,
    digest TEXT NOT NULL,
    labels_version TEXT NOT NULL,
    flows TEXT NOT NULL CHECK (json_valid(flows)),
    recorded_at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS flows_by_block ON flows (block_hash, seq);

CREATE TABLE IF NOT EXISTS balances (
    seq INTEGER PRIMARY KEY,
    block_hash TEXT NOT NULL REFERENCES blocks,
    digest TEXT NOT NULL,
    labels_version TEXT NOT NULL,
    balances TEXT NOT NULL CHECK (json_valid(balances)),
    recorded_at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS balances_by_block ON balances (block_hash, seq);

CREATE TABLE IF NOT EXISTS forecasts (
    forecast_id TEXT PRIMARY KEY,
    block_hash TEXT NOT NULL REFERENCES blocks,
    method TEXT NOT NULL,
    horizon TEXT NOT NULL,
    target_height INTEGER NOT NULL,
    value_kvb INTEGER NOT NULL,
    low_kvb INTEGER,
    high_kvb INTEGER,
    cases INTEGER NOT NULL,
    model_version TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    recorded_at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS forecasts_by_target ON forecasts (target_height);
CREATE INDEX IF NOT EXISTS forecasts_by_block ON forecasts (block_hash);

CREATE TABLE IF NOT EXISTS signals (
    signal_id TEXT PRIMARY KEY,
    signal_type TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    block_height INTEGER,
    block_hash TEXT NOT NULL REFERENCES blocks,
    confidence REAL NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    confidence_basis TEXT NOT NULL CHECK (json_valid(confidence_basis)),
    metadata TEXT NOT NULL CHECK (json_valid(metadata)),
    evidence TEXT NOT NULL CHECK (json_valid(evidence)),
    created_at INTEGER NOT NULL,
    model_version TEXT NOT NULL,
    inputs TEXT NOT NULL CHECK (json_valid(inputs)),
    simulated INTEGER NOT NULL,
    correlation_id TEXT NOT NULL,
    recorded_at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS signals_by_block ON signals (block_hash);
CREATE INDEX IF NOT EXISTS signals_by_time ON signals (created_at);
CREATE INDEX IF NOT EXISTS signals_by_kind ON signals (model_version, kind, block_height);

CREATE TABLE IF NOT EXISTS signal_events (
    seq INTEGER PRIMARY KEY,
    signal_id TEXT NOT NULL REFERENCES signals,
    event TEXT NOT NULL CHECK (event IN ('retracted', 'reinstated')),
    reason TEXT NOT NULL,
    superseded_by TEXT REFERENCES signals,
    correlation_id TEXT NOT NULL,
    recorded_at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS signal_events_by_signal ON signal_events (signal_id, seq);

CREATE TABLE IF NOT EXISTS outcomes (
    signal_id TEXT PRIMARY KEY REFERENCES signals,
    was_right INTEGER NOT NULL CHECK (was_right IN (0, 1)),
    told_by TEXT NOT NULL,
    height INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS outcomes_by_height ON outcomes (height);

CREATE TABLE IF NOT EXISTS insights (
    insight_id TEXT PRIMARY KEY,
    signal_id TEXT NOT NULL REFERENCES signals,
    category TEXT NOT NULL,
    headline TEXT NOT NULL CHECK (length(headline) BETWEEN 1 AND 80),
    summary TEXT NOT NULL,
    confidence REAL NOT NULL,
    confidence_explanation TEXT NOT NULL,
    evidence TEXT NOT NULL CHECK (json_valid(evidence)),
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    prompt_version TEXT NOT NULL,
    grounded INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    simulated INTEGER NOT NULL,
    chart_url TEXT,
    recorded_at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS insights_by_signal ON insights (signal_id);

CREATE TABLE IF NOT EXISTS insight_events (
    seq INTEGER PRIMARY KEY,
    insight_id TEXT NOT NULL REFERENCES insights,
    event TEXT NOT NULL CHECK (event IN ('retracted', 'reinstated')),
    reason TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    recorded_at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS insight_events_by_insight ON insight_events (insight_id, seq);

CREATE TABLE IF NOT EXISTS mempool_snapshots (
    snapshot_id TEXT PRIMARY KEY,
    taken_at INTEGER NOT NULL,
    tip TEXT NOT NULL,
    snapshot TEXT NOT NULL CHECK (json_valid(snapshot))
) STRICT;
CREATE INDEX IF NOT EXISTS mempool_snapshots_by_time ON mempool_snapshots (taken_at);

CREATE TABLE IF NOT EXISTS block_snapshots (
    block_hash TEXT PRIMARY KEY REFERENCES blocks,
    snapshot_id TEXT NOT NULL REFERENCES mempool_snapshots,
    audit TEXT CHECK (audit IS NULL OR json_valid(audit)),
    recorded_at INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS settings_events (
    seq INTEGER PRIMARY KEY,
    event TEXT NOT NULL CHECK (event IN ('applied', 'refused')),
    digest TEXT NOT NULL,
    settings TEXT NOT NULL CHECK (json_valid(settings)),
    changes TEXT NOT NULL CHECK (json_valid(changes)),
    reason TEXT NOT NULL,
    recorded_at INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS narration_events (
    seq INTEGER PRIMARY KEY,
    signal_id TEXT NOT NULL REFERENCES signals,
    event TEXT NOT NULL CHECK (event IN ('failed', 'dead', 'skipped')),
    reason TEXT NOT NULL,
    correlation_id TEXT NOT NULL,
    recorded_at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS narration_events_by_signal ON narration_events (signal_id, seq);

CREATE TABLE IF NOT EXISTS ai_calls (
    call_id TEXT PRIMARY KEY,
    signal_id TEXT NOT NULL REFERENCES signals,
    provider TEXT NOT NULL,
    model TEXT NOT NULL,
    prompt_version TEXT NOT NULL,
    day TEXT NOT NULL,
    reserved_microusd INTEGER,
    correlation_id TEXT NOT NULL,
    recorded_at INTEGER NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS ai_calls_by_day ON ai_calls (day, provider);
CREATE INDEX IF NOT EXISTS ai_calls_by_signal ON ai_calls (signal_id);

CREATE TABLE IF NOT EXISTS ai_results (
    call_id TEXT PRIMARY KEY REFERENCES ai_calls,
    outcome TEXT NOT NULL CHECK (outcome IN ('passed', 'refused', 'failed')),
    tokens_in INTEGER,
    tokens_out INTEGER,
    cost_microusd INTEGER,
    reasons TEXT NOT NULL CHECK (json_valid(reasons)),
    recorded_at INTEGER NOT NULL
) STRICT;
"""

WORKING_STATE = """
CREATE TABLE IF NOT EXISTS leases (
    token INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    holder TEXT NOT NULL,
    expires_at REAL NOT NULL,
    state TEXT NOT NULL CHECK (json_valid(state))
) STRICT;

CREATE TABLE IF NOT EXISTS undecided (signal_id TEXT PRIMARY KEY REFERENCES signals) STRICT;

CREATE TABLE IF NOT EXISTS backfills (
    name TEXT PRIMARY KEY,
    next_height INTEGER NOT NULL,
    blocks INTEGER NOT NULL,
    signals INTEGER NOT NULL
) STRICT;

CREATE TABLE IF NOT EXISTS outbox (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    relation TEXT NOT NULL,
    key ANY NOT NULL,
    recorded_at INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER))
) STRICT;
CREATE INDEX IF NOT EXISTS outbox_by_relation ON outbox (relation, seq);

CREATE TABLE IF NOT EXISTS shipping (
    relation TEXT PRIMARY KEY,
    stream TEXT,
    next_offset INTEGER NOT NULL,
    last_seq INTEGER,
    job_id TEXT
) STRICT;
"""

SHIPPED = {
    "blocks": ("blocks", "block_hash"),
    "facts": ("facts", "seq"),
    "flows": ("flows", "seq"),
    "entity_flows": ("flows", "seq"),
    "mempools": ("block_snapshots", "block_hash"),
    "forecasts": ("forecasts", "forecast_id"),
    "signals": ("signals", "signal_id"),
    "signal_events": ("signal_events", "seq"),
    "insights": ("insights", "insight_id"),
    "insight_events": ("insight_events", "seq"),
    "narration_events": ("narration_events", "seq"),
    "block_events": ("block_events", "seq"),
}
"""What goes into a warehouse, from which table by which key, in the order in which a batch is sent: a block that is
`connected` there has all its other rows there."""

TRIGGERS = "\n".join(
    f"CREATE TRIGGER IF NOT EXISTS ship_{relation} AFTER INSERT ON {table} "  # noqa: S608
    f"WHEN EXISTS (SELECT 1 FROM meta WHERE key = 'warehouse') "
    f"BEGIN INSERT INTO outbox (relation, key) VALUES ('{relation}', NEW.{key}); END;"
    for relation, (table, key) in SHIPPED.items()
)

VIEWS = """
CREATE VIEW block_state AS
SELECT b.*, (SELECT event FROM block_events e WHERE e.block_hash = b.block_hash ORDER BY seq DESC LIMIT 1) AS state
FROM blocks b;

CREATE VIEW current_facts AS
SELECT f.* FROM facts f
WHERE f.seq = (SELECT max(seq) FROM facts g WHERE g.block_hash = f.block_hash);

CREATE VIEW current_flows AS
SELECT f.* FROM flows f
WHERE f.seq = (SELECT max(seq) FROM flows g WHERE g.block_hash = f.block_hash);

CREATE VIEW current_balances AS
SELECT f.* FROM balances f
WHERE f.seq = (SELECT max(seq) FROM balances g WHERE g.block_hash = f.block_hash);

CREATE VIEW forecast_scores AS
SELECT f.*, b.height AS block_height, b.simulated,
    t.block_hash AS target_hash,
    json_extract(a.facts, '$.package_feerate_percentiles_kvb[2]') AS actual_kvb
FROM forecasts f
JOIN block_state b ON b.block_hash = f.block_hash AND b.state = 'connected'
LEFT JOIN block_state t ON t.height = f.target_height AND t.state = 'connected'
LEFT JOIN current_facts a ON a.block_hash = t.block_hash AND json_extract(a.facts, '$.txs') > 1;

CREATE VIEW signal_state AS
SELECT s.*,
    coalesce(i.recorded_at, n.recorded_at) IS NOT NULL AS processed,
    coalesce(i.recorded_at, n.recorded_at) AS processed_at,
    CASE WHEN e.event = 'retracted' THEN e.recorded_at END AS retracted_at,
    CASE WHEN e.event = 'retracted' THEN e.reason END AS retraction_reason,
    CASE WHEN e.event = 'retracted' THEN e.superseded_by END AS superseded_by
FROM signals s
LEFT JOIN signal_events e
    ON e.seq = (SELECT max(seq) FROM signal_events x WHERE x.signal_id = s.signal_id)
LEFT JOIN (SELECT signal_id, min(recorded_at) AS recorded_at FROM insights GROUP BY signal_id) i USING (signal_id)
LEFT JOIN (
    SELECT signal_id, min(recorded_at) AS recorded_at FROM narration_events WHERE event <> 'failed' GROUP BY signal_id
) n USING (signal_id);

CREATE VIEW current_signals AS SELECT * FROM signal_state WHERE retracted_at IS NULL;

CREATE VIEW counted_outcomes AS
SELECT o.*, s.signal_type, s.kind, s.model_version, s.confidence
FROM outcomes o
JOIN signals s USING (signal_id)
JOIN block_state b ON b.block_hash = s.block_hash AND b.state = 'connected'
LEFT JOIN signal_events e
    ON e.seq = (SELECT max(seq) FROM signal_events x WHERE x.signal_id = o.signal_id)
WHERE coalesce(e.event, '') <> 'retracted'
    OR e.reason IN (BY_LABELS) AND NOT EXISTS (SELECT 1 FROM outcomes n WHERE n.signal_id = e.superseded_by);

CREATE VIEW insight_state AS
SELECT n.*, s.block_height, s.kind,
    CASE WHEN e.event = 'retracted' THEN e.recorded_at END AS retracted_at,
    CASE WHEN e.event = 'retracted' THEN e.reason END AS retraction_reason
FROM insights n
JOIN signals s USING (signal_id)
LEFT JOIN insight_events e
    ON e.seq = (SELECT max(seq) FROM insight_events x WHERE x.insight_id = n.insight_id);

CREATE VIEW current_insights AS SELECT * FROM insight_state WHERE retracted_at IS NULL;
""".replace("BY_LABELS", f"'{WITHDRAWN}', '{UNDER_NEW_LABELS}'")

OLD_VIEWS = "".join(f"DROP VIEW IF EXISTS {name};" for name in reversed(re.findall(r"CREATE VIEW (\w+)", VIEWS)))

SCHEMA = TABLES + WORKING_STATE + TRIGGERS + OLD_VIEWS + VIEWS
"""Makes a store, and whatever an older one lacks."""
