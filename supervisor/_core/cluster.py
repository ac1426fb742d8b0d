"""Pure: where the cluster of a supervisor is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["ClusterSettings"]


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """Where the cluster is, as the user has said it.

    Attributes:
        target: The scheduler's address, or what has one: a client of Dask's, or a cluster of its.
        lease: Seconds after which a node ends what it has of a supervisor that it does not hear of.
    """

    target: Any
    lease: float

    def found(self) -> tuple[str, Any]:
        """Returns the scheduler's address, and what Dask needs for TLS, if anything.

        Raises:
            ValueError: It is not known, as the client has not been started, say.
        """
        target = self.target
        if isinstance(target, str):
            return target, None
        address = getattr(getattr(target, "scheduler", None), "address", None)
        address = address or getattr(target, "scheduler_address", None)
        if not isinstance(address, str) or not address:
            raise ValueError(
                f"cluster={target!r}: has no scheduler: start it, or await it, and use it here before it is closed"
            )
        if address.startswith("inproc:"):
            raise ValueError(f"cluster={target!r}: is within this process alone, at {address}: nodes are processes")
        return address, getattr(target, "security", None)
