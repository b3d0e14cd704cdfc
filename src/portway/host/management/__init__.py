"""The management API: an MCP server on control's socket, and the types of its results."""
