SELECT b.day, b.block_hash, b.block_height, s.signal_id, s.signal_type, s.kind, s.subject, s.confidence
FROM btc.block_state AS b
JOIN intel.current_signals AS s ON s.day = b.day AND s.block_hash = b.block_hash
WHERE b.state = 'connected'
