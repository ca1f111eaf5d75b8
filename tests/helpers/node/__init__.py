"""A Bitcoin Core node for tests: one played in this process over real validation, and a real one, driven alike."""
