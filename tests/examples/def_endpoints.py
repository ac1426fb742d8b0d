"""A FastAPI app whose `def` endpoints block for an hour: `python def_endpoints.py supervised`, or `plain`."""

import asyncio
import os
import sys
import threading
import time
from contextlib import asynccontextmanager
from queue import SimpleQueue
from tempfile import SpooledTemporaryFile
from typing import Annotated

import uvicorn
from fastapi import BackgroundTasks, Depends, FastAPI, Request, UploadFile
from fastapi.responses import FileResponse

from supervisor import Ask, EscalationPolicy, Inject, Supervisor, current_context

GRACEFUL = os.environ.get("GRACEFUL")


async def stop_early(sup):
    received = await sup.wait_for_signal()
    sup.request_shutdown(received.name if received else "")


@asynccontextmanager
async def lifespan(_app):
    async with Supervisor("web", policy=EscalationPolicy(Ask(0.5), Inject(1)), shutdown_timeout=5) as sup:
        if sys.argv[1] == "supervised":
            sup.install_as_anyio_threads()
        stopping = asyncio.create_task(asyncio.Event().wait() if GRACEFUL else stop_early(sup))
        yield {"sup": sup}
        stopping.cancel()
    print(f"stopped: {sup.report}", flush=True)


app = FastAPI(lifespan=lifespan)
done = []


def name():
    try:
        return current_context().name
    except LookupError:
        return threading.current_thread().name


def opened():
    yield name()


@app.get("/event")
def event():
    threading.Event().wait(3600)


@app.get("/sleep")
def sleep():
    time.sleep(3600)


@app.get("/queue")
def queue():
    SimpleQueue().get()


@app.get("/name")
def endpoint(tasks: BackgroundTasks, got: Annotated[str, Depends(opened)]):
    tasks.add_task(note)
    return [name(), got]


def note():
    done.append(name())


@app.get("/noted")
def noted():
    return done


@app.get("/file")
def file():
    return FileResponse(__file__)


class File(SpooledTemporaryFile):
    def read(self, *args):
        done.append(name())
        return super().read(*args)


@app.get("/upload")
async def upload():
    with File(max_size=1) as file:  # as that of a request, of which the second byte goes to the disk
        received = UploadFile(file)
        await received.write(b"rows")
        await received.seek(0)
        return (await received.read()).decode()


@app.get("/workers")
async def workers(request: Request):
    return request.state.sup.stacks()


@app.get("/left")
async def left(request: Request):
    return len(request.state.sup.workers())  # those that wait included


if __name__ == "__main__":
    uvicorn.run(
        app,
        port=int(os.environ["PORT"]),
        loop=os.environ["LOOP"],
        log_level="critical",
        timeout_graceful_shutdown=int(GRACEFUL) if GRACEFUL else None,
    )
