"""The Host half: builds and runs MCP servers. Control and gate share `paths`, `routing_table` and `token_table`."""
