"""Where the main module of this program is, for worker processes that must find functions of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

__all__ = ["is_nowhere", "whereabouts"]

TYPED = "given by `python -c` or typed into a shell or a notebook"


def whereabouts() -> dict[str, str]:
    """Returns its "name", or the "path" of its file, folder or archive; or what it is, where it is "nowhere" at all.

    Nothing of this where the program is frozen: its processes run it themselves.
    """
    module: Any = sys.modules.get("__main__")
    if module is None:  # this Python is part of another program
        return {"nowhere": TYPED}
    sys.modules.setdefault("__mp_main__", module)  # what processes make of its classes goes by this name
    if getattr(sys, "frozen", False):
        return {}
    spec, path = getattr(module, "__spec__", None), getattr(module, "__file__", None)
    shell = hasattr(sys, "ps1") and not sys.flags.interactive
    if spec is not None and shell:  # python -m asyncio, or that of 3.13: what is typed is not of that module
        return {"nowhere": TYPED}
    if spec is not None and spec.name != "__main__":
        return {"name": spec.name}
    if spec is not None and spec.origin is not None:  # python folder, python archive.zip
        return {"path": str(Path(spec.origin).absolute().parent)}
    if path is None:
        return {"nowhere": TYPED}
    if str(path).startswith("<"):
        return {"nowhere": "read from the standard input"}
    return {"path": str(Path(path).absolute())}


def is_nowhere() -> bool:
    """Whether no process can import it."""
    return "nowhere" in whereabouts()
