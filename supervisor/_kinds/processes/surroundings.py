"""What a process sees of its owner's state: its environment, folder, import path and file mode mask."""

from __future__ import annotations

import os
import sys
from os import getcwd
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .wire import message

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .wire import Part

__all__ = ["Surroundings", "difference", "import_path", "surroundings"]

UMASK = b"Umask:"


class Surroundings(NamedTuple):
    """The state of this process when a call was made, or a process launched.

    Attributes:
        environ: The environment.
        folder: The current folder; None where it is gone.
        path: `sys.path`.
        umask: The mask of the modes of new files; None where nobody has looked, for that takes long.
    """

    environ: Mapping[Any, Any]
    folder: str | None
    path: list[Any]
    umask: int | None


def surroundings(last: Surroundings | None = None, *, umask: bool = False) -> Surroundings:
    """Returns the state of this process; the last one found, where nothing has changed since. Any thread.

    Args:
        last: What was found the last time. Each call takes this way: nothing is made where all is as it was.
        umask: Look for that, too.
    """
    environ: Mapping[Any, Any]
    try:
        environ = os.environ._data  # type: ignore[attr-defined]  # the keys and values as programs get them
    except AttributeError:  # a test has put another mapping into its place
        environ = {os.fsencode(key): os.fsencode(value) for key, value in os.environ.items()}
    try:
        folder = getcwd()  # noqa: PTH109  # each call takes this way
    except OSError:
        folder = None
    if last is not None and last[0] == environ and last[1] == folder and last[2] == sys.path and not umask:
        return last
    copy: dict[Any, Any] = dict(environ)  # pyright: ignore[reportUnknownArgumentType]
    return Surroundings(copy, folder, sys.path[:], _umask() if umask else None)


def difference(then: Surroundings, now: Surroundings) -> list[Part] | None:
    """Returns the message that has a process take over what has changed; None where nothing has."""
    changed = {key: value for key, value in now.environ.items() if then.environ.get(key) != value}
    gone = [key for key in then.environ if key not in now.environ]
    folder = now.folder if now.folder != then.folder else None
    path = import_path(now.path) if now.path != then.path or folder is not None else None
    umask = now.umask if now.umask != then.umask else None
    if not changed and not gone and all(each is None for each in (folder, path, umask)):
        return None
    return message("surroundings", changed, gone, folder, path, umask)


def _umask() -> int | None:
    """Returns the mask without setting it, which other threads would notice; None where the system does not say it."""
    try:
        with open("/proc/self/status", "rb", buffering=0) as file:  # noqa: PTH123  # as above
            text = file.read(1 << 12)
    except OSError:
        return None
    at = text.find(UMASK)
    return int(text[at + len(UMASK) :].split(None, 1)[0], 8) if at >= 0 else None


def import_path(path: list[Any]) -> list[str]:
    """Returns `sys.path` for a process, which may be in another folder by the time at which it imports.

    What is no string is ignored by every import, and what is no file stands for an import hook.
    """
    return [_absolute(entry) for entry in path if isinstance(entry, str)]


def _absolute(entry: str) -> str:
    if Path(entry).is_absolute():
        return entry
    try:
        path = Path(entry).absolute()
        return str(path) if path.exists() else entry
    except OSError:  # the current folder is gone
        return entry
