"""Releases: the versions of an app on disk, and the deploys that make, switch, roll back and delete them."""
