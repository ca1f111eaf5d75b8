SELECT b.*, e.event AS state, e.recorded_at AS since
FROM (
    SELECT * FROM btc.blocks WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY day, block_hash ORDER BY recorded_at) = 1
) AS b
LEFT JOIN (
    SELECT day, block_hash, event, recorded_at FROM btc.block_events WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY day, block_hash ORDER BY recorded_at DESC, seq DESC) = 1
) AS e USING (day, block_hash)
