"""The Host half: builds, runs and guards MCP servers. Its processes, control and gate, share `paths` and `routes`."""
