"""The gate: one process with one event loop, through which every client request passes. It never imports `server/`."""
