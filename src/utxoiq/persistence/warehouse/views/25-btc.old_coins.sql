SELECT * FROM (
    SELECT s.day, s.block_hash, s.block_height, 'large' AS listed_as, JSON_VALUE(coin, '$.txid') AS txid,
        CAST(JSON_VALUE(coin, '$.value') AS INT64) AS value_sat,
        CAST(JSON_VALUE(coin, '$.age_blocks') AS INT64) AS age_blocks
    FROM btc.block_state AS s
    JOIN btc.current_facts AS f ON f.day = s.day AND f.block_hash = s.block_hash
    CROSS JOIN UNNEST(
        IF(JSON_QUERY(f.facts, '$.large_coins[0]') IS NULL, NULL, JSON_QUERY_ARRAY(f.facts, '$.large_coins'))
    ) AS coin
    WHERE s.state = 'connected'
    UNION ALL
    SELECT s.day, s.block_hash, s.block_height, 'oldest' AS listed_as, JSON_VALUE(f.facts, '$.oldest_coin.txid') AS txid,
        CAST(JSON_VALUE(f.facts, '$.oldest_coin.value') AS INT64) AS value_sat,
        CAST(JSON_VALUE(f.facts, '$.oldest_coin.age_blocks') AS INT64) AS age_blocks
    FROM btc.block_state AS s
    JOIN btc.current_facts AS f ON f.day = s.day AND f.block_hash = s.block_hash
    WHERE s.state = 'connected'
)
WHERE age_blocks IS NOT NULL
