-- How full a day's blocks were: their mean weight as a share of the limit of 4,000,000, how many held nothing but their coinbase, and how many were less than half full.
SELECT day, AVG(weight) / 4000000 AS full_share, MIN(weight) AS least_weight, SUM(txs) AS transactions,
    SUM(CASE WHEN txs = 1 THEN 1 ELSE 0 END) AS empty_blocks,
    SUM(CASE WHEN weight < 2000000 THEN 1 ELSE 0 END) AS half_empty_blocks, COUNT(*) AS blocks
FROM connected_blocks GROUP BY day
