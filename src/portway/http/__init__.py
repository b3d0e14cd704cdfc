"""The HTTP/1.1 server for ASGI applications, its checks and limits, event streams, an HTTP client, `safe_fetch`."""
