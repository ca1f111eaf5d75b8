SELECT t.day, f.forecast_id, f.method, f.horizon, f.target_height, f.value_kvb, f.low_kvb, f.high_kvb,
    IF(a.txs > 1, CAST(JSON_VALUE(a.facts, '$.package_feerate_percentiles_kvb[2]') AS INT64), NULL) AS actual_kvb
FROM btc.block_state AS t
JOIN btc.current_facts AS a ON a.day = t.day AND a.block_hash = t.block_hash
JOIN intel.current_forecasts AS f ON f.target_height = t.block_height
JOIN btc.block_state AS s ON s.day = f.day AND s.block_hash = f.block_hash
WHERE t.state = 'connected' AND s.state = 'connected'
