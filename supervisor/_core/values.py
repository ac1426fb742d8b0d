"""Numbers and texts that callers give. Light: worker processes import it."""

from __future__ import annotations

__all__ = ["checked_count", "checked_reason", "checked_seconds"]


def checked_seconds(field: str, value: object, *, error: type[ValueError] | None = None) -> float:
    """Returns `value` as a number of seconds, 0 or more; refuses anything else with an error that names `field`.

    `field` is a format string that is given the value. Wrong types raise TypeError, wrong values ValueError, unless
    `error` names one class for both.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise (error or TypeError)(f"{field.format(value)}: must be a number of seconds")
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
        raise TypeError(f"{field.format(value)}: must be an integer")
    if value < least:
        raise ValueError(f"{field.format(value)}: must be {least} or more")
    return value


def checked_reason(reason: object) -> str:
    if not isinstance(reason, str):
        raise TypeError(f"reason={reason!r}: must be a string")
    return reason
