SELECT s.day, s.block_hash, s.block_height, g.labels_version, g.value_in AS value_in_sat,
    g.value_in_labelled AS value_in_labelled_sat, g.value_out AS value_out_sat,
    g.value_out_labelled AS value_out_labelled_sat
FROM btc.block_state AS s
LEFT JOIN btc.current_flows AS g ON g.day = s.day AND g.block_hash = s.block_hash
WHERE s.state = 'connected'
