SELECT day, block_hash, block_height, kind,
    CAST(JSON_VALUE(sums, '$[0]') AS INT64) AS arrived_sat,
    CAST(JSON_VALUE(sums, '$[1]') AS INT64) AS departed_sat
FROM (
    SELECT s.day, s.block_hash, s.block_height, kind,
        CASE kind
            WHEN 'exchange' THEN JSON_QUERY(g.flows, '$.kinds.exchange')
            WHEN 'mining_pool' THEN JSON_QUERY(g.flows, '$.kinds.mining_pool')
            WHEN 'treasury' THEN JSON_QUERY(g.flows, '$.kinds.treasury')
            WHEN 'etf' THEN JSON_QUERY(g.flows, '$.kinds.etf')
            ELSE JSON_QUERY(g.flows, '$.kinds.government')
        END AS sums
    FROM btc.block_state AS s
    JOIN btc.current_flows AS g ON g.day = s.day AND g.block_hash = s.block_hash
    CROSS JOIN UNNEST(['exchange', 'mining_pool', 'treasury', 'etf', 'government']) AS kind
    WHERE s.state = 'connected'
)
WHERE JSON_VALUE(sums, '$[0]') IS NOT NULL
