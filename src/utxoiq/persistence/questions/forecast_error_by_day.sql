-- How far forecasts of the median feerate were off, by the day of the block that was forecast, method and horizon: mean absolute error in sat/kvB, and the share that fell inside the interval meant to hold in 80 %. known: cases whose block had a rate.
SELECT day, horizon, method, AVG(ABS(value_kvb - actual_kvb)) AS mae_kvb,
    AVG(CASE
        WHEN actual_kvb IS NULL OR low_kvb IS NULL OR high_kvb IS NULL THEN NULL
        WHEN actual_kvb BETWEEN low_kvb AND high_kvb THEN 1.0
        ELSE 0.0
    END) AS inside_share,
    COUNT(*) AS cases, COUNT(actual_kvb) AS known
FROM settled_forecasts GROUP BY day, horizon, method
