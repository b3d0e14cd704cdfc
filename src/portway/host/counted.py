"""Numbers of things, in words."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, which gets an "s" unless there is one of it."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
