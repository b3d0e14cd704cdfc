"""MCP over HTTP and over stdio: what is admitted, replied, streamed, limited and ended."""
