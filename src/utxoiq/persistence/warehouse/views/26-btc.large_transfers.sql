SELECT s.day, s.block_hash, s.block_height, JSON_VALUE(moving, '$.txid') AS txid,
    CAST(JSON_VALUE(moving, '$.moved') AS INT64) AS moved_sat,
    CAST(JSON_VALUE(moving, '$.change') AS INT64) AS change_sat,
    CAST(JSON_VALUE(moving, '$.fee') AS INT64) AS fee_sat,
    CAST(JSON_VALUE(moving, '$.inputs') AS INT64) AS inputs,
    CAST(JSON_VALUE(moving, '$.outputs') AS INT64) AS outputs
FROM btc.block_state AS s
JOIN btc.current_facts AS f ON f.day = s.day AND f.block_hash = s.block_hash
CROSS JOIN UNNEST(
    IF(JSON_QUERY(f.facts, '$.large_transfers[0]') IS NULL, NULL, JSON_QUERY_ARRAY(f.facts, '$.large_transfers'))
) AS moving
WHERE s.state = 'connected'
