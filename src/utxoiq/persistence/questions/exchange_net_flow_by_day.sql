-- What labelled exchanges took in from others and paid out to others, each of them and all_exchanges together (without what they moved among themselves), by day, in sat; labelled_share: of all that was spent that day.
WITH covered AS (
    SELECT day, COUNT(*) AS blocks, COUNT(value_in_sat) AS known,
        CAST(SUM(value_in_labelled_sat) AS FLOAT64) / NULLIF(SUM(value_in_sat), 0) AS labelled_share
    FROM block_flows GROUP BY day
), of_each AS (
    SELECT day, entity, MAX(name) AS name, SUM(arrived_sat) AS arrived_sat, SUM(departed_sat) AS departed_sat
    FROM flows_by_entity WHERE kind = 'exchange' GROUP BY day, entity
), together AS (
    SELECT day, SUM(arrived_sat) AS arrived_sat, SUM(departed_sat) AS departed_sat
    FROM flows_by_kind WHERE kind = 'exchange' GROUP BY day
)
SELECT c.day, e.entity, e.name, e.arrived_sat, e.departed_sat, e.arrived_sat - e.departed_sat AS net_sat,
    c.labelled_share, c.blocks, c.known
FROM covered AS c JOIN of_each AS e ON e.day = c.day
UNION ALL
SELECT c.day, 'all_exchanges' AS entity, 'All labelled exchanges' AS name,
    CASE WHEN c.known > 0 THEN COALESCE(t.arrived_sat, 0) END AS arrived_sat,
    CASE WHEN c.known > 0 THEN COALESCE(t.departed_sat, 0) END AS departed_sat,
    CASE WHEN c.known > 0 THEN COALESCE(t.arrived_sat, 0) - COALESCE(t.departed_sat, 0) END AS net_sat,
    c.labelled_share, c.blocks, c.known
FROM covered AS c LEFT JOIN together AS t ON t.day = c.day
