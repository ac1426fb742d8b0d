"""What of Dask the owner's side uses, whose types are not known."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..._core.errors import described

__all__ = ["connect", "dumps", "security_for", "send_recv"]

_distributed: Any = import_module("distributed")
connect: Any = import_module("distributed.comm.core").connect
dumps: Any = import_module("distributed.protocol.pickle").dumps
send_recv: Any = import_module("distributed.core").send_recv


def security_for(scheduler: str, given: Any) -> Any:
    """Returns the certificates for talking to a scheduler: those that were given, or those of Dask's configuration.

    Raises:
        ValueError: It needs some, and there are none, or they cannot be used.
    """
    try:
        security = given or _distributed.Security()
        certificates = security.get_connection_args("client")["ssl_context"]
    except Exception as error:  # Dask's, about its configuration, and those of ssl
        raise ValueError(f"cluster={scheduler!r}: its certificates cannot be used: {described(error)}") from error
    if certificates is None and scheduler.startswith(("tls:", "wss:")):
        raise ValueError(
            f"cluster={scheduler!r}: needs certificates: give a Client(..., security=Security(...)), or name them in "
            "Dask's configuration, under distributed.comm.tls"
        )
    return security
