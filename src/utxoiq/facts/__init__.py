"""What one block did: a pure function of the block, its spent outputs and the labels."""
