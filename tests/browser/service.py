"""A service with a page: in a thread of the tests, which can reach into it, or as a program that ends by signals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import threading
import time
from queue import SimpleQueue
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, current_context, dashboard

LIMIT = 30.0
"""Seconds that a step of a test may take: far more than any needs, so that a busy machine fails none."""

QUICK = EscalationPolicy(Ask(0.3), Inject(15))
"""Gives an injection the time that it needs on a busy machine; where it strikes, the climb is over."""

OBEYS = EscalationPolicy(Ask(15))
"""Gives who obeys the time for it, on any machine."""

GIVEN_UP = EscalationPolicy(Ask(0.3), Inject(0.3))
"""For those that nothing ends."""


# ------------------------------------------------------------------------------------------------ workers


def obedient(ctx: Any) -> None:
    ctx.stop.wait()


def wait_for_stop() -> None:
    current_context().stop.wait()


def spinner(ctx: Any) -> None:
    def spin_for_ever() -> None:
        while True:
            time.sleep(0.005)

    spin_for_ever()


def deaf(ctx: Any) -> None:
    SimpleQueue().get()


def failing(ctx: Any) -> None:
    raise ValueError("<b>no</b> such & so")


# ------------------------------------------------------------------------------------------------ the application


def application(sup: Supervisor, *, actions: bool = False, begun: Any = None) -> Starlette:
    """An application that lives as long as its supervisor, whose page is at /supervisor/."""

    @contextlib.asynccontextmanager
    async def lifespan(app):
        async with sup:
            if begun is not None:
                await begun(app)
            yield
            print(f"lifespan ends at {time.monotonic():.3f}", flush=True)
        if begun is not None:
            print(sup.report, flush=True)

    return Starlette(lifespan=lifespan, routes=[Mount("/supervisor", dashboard.app(sup, actions=actions))])


class Service:
    """A service under uvicorn, in a thread of this process.

    It waits for all connections before it ends, as uvicorn does by default: a page that is open must not keep it.
    """

    def __init__(self, *, actions: bool = False, name: str = "shop", **options: Any) -> None:
        self.sup = Supervisor(name, **{"policy": QUICK, "max_threads": 4, **options})
        self._listening = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(application(self.sup, actions=actions), lifespan="on", ws="none", log_level="critical")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="service")
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}"

    @property
    def url(self) -> str:
        return f"{self.origin}/supervisor/"

    def __enter__(self) -> Self:
        self._thread.start()
        until = time.monotonic() + LIMIT
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > until:
                self._listening.close()
                raise AssertionError("it does not serve")
            time.sleep(0.005)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(LIMIT)
        self._listening.close()
        assert not self._thread.is_alive(), "it does not end"

    def _serve(self) -> None:
        async def main() -> None:
            self._loop = asyncio.get_running_loop()
            await self._server.serve(sockets=[self._listening])

        asyncio.run(main())

    # -------------------------------------------------------------------------------- what it does

    def do(self, function: Any, *args: Any, **options: Any) -> Any:
        """Calls a function of the supervisor, or awaits it, in the service's loop; returns the result."""

        async def done() -> Any:
            result = function(*args, **options)
            return await result if asyncio.iscoroutine(result) else result

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(LIMIT)

    def background(self, coroutine: Any) -> Any:
        """Begins a coroutine in the service's loop; returns its future."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def start(self, function: Any, **options: Any) -> Any:
        if function is obedient:
            options.setdefault("policy", OBEYS)
        return self.do(self.sup.start, function, **options)

    def call_many(self, number: int) -> None:
        """Makes calls, most of which have to wait."""

        async def call_all() -> None:
            for each in range(number):
                self._calls.append(asyncio.ensure_future(self.sup.run(wait_for_stop, name=f"call-{each}")))
            await asyncio.sleep(0)

        self._calls: list[Any] = []
        self.do(call_all)

    def start_many(self, number: int) -> None:
        async def start_all() -> None:
            await asyncio.gather(
                *(self.sup.start(obedient, name=f"worker-{each}", policy=OBEYS) for each in range(number))
            )

        self.do(start_all)

    def submit(self, function: Any, *args: Any, **options: Any) -> None:
        """Makes a call, for whose result nobody waits."""
        self.sup.executor(**options).submit(function, *args)

    def shut_down(self) -> None:
        self.do(self.sup.request_shutdown, reason="a test")


# ------------------------------------------------------------------------------------------------ as a program


def main() -> None:
    """Serves on PORT until a signal comes. uvicorn then waits for all connections, without any limit."""
    sup = Supervisor("shop", policy=QUICK)

    async def begun(app):
        await sup.start(obedient, name="obedient", policy=OBEYS)
        await sup.start(spinner, name="spinner")
        await sup.start(deaf, name="deaf", policy=GIVEN_UP)

    app = application(sup, begun=begun)
    uvicorn.run(app, port=int(os.environ["PORT"]), ws="none", log_level="warning")


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.exit(main())
