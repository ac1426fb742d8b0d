"""From a supervisor to its port, for whoever is given one by the user."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .integration import Integration
from .supervisor import Supervisor

if TYPE_CHECKING:
    from .binding import Binding

__all__ = ["binding_of", "integration_of"]


def integration_of(
    supervisor: Supervisor, argument: str = "supervisor={!r}", *, no_group: str = "is a group; give its supervisor"
) -> Integration:
    """Returns the port of a supervisor. Any thread, also before its first use.

    Args:
        supervisor: What the user has given.
        argument: What messages call it, as a format string.
        no_group: Why it cannot be a group, and what to give instead.

    Raises:
        TypeError: It is no Supervisor.
        ValueError: It is a group.
    """
    return Integration(binding_of(supervisor, argument, no_group=no_group))


def binding_of(supervisor: Supervisor, argument: str, *, no_group: str) -> Binding:
    if not isinstance(supervisor, Supervisor):
        raise TypeError(f"{argument.format(supervisor)}: must be a Supervisor")
    if supervisor._scope.group is not None:
        raise ValueError(f"{argument.format(supervisor)}: {no_group}")  # noqa: TRY004  # a Supervisor it is
    return supervisor._binding
