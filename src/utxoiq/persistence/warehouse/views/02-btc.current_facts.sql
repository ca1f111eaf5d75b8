SELECT * FROM btc.facts WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY day, block_hash ORDER BY recorded_at DESC, seq DESC) = 1
