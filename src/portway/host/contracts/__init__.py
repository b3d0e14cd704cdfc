"""Contracts: what a release shows a client, what changes in it, and whether that stops a deploy."""
