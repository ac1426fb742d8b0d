"""The exit statuses of all commands that look into services."""

from __future__ import annotations

__all__ = ["DONE", "NOT_REACHED", "REFUSED", "UNCLEAN", "WRONG"]

DONE = 0
UNCLEAN = 1
"""There is no worker of that name; or a shutdown has lost something."""

WRONG = 2
"""The arguments are wrong, or mean more than one service. argparse has the same."""

NOT_REACHED = 3
"""There is no service, or one that was asked did not answer."""

REFUSED = 4
"""A service has refused what it was asked for, or could not do it."""

HELP = (
    "Exit status: 0, done; 1, there is no such worker, or a shutdown has lost something; 2, the arguments are wrong, "
    "or mean more than one service; 3, no service was reached, or one of them did not answer; 4, a service has refused "
    "it, or could not do it."
)
