"""What utxoiq claims, measured: `python -m evaluation COMMAND` (fees, words, score, calibrate)."""
