-- What labelled companies, funds and governments took in from others and paid out to others, by day, in sat. known: blocks of the day whose flows are known.
WITH covered AS (
    SELECT day, COUNT(*) AS blocks, COUNT(value_in_sat) AS known FROM block_flows GROUP BY day
), moved AS (
    SELECT day, entity, MAX(name) AS name, MAX(kind) AS kind, SUM(arrived_sat) AS arrived_sat,
        SUM(departed_sat) AS departed_sat, SUM(uncertain_sat) AS uncertain_sat
    FROM flows_by_entity WHERE kind IN ('treasury', 'etf', 'government') GROUP BY day, entity
)
SELECT m.day, m.entity, m.name, m.kind, m.arrived_sat, m.departed_sat, m.arrived_sat - m.departed_sat AS net_sat,
    m.uncertain_sat, c.blocks, c.known
FROM moved AS m JOIN covered AS c ON c.day = m.day
