"""The services of the examples, each a process of its own with real signals."""

from __future__ import annotations

import http.client
import sys
from contextlib import closing, contextmanager
from signal import SIGINT, SIGTERM
from typing import TYPE_CHECKING, NamedTuple

import pytest

from tests.examples.servers import EXAMPLES, LOGGED, PATIENT, answer, example, started

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from signal import Signals

    from tests.examples.servers import Server

pytestmark = pytest.mark.timeout(180)

WORKERS = dict.fromkeys(("poller", "spinner", "sleeper"), "running")
CALL = r"worker\.running .*worker=sleep-4"

ENDS_SLEEPS = sys.version_info >= (3, 15)
STUCK = "(injected|abandoned)" if ENDS_SLEEPS else "abandoned"
WITH_THE_CALL = (
    "1 stopped, (2 injected, 1|1 injected, 2) abandoned" if ENDS_SLEEPS else "1 stopped, 1 injected, 2 abandoned"
)
"""The call sleeps, and the ladder may end that."""


class Service(NamedTuple):
    file: str
    loop: str = "asyncio"
    after_sigterm: int = 0

    def status(self, number: Signals) -> int:
        """The exit status after a signal."""
        return self.after_sigterm if number is SIGTERM else 0


# At its end uvicorn raises the signals again that it got: the process dies of SIGTERM; Ctrl-C is caught.
FASTAPI = Service("fastapi_app.py", "asyncio", -SIGTERM)
FASTAPI_ON_UVLOOP = Service("fastapi_app.py", "uvloop", -SIGTERM)
LITESTAR = Service("litestar_app.py", "asyncio", -SIGTERM)
AIOHTTP = Service("aiohttp_app.py")
QUART = Service("quart_app.py")
PLAIN = Service("plain_asyncio.py")


def each_service(*services: Service, seldom: Sequence[Service] = ()) -> pytest.MarkDecorator:
    """Runs a test for each, for those that come seldom in the long campaigns alone."""
    late = (FASTAPI_ON_UVLOOP, *seldom)
    return pytest.mark.parametrize(
        "service",
        [pytest.param(one, marks=pytest.mark.slow if one in late else ()) for one in (*services, *seldom)],
        ids=lambda service: f"{service.file}-{service.loop}",
    )


# That each service ends on the one loop at the one signal is held by every run of the tests.
each_loop = pytest.mark.parametrize("loop", ["asyncio", pytest.param("uvloop", marks=pytest.mark.slow)])
each_signal = pytest.mark.parametrize(
    "number", [SIGTERM, pytest.param(SIGINT, marks=pytest.mark.slow)], ids=lambda number: number.name
)


def with_graces(seconds: float) -> str:
    """Gives an example other graces."""
    return f"""
ask, inject = Ask({seconds}), Inject({seconds})
supervisor.Ask, supervisor.Inject = lambda _: ask, lambda _: inject
"""


@contextmanager
def serving(service: Service, *, grace: float | None = None) -> Iterator[Server]:
    before = LOGGED if grace is None else LOGGED + with_graces(grace)
    with started(*example(EXAMPLES / service.file, before=before), loop=service.loop) as server:
        if service is PLAIN:
            server.until_written("^running; ")
            server.until(server.awaits_signals)
        else:
            server.until(lambda: server.workers() == WORKERS)
        yield server


@contextmanager
def in_flight(server: Server, seconds: float) -> Iterator[http.client.HTTPConnection]:
    """A request whose call has begun, and sleeps for so long."""
    with closing(server.request(f"/nap/{seconds}")) as connection:
        server.until_written(CALL)
        yield connection


def assert_report(server: Server, counts: str = "1 stopped, 1 injected, 1 abandoned", took: str = r"\d+\.\d+") -> None:
    for line in (
        rf"^shutdown.* took {took} s: {counts}$",
        r"^poller +thread +stopped +ask ",
        r"^spinner +thread +injected +inject ",
        r"^sleeper +thread +abandoned +inject ",
        r"^sleeper was last seen at:$",
        r"^ +SimpleQueue\(\)\.get\(\)",
    ):
        assert server.has_line(line), f"no {line}:\n{server.output}"


# ------------------------------------------------------------------------------------------------ one signal


@each_signal
@each_service(FASTAPI, FASTAPI_ON_UVLOOP, LITESTAR, AIOHTTP, QUART, PLAIN)
def test_a_signal_ends_the_service_and_the_report_names_each_worker(service: Service, number: Signals) -> None:
    with serving(service) as server:
        if service is not PLAIN:
            assert server.get("/nap/0.01")[0] == 200
        server.send(number)
        assert server.end() == service.status(number)
        assert_report(server)
        assert "Traceback" not in server.output


# ------------------------------------------------------------------------------------------------ requests in flight


@each_service(FASTAPI, FASTAPI_ON_UVLOOP, AIOHTTP, seldom=(LITESTAR, QUART))
def test_a_request_that_ends_in_time_is_answered_before_the_workers_are_stopped(service: Service) -> None:
    with serving(service) as server, in_flight(server, 1) as request:
        server.send(SIGTERM)
        assert answer(request)[0] == 200
        assert server.end() == service.status(SIGTERM)
        assert_report(server)  # its call had ended: it is not in there


@each_service(FASTAPI, FASTAPI_ON_UVLOOP, LITESTAR)
def test_uvicorn_cancels_a_request_that_is_stuck_and_the_report_names_its_call(service: Service) -> None:
    with serving(service) as server, in_flight(server, 3600) as request:
        server.send(SIGTERM)
        assert answer(request)[0] == 500
        assert server.end() == service.status(SIGTERM)
        assert server.has_line("timeout graceful shutdown exceeded")
        assert server.has_line(f"^sleep-4 +thread +{STUCK} ")
        assert_report(server, WITH_THE_CALL)


def test_quart_answers_a_request_whose_stuck_call_the_supervisor_ends() -> None:
    with serving(QUART) as server, in_flight(server, 3600) as request:
        server.send(SIGTERM)
        assert answer(request)[0] == 500
        assert server.end() == 0
        assert server.has_line(f"^sleep-4 +thread +{STUCK} ")
        assert_report(server, WITH_THE_CALL)


def test_aiohttp_drops_a_request_that_is_stuck_and_the_report_names_its_call() -> None:
    with serving(AIOHTTP) as server, in_flight(server, 3600) as request:
        server.send(SIGTERM)
        with pytest.raises(http.client.RemoteDisconnected):
            answer(request)
        assert server.end() == 0
        assert server.has_line(f"^sleep-4 +thread +{STUCK} ")
        assert_report(server, WITH_THE_CALL)


# ------------------------------------------------------------------------------------------------ a second signal


@each_signal
@each_service(FASTAPI, FASTAPI_ON_UVLOOP)
def test_a_second_signal_while_uvicorn_ends_the_lifespan_changes_nothing(service: Service, number: Signals) -> None:
    with serving(service, grace=3) as server:
        server.send(SIGINT)
        server.until_written("supervisor.stopping")
        server.send(number)
        assert server.end() == service.status(number)
        assert_report(server)


@each_signal
def test_a_second_signal_while_aiohttp_cleans_up_does_not_cut_the_shutdown_short(number: Signals) -> None:
    with serving(AIOHTTP, grace=3) as server:
        server.send(SIGTERM)
        server.until_written("supervisor.stopping")
        server.send(number)
        assert server.end() == 1  # aiohttp lets the second one through as a SystemExit, past the printing of the report
        assert server.has_line("supervisor.stopped .*counts={'stopped': 1, 'injected': 1, 'abandoned': 1}")


WITHIN_SECONDS = r"\d\.\d+"  # else it takes 20, the `shutdown_timeout`


def until_only_the_sleeper_is_left(server: Server) -> None:
    """A second would not do for the others on each machine."""
    for name in ("poller", "spinner"):
        server.until_written(rf"worker\.ended .*worker={name}\b")


@each_signal
def test_a_second_signal_on_plain_asyncio_leaves_the_shutdown_one_second(number: Signals) -> None:
    with serving(PLAIN, grace=3600) as server:
        server.send(SIGTERM)
        until_only_the_sleeper_is_left(server)
        server.send(number)
        assert server.end() == 0
        assert_report(server, took=WITHIN_SECONDS)


# ------------------------------------------------------------------------------------------------ wait_for_signal

IN_THE_LIFESPAN = """
import asyncio, contextlib, fastapi_app, uvicorn

async def stop_at_signal(sup):
    number = await sup.wait_for_signal()
    print("waited for", number.name, flush=True)
    sup.request_shutdown(number.name)

@contextlib.asynccontextmanager
async def lifespan(app):
    async with fastapi_app.lifespan(app) as state:
        task = asyncio.create_task(stop_at_signal(state["sup"]))
        yield state
        await task

fastapi_app.app.router.lifespan_context = lifespan
uvicorn.run(fastapi_app.app, port=int(os.environ["PORT"]), loop=os.environ["LOOP"])
"""
"""A task of FastAPI's lifespan waits for the signal as well; uvicorn is given no `timeout_graceful_shutdown`."""


@contextmanager
def waiting(loop: str, grace: float) -> Iterator[Server]:
    with started("-c", PATIENT + LOGGED + with_graces(grace) + IN_THE_LIFESPAN, loop=loop) as server:
        server.until(lambda: server.workers() == WORKERS)
        yield server


@each_signal
@each_loop
def test_uvicorn_and_a_task_that_waits_both_see_the_signal(loop: str, number: Signals) -> None:
    with waiting(loop, grace=0.5) as server, in_flight(server, 3600) as request:
        server.send(number)
        assert answer(request)[0] == 500  # uvicorn waits for it, and the supervisor ends it
        assert server.end() == FASTAPI.status(number)
        assert server.has_line(f"^waited for {number.name}$")
        assert server.has_line(r"^INFO: +Application shutdown complete")
        assert server.has_line(rf"^shutdown \({number.name}\) took ")
        assert_report(server, WITH_THE_CALL)


@each_loop
def test_a_second_sigterm_leaves_the_shutdown_one_second_under_uvicorn_too(loop: str) -> None:
    with waiting(loop, grace=3600) as server, in_flight(server, 3600):
        server.send(SIGTERM)
        until_only_the_sleeper_is_left(server)
        server.send(SIGTERM)  # at a Ctrl-C, uvicorn would leave the lifespan's end out
        assert server.end() == -SIGTERM
        assert_report(server, WITH_THE_CALL, took=WITHIN_SECONDS)
