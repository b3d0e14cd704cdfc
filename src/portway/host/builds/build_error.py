"""`BuildError`, the one exception of a build."""


class BuildError(Exception):
    """The source cannot be built; the message is for its author, with the last lines of a failed command."""
