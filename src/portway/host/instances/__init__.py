"""Instances: the running copies of releases, started, watched, restarted and stopped."""
