"""A number with its noun, as in "1 tool" and "2 tools"."""


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, which gets an "s" unless there is one of it."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
