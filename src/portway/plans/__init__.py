"""Call plans: what a function's signature says, compiled once, so that a call only decodes, runs and encodes."""
