SELECT * FROM btc.mempools WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY day, block_hash ORDER BY recorded_at) = 1
