"""The Host half: builds, runs and guards MCP servers on one machine. Two processes, control and gate, share `paths` and `routes`."""
