"""Where control sockets are, and whether somebody answers there."""

from __future__ import annotations

import errno
import os
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["FOLDER", "SUFFIX", "answers", "default_folders", "is_private", "owner_of_peer", "peer_of", "sockets"]

FOLDER = "stopladder"
"""The folder in the user's runtime directory."""

SUFFIX = ".sock"


def default_folders() -> Iterator[Path]:
    """Gives the folders in which sockets are by default, the best first; each may be missing.

    They are in the user's runtime directory, or else in that for temporary files.
    """
    user = os.geteuid()
    for runtime in (Path(os.environ.get("XDG_RUNTIME_DIR", "")), Path(f"/run/user/{user}")):
        if runtime.is_absolute() and is_private(runtime):
            yield runtime / FOLDER
    from tempfile import gettempdir  # noqa: PLC0415  # hardly ever needed

    yield Path(gettempdir(), f"{FOLDER}-{user}")


def is_private(folder: Path) -> bool:
    """Whether this is a folder of this user's, no link to one, and nobody else may write into it."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def sockets() -> list[Path]:
    """Returns the control sockets of this user at which somebody answers, by default places; sorted by name.

    Those that were given a path of their own are not among them.
    """
    folders = [folder for folder in dict.fromkeys(default_folders()) if is_private(folder)]
    found = [path for folder in folders for path in _in(folder) if answers(path)]
    return sorted(found, key=lambda path: path.name)


def _in(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.name.endswith(SUFFIX) and path.is_socket()]
    except OSError:
        return []


def answers(path: str | Path) -> bool:
    """Whether a live process listens at a socket. What cannot be tried counts as live."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            return probe.connect_ex(os.fspath(path)) not in (errno.ECONNREFUSED, errno.ENOENT)
        except OSError:  # its path is too long for an address
            return True


def peer_of(connection: socket.socket) -> tuple[int, int]:
    """Returns the process and the user at the other end, as they were when it was connected, or began to listen."""
    import struct  # noqa: PLC0415  # light

    ids = struct.Struct("3i")
    pid, user, _ = ids.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, ids.size))
    return pid, user


def owner_of_peer(connection: socket.socket) -> int:
    """Returns the user at the other end."""
    return peer_of(connection)[1]
