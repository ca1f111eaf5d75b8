-- How many signals that still hold were said of a day's blocks, by type and kind, about how many subjects in how many blocks, and the range of their confidence.
SELECT day, signal_type, kind, COUNT(*) AS signals, COUNT(DISTINCT subject) AS subjects,
    COUNT(DISTINCT block_hash) AS in_blocks, MIN(confidence) AS least_confidence, MAX(confidence) AS most_confidence
FROM held_signals GROUP BY day, signal_type, kind
