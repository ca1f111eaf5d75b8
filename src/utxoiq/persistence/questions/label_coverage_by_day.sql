-- Of all that was spent and received in a day, in sat, how much came from or went to labelled scripts. known: blocks whose flows are known; label_sets: how many editions of the labels told them.
SELECT day, SUM(value_in_sat) AS value_in_sat, SUM(value_in_labelled_sat) AS value_in_labelled_sat,
    CAST(SUM(value_in_labelled_sat) AS FLOAT64) / NULLIF(SUM(value_in_sat), 0) AS labelled_in_share,
    SUM(value_out_sat) AS value_out_sat, SUM(value_out_labelled_sat) AS value_out_labelled_sat,
    CAST(SUM(value_out_labelled_sat) AS FLOAT64) / NULLIF(SUM(value_out_sat), 0) AS labelled_out_share,
    COUNT(*) AS blocks, COUNT(value_in_sat) AS known, COUNT(DISTINCT labels_version) AS label_sets
FROM block_flows GROUP BY day
