"""MCP over stdio and over HTTP."""
