SELECT * FROM (
    SELECT * FROM btc.entity_flows WHERE TRUE
    QUALIFY DENSE_RANK() OVER (PARTITION BY day, block_hash ORDER BY recorded_at DESC, seq DESC) = 1
) WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY day, block_hash, entity ORDER BY seq) = 1
