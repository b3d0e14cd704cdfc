"""The data plane: one process, one loop, that every client request to every app passes. It never imports `server/`."""
