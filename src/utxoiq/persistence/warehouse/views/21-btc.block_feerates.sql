SELECT day, block_hash, block_height, percentile,
    CAST(CASE percentile
        WHEN 10 THEN JSON_VALUE(rates, '$[0]')
        WHEN 25 THEN JSON_VALUE(rates, '$[1]')
        WHEN 50 THEN JSON_VALUE(rates, '$[2]')
        WHEN 75 THEN JSON_VALUE(rates, '$[3]')
        ELSE JSON_VALUE(rates, '$[4]')
    END AS INT64) AS rate_kvb
FROM (
    SELECT s.day, s.block_hash, s.block_height, JSON_QUERY(f.facts, '$.package_feerate_percentiles_kvb') AS rates
    FROM btc.block_state AS s
    JOIN btc.current_facts AS f ON f.day = s.day AND f.block_hash = s.block_hash
    WHERE s.state = 'connected' AND f.txs > 1
)
CROSS JOIN UNNEST([10, 25, 50, 75, 90]) AS percentile
WHERE JSON_VALUE(rates, '$[0]') IS NOT NULL
