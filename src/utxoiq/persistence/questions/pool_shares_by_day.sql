-- How many of a day's blocks each mining pool found, and of those how many are its own by a payout address, not by a tag alone; pool null: nobody's known.
SELECT day, pool, pool_name, mined, by_address, CAST(mined AS FLOAT64) / SUM(mined) OVER (PARTITION BY day) AS mined_share,
    SUM(mined) OVER (PARTITION BY day) AS blocks
FROM (
    SELECT day, pool, MAX(pool_name) AS pool_name, COUNT(*) AS mined,
        SUM(CASE WHEN pool_by = 'payout_address' THEN 1 ELSE 0 END) AS by_address
    FROM connected_blocks GROUP BY day, pool
) AS of_pool
