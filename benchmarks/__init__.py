"""Portway beside its peers, in one run. `python -m benchmarks --help`; what each row is: rows.py."""
