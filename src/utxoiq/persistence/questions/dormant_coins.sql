-- Coins spent after a year (52,560 blocks) or more: those of each block's ten largest of 100 BTC and more, and its oldest; values in sat. known: blocks of the day in which every coin's age is known.
WITH covered AS (
    SELECT day, COUNT(*) AS blocks, COUNT(coin_blocks_destroyed) AS known FROM connected_blocks GROUP BY day
), listed AS (
    SELECT day, block_height, txid, value_sat, age_blocks, listed_as,
        SUM(CASE WHEN listed_as = 'large' THEN 1 ELSE 0 END)
            OVER (PARTITION BY day, block_hash, txid, value_sat, age_blocks) AS as_large
    FROM old_coins WHERE age_blocks >= 52560
)
SELECT l.day, l.block_height, l.txid, l.value_sat, l.age_blocks, c.blocks, c.known
FROM listed AS l JOIN covered AS c ON c.day = l.day
WHERE l.listed_as = 'large' OR l.as_large = 0
