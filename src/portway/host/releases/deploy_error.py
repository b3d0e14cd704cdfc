"""`DeployError` and `Superseded`, the errors of a deploy that changed nothing."""


class DeployError(Exception):
    """The deploy failed and changed nothing; the message is for the person who asked for it."""


class Superseded(DeployError):
    """The deploy was not begun: while it waited, a newer one of the same apps was asked for."""
