"""What of Dask the owner's side uses, whose types are not known."""

from __future__ import annotations

from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..._core.errors import described

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

__all__ = ["client_of", "connect", "security_for"]

_distributed: Any = import_module("distributed")
connect: Any = import_module("distributed.comm.core").connect


@asynccontextmanager
async def client_of(scheduler: str, security: Any, name: str, timeout: float) -> AsyncGenerator[Any]:
    """Connects to a scheduler for the time of the block.

    Raises:
        OSError, TimeoutError: It does not answer within so many seconds.
    """
    client = _distributed.Client(
        scheduler, security=security, asynchronous=True, set_as_default=False, timeout=timeout, name=name
    )
    try:
        yield await client
    finally:
        await client.close()  # also one that could not connect: else it complains once the loop has gone


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
