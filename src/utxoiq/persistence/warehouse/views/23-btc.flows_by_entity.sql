SELECT s.day, s.block_hash, s.block_height, e.entity, k.name, k.kind, e.spent AS spent_sat, e.received AS received_sat,
    e.arrived AS arrived_sat, e.departed AS departed_sat, e.uncertain_value AS uncertain_sat
FROM btc.block_state AS s
JOIN btc.current_flows AS g ON g.day = s.day AND g.block_hash = s.block_hash
JOIN (
    SELECT * FROM btc.entity_flows WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY day, block_hash, entity, seq, recorded_at ORDER BY arrived) = 1
) AS e ON e.day = g.day AND e.block_hash = g.block_hash AND e.seq = g.seq AND e.recorded_at = g.recorded_at
LEFT JOIN btc.entity_kinds AS k ON k.entity = e.entity
WHERE s.state = 'connected'
