"""Makes the socket at which a control server listens, and takes it away again."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import stat
import time
from itertools import count, islice
from pathlib import Path

from .places import SUFFIX, answers, default_folders

__all__ = ["Listener", "NoSocketError", "listen"]

LONGEST_PATH = 107
"""Bytes of the path of a socket, as the kernel takes it."""

LONGEST_NAME = 40
"""Characters of a supervisor's name in that of its socket."""

BACKLOG = 64
"""Connections that wait to be accepted."""

MOST_SWEPT = 500
"""Sockets of others that are looked at, whether their owners are dead."""

MOST_NAMESAKES = 100
"""Supervisors of the same name in one process."""

PATIENCE = 0.5
"""Seconds for which somebody else may be making a socket in the same folder."""


class NoSocketError(Exception):
    """Why there can be no socket, and what to do."""


class Listener:
    """A socket that listens, and its file.

    Attributes:
        socket: It, which does not block.
        path: Where it is.
    """

    def __init__(self, made: socket.socket, path: str) -> None:
        self.socket = made
        self.path = path
        self._pid = os.getpid()
        self._there = True
        self._identity = _identity(path)

    def remove(self) -> None:
        """Removes the file, as far as it is still this one's. Any thread; a copy in a forked process does nothing."""
        if self._there and self._pid == os.getpid():
            try:
                if _identity(self.path) == self._identity:
                    os.unlink(self.path)  # noqa: PTH108  # quicker
            except OSError:
                pass  # somebody else has removed it, or this user may not any more
            self._there = False  # only now: an interrupt before that has it tried again

    def close(self) -> None:
        self.remove()
        self.socket.close()


def listen(path: str | None, name: str) -> Listener:
    """Returns a socket that listens at a path; by default in the user's runtime directory.

    Args:
        path: Where; None: at "<process>.<name>.sock".
        name: The supervisor's.

    Raises:
        NoSocketError: There cannot be one.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        raise NoSocketError("this system does not say who connects to a socket: leave control= out here")
    try:
        return _listen_at(path) if path is not None else _listen_by_default(name)
    except OSError as error:
        raise NoSocketError(f"{error}: name another place, as control=path") from error


def _listen_by_default(name: str) -> Listener:
    folder = next(default_folders())
    _make_private(folder)
    stem = f"{os.getpid()}.{re.sub('[^A-Za-z0-9_.-]', '_', name)[:LONGEST_NAME]}"
    with _Alone(folder):
        _sweep(folder)
        for number in range(1, MOST_NAMESAKES + 1):
            path = str(folder / (f"{stem}{SUFFIX}" if number == 1 else f"{stem}.{number}{SUFFIX}"))
            _check_length(path)
            if _is_free(path):
                return _bound(path)
    raise NoSocketError(f"{folder}: has {MOST_NAMESAKES} sockets of this name; name another place, as control=path")


def _listen_at(path: str) -> Listener:
    given = Path(path).absolute()
    folder = Path(os.path.realpath(given.parent))  # the socket stays there, wherever a link leads to later
    if not folder.exists():
        folder.mkdir(0o700)
    _check_folder(folder)
    real = str(folder / given.name)
    _check_length(real)
    with _Alone(folder):
        if not _is_free(real):
            raise NoSocketError(
                f"{real}: a live process listens there already; end it, or name another place, as control=path"
            )
        return _bound(real)


def _bound(path: str) -> Listener:
    """Returns a new socket, which nobody else can connect to from the first moment on."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        os.fchmod(made.fileno(), 0o600)  # on Linux the file is made with this mode
        made.bind(path)
        listener = Listener(made, path)
    except BaseException:
        made.close()
        raise
    try:
        os.chmod(path, 0o600, follow_symlinks=os.chmod not in os.supports_follow_symlinks)  # noqa: PTH101
        made.listen(BACKLOG)  # only now: before that, nobody can connect
    except BaseException:
        listener.close()
        raise
    return listener


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _is_free(path: str) -> bool:
    """Whether nothing is at a path; removes a socket whose owner is dead."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return True
    if not stat.S_ISSOCK(found.st_mode):
        raise NoSocketError(f"{path}: is there, and is no socket: move it away, or name another place, as control=path")
    if answers(path):
        return False
    os.unlink(path)  # noqa: PTH108
    return True


def _sweep(folder: Path) -> None:
    """Removes the sockets whose owners are dead."""
    with os.scandir(folder) as entries:
        for entry in islice(entries, MOST_SWEPT):
            if entry.name.endswith(SUFFIX):
                try:
                    _is_free(entry.path)
                except (NoSocketError, OSError):
                    pass  # not ours


# ------------------------------------------------------------------------------------------------ folders


def _make_private(folder: Path) -> None:
    """Makes a folder of this user's alone; refuses one that is there and is not."""
    try:
        folder.mkdir(0o700)
    except FileExistsError:
        found = os.lstat(folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
            raise NoSocketError(
                f"{folder}: must be a folder, no link to one, of user {os.geteuid()} and with mode 0700: "
                "mend or remove it, or name another place, as control=path"
            ) from None
    _check_folder(folder)


def _check_folder(folder: Path) -> None:
    """Refuses a folder in which others could put a socket of theirs in the place of ours."""
    found = os.stat(folder)  # noqa: PTH116
    if found.st_uid not in (os.geteuid(), 0) or found.st_mode & 0o022:
        raise NoSocketError(
            f"{folder}: others may write there: use a folder of user {os.geteuid()}'s own, with mode 0700, for control="
        )
    for above in folder.resolve().parents:
        mode = os.stat(above).st_mode  # noqa: PTH116
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise NoSocketError(f"{above}: everybody may write there: use a folder elsewhere, for control=")


def _check_length(path: str) -> None:
    size = len(os.fsencode(path))
    if size > LONGEST_PATH:
        raise NoSocketError(
            f"{path}: has {size} bytes, and the path of a socket at most {LONGEST_PATH}: name a shorter one, as "
            "control=path"
        )


class _Alone:
    """Holds others back who make sockets in a folder: a socket that does not listen yet looks like that of a dead."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> None:
        self._file = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._lock()
        except BaseException:
            os.close(self._file)
            raise

    def _lock(self) -> None:
        for attempt in count():
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EINTR) or attempt * 0.01 >= PATIENCE:
                    raise NoSocketError(f"{self._folder}: cannot be locked: {error}") from error
                time.sleep(0.01)
            else:
                return

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
