"""MCP over stdio and over HTTP: where a server meets its clients."""
