"""How a client logs in at the identity provider of a protected server (MCP 2026-07-28, basic/authorization)."""
