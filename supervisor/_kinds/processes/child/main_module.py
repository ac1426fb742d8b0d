"""In a worker process: the owner's main module, imported so that functions of it can be found."""

from __future__ import annotations

import runpy
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

__all__ = ["import_main", "importing"]

importing = False
"""The owner's main module is being imported: a Supervisor in it lacks the `if __name__` guard."""


def import_main(where: dict[str, Any], why: Exception) -> None:
    """Makes the functions of the owner's main module importable, as spawned processes do.

    Args:
        where: Its name, or the path of its file, folder or archive; emptied, once it has been imported.
        why: What was not found.

    Raises:
        ImportError: It is in no file.
    """
    global importing  # noqa: PLW0603
    if "nowhere" in where:
        if "'__main__'" not in str(why):
            raise why
        raise ImportError(
            f"{why}; the owner's main module is {where['nowhere']}: no process can import that. Put the function or "
            "class into a module, or install the extra stopladder[cloudpickle], which sends it by value"
        ) from why
    module = types.ModuleType("__mp_main__")
    importing = True
    try:
        if "name" in where:
            names = runpy.run_module(where["name"], run_name="__mp_main__", alter_sys=True)
        else:
            names = runpy.run_path(where["path"], run_name="__mp_main__")
    finally:
        importing = False
    module.__dict__.update(names)
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module
    where.clear()
