"""What others have written, or would write, imported so that the tests of this process do not notice."""

import copyreg
import importlib.util
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name):
    """Returns an example, imported as a module."""
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def imported_distributed():
    """Returns `distributed`, or skips; without the way to pickle exceptions that it sets for all classes it finds."""
    before = copyreg.dispatch_table.copy()
    try:
        return pytest.importorskip("distributed", reason="distributed cannot be imported here")
    finally:
        for cls in copyreg.dispatch_table.keys() - before.keys():
            if issubclass(cls, BaseException):
                del copyreg.dispatch_table[cls]
