"""What of Dask the owner's side uses, whose types are not known."""

from importlib import import_module
from typing import Any

__all__ = ["Client", "connect"]

Client: Any = import_module("distributed").Client
connect: Any = import_module("distributed.comm.core").connect
