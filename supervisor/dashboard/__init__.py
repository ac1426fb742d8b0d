"""A page that shows a supervisor while it runs, to mount in an application of your own. The extra `dashboard`.

It shows workers, calls, pools and groups, their stacks, what they did in the last minutes, and a shutdown as it goes
on. It is an ASGI application: mount `app(sup)` at any path of FastAPI, Starlette, Litestar or Quart.
"""

from __future__ import annotations

try:
    import jinja2 as _jinja2  # noqa: F401  # pyright: ignore[reportUnusedImport]
    import starlette as _starlette  # noqa: F401  # pyright: ignore[reportUnusedImport]
except ImportError as error:
    raise ImportError(
        "supervisor.dashboard needs starlette and jinja2: install the extra stopladder[dashboard]", name=error.name
    ) from error

from .application import app

__all__ = ["app"]
