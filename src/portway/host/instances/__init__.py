"""Instances: the running copies of releases, started, probed, restarted, drained and stopped."""
