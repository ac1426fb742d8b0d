"""Pure: the text of a stack, cut to what fits into a log."""

from __future__ import annotations

__all__ = ["LONGEST", "cut"]

LONGEST = 8000
"""Characters of a stack in a log event; the innermost frames, which say where somebody is stuck, are at its end."""

LEFT_OUT = "  ...\n"


def cut(stack: str, longest: int = LONGEST) -> str:
    r"""Returns a stack, or as many of its last lines as fit; of a line that is too long, its end.

    Example:
        >>> cut("  one\n  two\n", 100)
        '  one\n  two\n'
        >>> cut("  one\n  two\n", 6)
        '  ...\n  two\n'
    """
    if len(stack) <= longest:
        return stack
    kept = stack[len(stack) - longest :]
    if stack[len(stack) - longest - 1] != "\n":
        whole = kept.partition("\n")[2]
        kept = whole or kept
    return LEFT_OUT + kept
