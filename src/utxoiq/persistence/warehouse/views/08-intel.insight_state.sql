SELECT n.*,
    s.block_height,
    s.kind,
    IF(e.event = 'retracted', e.recorded_at, NULL) AS retracted_at,
    IF(e.event = 'retracted', e.reason, NULL) AS retraction_reason
FROM (
    SELECT * FROM intel.insights WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY day, insight_id ORDER BY recorded_at) = 1
) AS n
JOIN (
    SELECT day, signal_id, block_height, kind FROM intel.signals WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY day, signal_id ORDER BY recorded_at) = 1
) AS s USING (day, signal_id)
LEFT JOIN (
    SELECT day, insight_id, event, reason, recorded_at FROM intel.insight_events WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY day, insight_id ORDER BY recorded_at DESC, seq DESC) = 1
) AS e USING (day, insight_id)
