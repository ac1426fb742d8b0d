"""Numbers and texts that callers give. Light: worker processes import it."""

from __future__ import annotations

__all__ = ["UNFIT", "checked_count", "checked_line", "checked_reason", "checked_seconds", "plain", "printable"]

UNFIT = (
    (0x00, 0x1F),  # control characters: line breaks, and the escape sequences of terminals
    (0x7F, 0x9F),
    (0x061C, 0x061C),  # what reverses the order of the characters around it
    (0x200E, 0x200F),
    (0x2028, 0x202E),  # the same, and two more line breaks
    (0x2066, 0x2069),
    (0xD800, 0xDFFF),  # halves of characters, which no encoding takes
)
"""The first and the last of the characters that would have people, or programs, read something else than what is so.

No name has one. In other texts each is replaced by its escape.
"""


def checked_seconds(field: str, value: object, *, error: type[ValueError] | None = None) -> float:
    """Returns `value` as a number of seconds, 0 or more; refuses anything else with an error that names `field`.

    `field` is a format string that is given the value. Wrong types raise TypeError, wrong values ValueError, unless
    `error` names one class for both.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise (error or TypeError)(f"{_named(field, value)}: must be a number of seconds")
    if not value >= 0:
        raise (error or ValueError)(f"{field.format(value)}: must be 0 or more seconds")
    try:
        return float(value)
    except OverflowError:
        raise (error or ValueError)(f"{field.format(value)}: is too large; math.inf has no end") from None


def checked_count(field: str, value: object, *, least: int) -> int:
    """Returns `value` as an integer, `least` or more; refuses anything else with an error that names `field`.

    `field` is a format string that is given the value.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{_named(field, value)}: must be an integer")
    if value < least:
        raise ValueError(f"{field.format(value)}: must be {least} or more")
    return value


def _named(field: str, value: object) -> str:
    try:
        return field.format(value)
    except Exception:  # it cannot be shown: it is nested too deeply, or its own code fails
        return field.replace("{!r}", f"<{type(value).__name__}>")


def checked_line(field: str, text: str) -> str:
    """Refuses a name or a pattern that has a character of UNFIT, with an error that names `field`."""
    text = plain(text)
    if printable(text) != text:
        raise ValueError(f"{field}={text!r}: must have no line breaks, control characters or halves of characters")
    return text


def checked_reason(reason: object) -> str:
    """Returns a reason as one line of text: wherever it is shown from here on, it can break nothing."""
    if not isinstance(reason, str):
        raise TypeError(f"reason={reason!r}: must be a string")
    return printable(reason)


def plain(text: str) -> str:
    """Returns a text as it is; of an enumeration its value, and of no other subclass what that makes of itself."""
    return str.__str__(text)


def printable(text: str, *, lines: bool = False) -> str:
    r"""Returns a text with the escape of each character of UNFIT in its place.

    Args:
        text: The text.
        lines: It may have several lines: line breaks and tabs stay.

    Example:
        >>> print(printable("why not\n[critical] forged"))
        why not\n[critical] forged
    """
    text = plain(text)
    if text.isprintable():
        return text
    return "".join(_escaped(character) if _is_unfit(character, lines) else character for character in text)


def _is_unfit(character: str, lines: bool) -> bool:
    if character in "\n\t":
        return not lines
    return any(first <= ord(character) <= last for first, last in UNFIT)


def _escaped(character: str) -> str:
    return repr(character)[1:-1]
