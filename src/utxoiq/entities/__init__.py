"""Who: labels with their source, the matching of scripts, and which pool a block is attributed to."""
