"""Logs of builds and instances: named pipes, the process that writes what comes through them, and the reader."""
