"""A gRPC service on grpc.aio: the supervisor lives as long as the server.

    python examples/grpc_server.py       # on PORT=50051

It has two methods, `/Workers/Nap` (a blocking call, on a thread of the pool) and `/Workers/List`; requests and
responses are JSON here, so that no code has to be generated for them.

Stop it with Ctrl-C or SIGTERM: the server waits for the calls in flight, then the supervisor shuts down. A second later
the report shows the poller as stopped, the spinner as injected and the sleeper as abandoned, and the process ends.
"""

import asyncio
import json
import os
import time
from queue import SimpleQueue
from typing import Any

import grpc

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, WorkerContext


def poll(ctx: WorkerContext) -> None:
    while not ctx.stop.wait(1):
        pass  # do the work of one round here


def spin(_ctx: WorkerContext) -> None:
    while True:
        pass


def sleep(_ctx: WorkerContext) -> None:
    SimpleQueue().get()  # a C call that never returns, as in a library that hangs


class Workers:
    """The methods of the service."""

    def __init__(self, sup: Supervisor) -> None:
        self.sup = sup

    async def nap(self, seconds: float, _context: Any) -> dict[str, str]:
        """Makes a blocking call."""
        await self.sup.run(time.sleep, seconds, timeout=60)
        return {}

    async def list(self, _request: None, _context: Any) -> dict[str, str]:
        """Says who runs at present."""
        return {worker.name: worker.state for worker in self.sup.workers()}


def handler(service: Workers) -> Any:
    def method(fn: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(
            fn, request_deserializer=json.loads, response_serializer=lambda value: json.dumps(value).encode()
        )

    return grpc.method_handlers_generic_handler("Workers", {"Nap": method(service.nap), "List": method(service.list)})


async def main() -> None:
    async with Supervisor("grpc", policy=EscalationPolicy(Ask(0.5), Inject(0.5))) as sup:
        await sup.start(poll, name="poller")
        await sup.start(spin, name="spinner")
        await sup.start(sleep, name="sleeper")
        server = grpc.aio.server(handlers=[handler(Workers(sup))])
        server.add_insecure_port(f"127.0.0.1:{os.environ.get('PORT', '50051')}")
        await server.start()
        await sup.wait_for_signal()
        await server.stop(grace=3)  # seconds; a call that is still in flight then is cancelled
    print(sup.report)


if __name__ == "__main__":
    asyncio.run(main())
