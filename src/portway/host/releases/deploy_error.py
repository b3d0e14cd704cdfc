"""The error of a deploy that changed nothing."""


class DeployError(Exception):
    """The deploy failed and changed nothing; the message is for the person who asked for it."""
