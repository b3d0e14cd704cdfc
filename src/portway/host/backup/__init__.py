"""Backups of a whole host in one file, and hosts restored from them."""
