"""The control groups of this process, as far as they can be seen from here. Linux, versions 1 and 2; elsewhere none.

Plain strings for paths: this takes a tenth of the time that `pathlib` takes.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["folders_of_groups", "text_of_file"]


def folders_of_groups(controller: str, root: str = "") -> list[str]:
    """Returns the folders of the groups that count for a controller: those around this process's own come before it.

    Raises:
        OSError, ValueError: There are none, as on other systems.

    Args:
        controller: Such as "cpu" or "memory". In version 2, all have the same groups.
        root: The folder in which `/proc` and all else is looked for.
    """
    return _all_folders(controller, root, text_of_file(f"{root}/proc/self/cgroup"))


def text_of_file(file: str) -> str:
    """Returns what stands in a file of the kernel's."""
    with open(file, encoding="utf-8", errors="surrogateescape") as opened:  # noqa: PTH123  # see above
        return opened.read()


@lru_cache(maxsize=8)
def _all_folders(controller: str, root: str, groups: str) -> list[str]:
    """Returns these folders. Kept, as the kernel takes some 0.2 ms to say what is mounted."""
    mounts = text_of_file(f"{root}/proc/self/mountinfo").splitlines()
    found = [_folders(controller, mount, groups.splitlines()) for mount in mounts if " - cgroup" in mount]
    return [root + folder for folders in found for folder in folders]


def _folders(controller: str, mount: str, groups: list[str]) -> list[str]:
    """Returns the folders, in a file system that is mounted, of the group that has this process, and of those around.

    Args:
        controller: That of the groups.
        mount: The line of `mountinfo`.
        groups: The lines of `cgroup`: for each hierarchy its number, its controllers and the path of the group.
    """
    where, _, what = mount.partition(" - ")
    version, _, options = what.split(" ")
    if version == "cgroup" and controller not in options.split(","):
        return []
    shown, mounted = (_unescaped(field) for field in where.split(" ")[3:5])  # what of the hierarchy is shown, and where
    folders: list[str] = []
    for line in groups:
        _, controllers, path = line.split(":", 2)
        if (not controllers) if version == "cgroup2" else (controller in controllers.split(",")):
            folders += (mounted + inner for inner in _around(path, shown))
    return folders


def _around(path: str, shown: str) -> Iterator[str]:
    """Gives the paths of a group and of those around it, from the one on that is shown as the topmost."""
    above = shown.rstrip("/")
    yield ""
    if ".." in path or not path.startswith(f"{above}/"):
        return  # it is out of sight from here
    inner = ""
    for part in path[len(above) :].split("/"):
        if part:
            inner += f"/{part}"
            yield inner


def _unescaped(field: str) -> str:
    r"""Returns a field of `mountinfo`, in which `\040` is a space."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), field)
