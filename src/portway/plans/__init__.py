"""Plans: a function's signature compiled once, so that a call only decodes, runs and encodes."""
