-- What a place in a block cost: the median over a day's blocks of each percentile of their package feerates, in sat/kvB; and all fees and new coins, in sat. rated: blocks whose rates are known; known: whose fees are.
WITH ranked AS (
    SELECT day, percentile, rate_kvb,
        ROW_NUMBER() OVER (PARTITION BY day, percentile ORDER BY rate_kvb) AS place,
        COUNT(*) OVER (PARTITION BY day, percentile) AS rated
    FROM block_feerates
), medians AS (
    SELECT day, percentile, MAX(rated) AS rated, AVG(rate_kvb) AS median_kvb
    FROM ranked WHERE 2 * place BETWEEN rated AND rated + 2 GROUP BY day, percentile
), wide AS (
    SELECT day, MAX(rated) AS rated,
        MAX(CASE WHEN percentile = 10 THEN median_kvb END) AS p10_kvb,
        MAX(CASE WHEN percentile = 25 THEN median_kvb END) AS p25_kvb,
        MAX(CASE WHEN percentile = 50 THEN median_kvb END) AS p50_kvb,
        MAX(CASE WHEN percentile = 75 THEN median_kvb END) AS p75_kvb,
        MAX(CASE WHEN percentile = 90 THEN median_kvb END) AS p90_kvb
    FROM medians GROUP BY day
), mined AS (
    SELECT day, COUNT(*) AS blocks, COUNT(total_fees_sat) AS known, SUM(total_fees_sat) AS total_fees_sat,
        SUM(subsidy_sat) AS subsidy_sat
    FROM connected_blocks GROUP BY day
)
SELECT m.day, w.p10_kvb, w.p25_kvb, w.p50_kvb, w.p75_kvb, w.p90_kvb, m.total_fees_sat, m.subsidy_sat, m.blocks, m.known,
    COALESCE(w.rated, 0) AS rated
FROM mined AS m LEFT JOIN wide AS w ON w.day = m.day
