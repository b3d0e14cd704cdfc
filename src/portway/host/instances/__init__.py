"""Instances: the processes of a release, started, watched, restarted and stopped."""
