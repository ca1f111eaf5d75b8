SELECT s.*,
    COALESCE(i.recorded_at, n.recorded_at) IS NOT NULL AS processed,
    COALESCE(i.recorded_at, n.recorded_at) AS processed_at,
    IF(e.event = 'retracted', e.recorded_at, NULL) AS retracted_at,
    IF(e.event = 'retracted', e.reason, NULL) AS retraction_reason,
    IF(e.event = 'retracted', e.superseded_by, NULL) AS superseded_by
FROM (
    SELECT * FROM intel.signals WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY day, signal_id ORDER BY recorded_at) = 1
) AS s
LEFT JOIN (
    SELECT day, signal_id, event, reason, superseded_by, recorded_at FROM intel.signal_events WHERE TRUE
    QUALIFY ROW_NUMBER() OVER (PARTITION BY day, signal_id ORDER BY recorded_at DESC, seq DESC) = 1
) AS e USING (day, signal_id)
LEFT JOIN (
    SELECT day, signal_id, MIN(recorded_at) AS recorded_at FROM intel.insights GROUP BY day, signal_id
) AS i USING (day, signal_id)
LEFT JOIN (
    SELECT day, signal_id, MIN(recorded_at) AS recorded_at FROM intel.narration_events
    WHERE event <> 'failed' GROUP BY day, signal_id
) AS n USING (day, signal_id)
