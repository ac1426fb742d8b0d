"""In the instrumented copy of the library: each call of a function goes through `strike`, which may have it fail.

It stands alone, as a worker process imports it too, before anything else. What is to fail stands in the environment,
and so holds for the owner and for the processes that it launches; of all of them together, one call fails, or all from
there on.
"""

import _thread
import errno
import os
import traceback
from functools import partial

PLAN = "SUPERVISOR_FAULT"
"""The fault: `role|site|number|error|lasts|file`. The file is made by whichever process fails; it has the stack."""

RECORD = "SUPERVISOR_CALLS"
"""A file that gets a line for the first call of each site, the second, the fourth, and so on."""

OWNER = "SUPERVISOR_OWNER"
"""The number of the process that is the owner; all others are worker processes."""

plan = None
record = None
calls = {}
main_thread = _thread.get_ident()


def role():
    return "owner" if os.environ.get(OWNER) == str(os.getpid()) else "child"


class Plan:
    def __init__(self, text):
        whose, self.site, number, self.error, lasts, self.file = text.split("|")
        self.number = int(number) if whose == role() else None
        self.lasts = lasts == "lasts"
        self.seen = 0
        self.struck = False

    def due(self):
        if self.number is None:
            return False
        self.seen += 1
        if self.seen < self.number or (self.struck and not self.lasts):
            return False
        if self.error == "KeyboardInterrupt" and main_thread != _thread.get_ident():
            return False
        if not self.struck:
            try:
                fd = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
            except FileExistsError:
                if not self.lasts:
                    self.number = None
                    return False
            else:
                os.write(fd, where().encode())
                os.close(fd)
            self.struck = True
        return True


def where():
    """Returns the functions on the stack, the innermost first."""
    frames = reversed(traceback.extract_stack(limit=14)[:-3])
    return " < ".join(f"{os.path.basename(each.filename)}:{each.name}" for each in frames)


def arm():
    """Takes over what the environment says."""
    global plan, record
    plan = Plan(os.environ[PLAN]) if PLAN in os.environ else None
    if RECORD in os.environ and record is None:
        record = os.open(os.environ[RECORD], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    calls.clear()


def strike(site, function):
    """Returns the function; or one that fails."""
    if plan is not None:
        if site == plan.site and plan.due():
            return failing(plan.error, function)
    elif record is not None:
        count(site, function)
    return function


def count(site, function):
    number = calls[site] = calls.get(site, 0) + 1
    if number & (number - 1) == 0:
        os.write(record, f"{role()} {site} {name_of(function)} {number}\n".encode())


def failing(error, function):
    made = error_of(error)
    name = name_of(function).rpartition(".")[2]

    def fails(*args, **kwargs):
        if name in AFTERWARDS:
            function(*args, **kwargs)
        raise made

    return fails


AFTERWARDS = ("close", "waitpid")
"""What takes effect although it fails: a file is closed in any case, and somebody else has reaped a process."""


def error_of(name):
    if name.startswith("E") and hasattr(errno, name):
        return OSError(getattr(errno, name), os.strerror(getattr(errno, name)) + ", on purpose")
    return {
        "MemoryError": MemoryError,
        "RuntimeError": RuntimeError,
        "KeyboardInterrupt": KeyboardInterrupt,
    }[name]("can't start new thread, on purpose" if name == "RuntimeError" else "on purpose")


def name_of(function):
    """Returns the module and the name of a function."""
    while isinstance(function, partial):
        function = function.func
    inner = getattr(function, "__func__", function)
    its_self = getattr(function, "__self__", None)
    name = getattr(inner, "__qualname__", None) or type(inner).__qualname__
    module = getattr(inner, "__module__", None)
    if isinstance(inner, type(len)) and its_self is not None and not isinstance(its_self, type(os)):
        kind = its_self if isinstance(its_self, type) else type(its_self)
        return f"{kind.__module__}.{kind.__qualname__}.{inner.__name__}".replace(" ", "")
    if not isinstance(module, str):
        module = type(inner).__module__
    return f"{module}.{name}".replace(" ", "")


arm()
