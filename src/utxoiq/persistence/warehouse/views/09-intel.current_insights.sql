SELECT * FROM intel.insight_state WHERE retracted_at IS NULL
