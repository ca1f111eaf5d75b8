"""What several tests share: recorded data, an independent reader, a tiny miner, mutations, guarded memory."""
