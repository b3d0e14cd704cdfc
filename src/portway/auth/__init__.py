"""Principals, bearer tokens, and the one place where a call is refused."""
