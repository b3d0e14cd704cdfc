"""`portway check URL`: what is wrong with an MCP endpoint, as clients see it, and how it is mended."""
