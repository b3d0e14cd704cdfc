"""The Host half: it builds and runs MCP servers. Here are its processes and what they share, such as `paths`,
`routing_table` and `token_table`.
"""
