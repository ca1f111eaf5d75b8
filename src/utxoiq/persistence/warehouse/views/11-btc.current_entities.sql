SELECT k.* FROM btc.known_entities AS k
JOIN (
    SELECT labels_version FROM btc.known_entities GROUP BY labels_version
    HAVING COUNT(DISTINCT line) = MAX(lines) ORDER BY MAX(recorded_at) DESC LIMIT 1
) AS newest USING (labels_version)
WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY k.labels_version, k.line ORDER BY k.recorded_at) = 1
