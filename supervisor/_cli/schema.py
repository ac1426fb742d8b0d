"""`schema`: the JSON schema of a configuration file, for editors."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ..config.schema import json_schema

if TYPE_CHECKING:
    import argparse

__all__ = ["add"]


def add(commands: argparse._SubParsersAction[Any]) -> None:
    """Adds the command to the parser."""
    schema = commands.add_parser(
        "schema",
        help="print the JSON schema of a configuration file, for editors",
        description="Prints the JSON schema of a configuration file, for editors.",
    )
    schema.set_defaults(run=run)


def run(_options: argparse.Namespace) -> int:
    """Prints it; returns the exit status."""
    print(json.dumps(json_schema(), indent=2))
    return 0
