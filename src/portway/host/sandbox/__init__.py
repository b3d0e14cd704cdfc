"""The walls around builds and instances: what this machine can do, and the programs that do it."""
