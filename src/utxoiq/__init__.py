"""utxoiq: every Bitcoin block into signals and insights a person can check."""
