"""What utxoiq claims, measured: `python -m evaluation fees --series DIR [--json]`."""
