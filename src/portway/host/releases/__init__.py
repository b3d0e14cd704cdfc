"""Releases: what a deploy does, from a source to the live release of an app."""
