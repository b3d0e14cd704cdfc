"""The data plane: one process with one loop, through which every client request passes. It never imports `server/`."""
