"""Libraries of others, imported so that the tests of this process do not notice."""

import copyreg

import pytest


def imported_distributed():
    """Returns `distributed`, or skips; without the way to pickle exceptions that it sets for all classes it finds."""
    before = copyreg.dispatch_table.copy()
    try:
        return pytest.importorskip("distributed", reason="distributed cannot be imported here")
    finally:
        for cls in copyreg.dispatch_table.keys() - before.keys():
            if issubclass(cls, BaseException):
                del copyreg.dispatch_table[cls]
