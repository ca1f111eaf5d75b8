SELECT * FROM intel.signal_state WHERE retracted_at IS NULL
