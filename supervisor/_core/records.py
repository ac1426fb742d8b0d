"""Pure: what all records, which are dataclasses, have in common."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["fields_of"]


def fields_of(record: DataclassInstance) -> dict[str, Any]:
    """Returns the fields of a record by their names, each as it is: `dataclasses.asdict` would copy what they hold.

    Example:
        >>> from .pools import Limits
        >>> fields_of(Limits(cpu_seconds=2))
        {'rss': None, 'cpu_seconds': 2}
    """
    return {item.name: getattr(record, item.name) for item in fields(record)}
