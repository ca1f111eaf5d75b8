SELECT s.day, s.block_hash, s.block_height, f.txs, f.weight, f.totalfee AS total_fees_sat, f.subsidy AS subsidy_sat,
    f.pool, f.pool_name, f.pool_by, f.coin_blocks_destroyed
FROM btc.block_state AS s
JOIN btc.current_facts AS f ON f.day = s.day AND f.block_hash = s.block_hash
WHERE s.state = 'connected'
