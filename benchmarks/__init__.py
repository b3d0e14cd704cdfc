"""Benchmarks of Portway and its peers in one run: `python -m benchmarks --help`; the rows are in rows.py."""
