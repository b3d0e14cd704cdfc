"""A number with its noun, as in "1 tool" and "2 tools"."""


def counted(number: float, noun: str) -> str:
    """Return a number with its noun, which gets an "s" unless there is one of it."""
    text = f"{number:g}" if isinstance(number, float) else str(number)
    return f"{text} {noun}{'' if number == 1 else 's'}"
