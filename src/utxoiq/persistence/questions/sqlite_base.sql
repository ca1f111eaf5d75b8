-- The portable views over a store, with the columns they have in BigQuery. All of it is temporary: nothing is stored.
CREATE TEMP TABLE IF NOT EXISTS entity_kinds (entity TEXT PRIMARY KEY, kind TEXT NOT NULL, name TEXT NOT NULL);

CREATE TEMP TABLE IF NOT EXISTS asked_days (one INTEGER PRIMARY KEY, first_day TEXT NOT NULL, last_day TEXT NOT NULL);
INSERT OR IGNORE INTO asked_days VALUES (1, '0000-00-00', '9999-99-99');

CREATE TEMP VIEW IF NOT EXISTS asked_blocks AS
SELECT date(b.time, 'unixepoch') AS day, b.block_hash, b.height AS block_height
FROM block_state b
WHERE date(b.time, 'unixepoch') >= (SELECT first_day FROM asked_days)
    AND date(b.time, 'unixepoch') <= (SELECT last_day FROM asked_days)
    AND b.state = 'connected';

CREATE TEMP VIEW IF NOT EXISTS connected_blocks AS
SELECT b.*,
    json_extract(f.facts, '$.txs') AS txs,
    json_extract(f.facts, '$.weight') AS weight,
    json_extract(f.facts, '$.totalfee') AS total_fees_sat,
    json_extract(f.facts, '$.subsidy') AS subsidy_sat,
    json_extract(f.facts, '$.pool') AS pool,
    json_extract(f.facts, '$.pool_name') AS pool_name,
    json_extract(f.facts, '$.pool_by') AS pool_by,
    json_extract(f.facts, '$.coin_blocks_destroyed') AS coin_blocks_destroyed
FROM asked_blocks b
JOIN facts f ON f.seq = (SELECT max(seq) FROM facts g WHERE g.block_hash = b.block_hash);

CREATE TEMP VIEW IF NOT EXISTS block_feerates AS
SELECT b.*, CASE p.key WHEN 0 THEN 10 WHEN 1 THEN 25 WHEN 2 THEN 50 WHEN 3 THEN 75 ELSE 90 END AS percentile,
    p.value AS rate_kvb
FROM asked_blocks b
JOIN facts f ON f.seq = (SELECT max(seq) FROM facts g WHERE g.block_hash = b.block_hash)
JOIN json_each(f.facts, '$.package_feerate_percentiles_kvb') p
WHERE json_extract(f.facts, '$.txs') > 1 AND p.type = 'integer';

CREATE TEMP VIEW IF NOT EXISTS block_flows AS
SELECT b.*, g.labels_version,
    json_extract(g.flows, '$.value_in') AS value_in_sat,
    json_extract(g.flows, '$.value_in_labelled') AS value_in_labelled_sat,
    json_extract(g.flows, '$.value_out') AS value_out_sat,
    json_extract(g.flows, '$.value_out_labelled') AS value_out_labelled_sat
FROM asked_blocks b
LEFT JOIN flows g ON g.seq = (SELECT max(seq) FROM flows h WHERE h.block_hash = b.block_hash);

CREATE TEMP VIEW IF NOT EXISTS flows_by_entity AS
SELECT b.*, e.key AS entity, k.name, k.kind,
    json_extract(e.value, '$.spent') AS spent_sat,
    json_extract(e.value, '$.received') AS received_sat,
    json_extract(e.value, '$.arrived') AS arrived_sat,
    json_extract(e.value, '$.left') AS departed_sat,
    json_extract(e.value, '$.uncertain_value') AS uncertain_sat
FROM asked_blocks b
JOIN flows g ON g.seq = (SELECT max(seq) FROM flows h WHERE h.block_hash = b.block_hash)
JOIN json_each(g.flows, '$.entities') e
LEFT JOIN entity_kinds k ON k.entity = e.key;

CREATE TEMP VIEW IF NOT EXISTS flows_by_kind AS
SELECT b.*, k.key AS kind, json_extract(k.value, '$[0]') AS arrived_sat, json_extract(k.value, '$[1]') AS departed_sat
FROM asked_blocks b
JOIN flows g ON g.seq = (SELECT max(seq) FROM flows h WHERE h.block_hash = b.block_hash)
JOIN json_each(g.flows, '$.kinds') k;

CREATE TEMP VIEW IF NOT EXISTS old_coins AS
SELECT b.*, 'large' AS listed_as, json_extract(c.value, '$.txid') AS txid,
    json_extract(c.value, '$.value') AS value_sat, json_extract(c.value, '$.age_blocks') AS age_blocks
FROM asked_blocks b
JOIN facts f ON f.seq = (SELECT max(seq) FROM facts g WHERE g.block_hash = b.block_hash)
JOIN json_each(f.facts, '$.large_coins') c
WHERE c.type = 'object' AND json_extract(c.value, '$.age_blocks') IS NOT NULL
UNION ALL
SELECT b.*, 'oldest', json_extract(f.facts, '$.oldest_coin.txid'),
    json_extract(f.facts, '$.oldest_coin.value'), json_extract(f.facts, '$.oldest_coin.age_blocks')
FROM asked_blocks b
JOIN facts f ON f.seq = (SELECT max(seq) FROM facts g WHERE g.block_hash = b.block_hash)
WHERE json_extract(f.facts, '$.oldest_coin.age_blocks') IS NOT NULL;

CREATE TEMP VIEW IF NOT EXISTS large_transfers AS
SELECT b.*, json_extract(t.value, '$.txid') AS txid,
    json_extract(t.value, '$.moved') AS moved_sat,
    json_extract(t.value, '$.change') AS change_sat,
    json_extract(t.value, '$.fee') AS fee_sat,
    json_extract(t.value, '$.inputs') AS inputs,
    json_extract(t.value, '$.outputs') AS outputs
FROM asked_blocks b
JOIN facts f ON f.seq = (SELECT max(seq) FROM facts g WHERE g.block_hash = b.block_hash)
JOIN json_each(f.facts, '$.large_transfers') t
WHERE t.type = 'object';

CREATE TEMP VIEW IF NOT EXISTS settled_forecasts AS
SELECT t.day, f.forecast_id, f.method, f.horizon, f.target_height, f.value_kvb, f.low_kvb, f.high_kvb,
    CASE WHEN json_extract(a.facts, '$.txs') > 1
        THEN json_extract(a.facts, '$.package_feerate_percentiles_kvb[2]') END AS actual_kvb
FROM asked_blocks t
JOIN facts a ON a.seq = (SELECT max(seq) FROM facts g WHERE g.block_hash = t.block_hash)
JOIN forecasts f ON f.target_height = t.block_height
JOIN block_state s ON s.block_hash = f.block_hash AND s.state = 'connected';

CREATE TEMP VIEW IF NOT EXISTS held_signals AS
SELECT b.*, s.signal_id, s.signal_type, s.kind, s.subject, s.confidence
FROM asked_blocks b
JOIN current_signals s ON s.block_hash = b.block_hash;
