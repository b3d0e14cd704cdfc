"""Logs of builds and instances."""
