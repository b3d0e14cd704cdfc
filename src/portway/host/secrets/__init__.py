"""Variables of apps: encrypted in the store, resolved for a release, kept out of sources and messages."""
