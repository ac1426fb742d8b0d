"""Streams the rows of a file to clients, one of which leaves early: a generator in a thread, as an async iterator.

    python examples/stream_rows.py

The application is written as FastAPI and Starlette want it: an endpoint returns a response that takes an async iterator
of chunks. With these, `StreamingResponse(lines(...))` is all there is to it. The few lines of a response and of a
client below stand for them, so that nothing needs to be installed.

A client that goes away costs nothing more: the generator is closed in its thread, and the file with it.
"""

from __future__ import annotations

import asyncio
import csv
import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from supervisor import Iteration

ROWS = 50_000


# ------------------------------------------------------------------------------------------------ the application


def rows(path: Path) -> Iterator[dict[str, str]]:
    """Reads the file row by row. It blocks, in its own thread; a stop closes it at its `yield`."""
    with path.open(newline="", encoding="utf-8") as file:
        try:
            yield from csv.DictReader(file)
        finally:
            print("the file is closed", flush=True)


async def lines(each: Iteration[dict[str, str]]) -> AsyncIterator[bytes]:
    """Makes chunks of about a hundred rows each: a client is sent few large pieces faster than many small ones."""
    chunk: list[str] = []
    async with each:
        async for row in each:
            chunk.append(json.dumps(row))
            if len(chunk) == 100:
                yield "\n".join(chunk).encode() + b"\n"
                chunk.clear()
    if chunk:
        yield "\n".join(chunk).encode() + b"\n"


def export(sup: Supervisor, path: Path) -> StreamingResponse:
    """The endpoint: `@app.get("/export")`. At most 1,000 rows wait for a client that is slow."""
    return StreamingResponse(lines(sup.iterate(rows, path, buffer=1000, name="export")))


# ------------------------------------------------------------------------------------------------ for a framework


class StreamingResponse:
    """Sends chunks as they come, until the client has gone; then it closes what makes them."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    async def send_to(self, client: Client) -> None:
        """Sends all there is, or what the client stays for."""
        try:
            async for chunk in self._chunks:
                if not await client.take(chunk):
                    return
        finally:
            await self._chunks.aclose()  # type: ignore[attr-defined]  # it is an async generator


class Client:
    """Takes chunks, and leaves after so many rows."""

    def __init__(self, leaves_after: float = float("inf")) -> None:
        self.rows = 0
        self._leaves_after = leaves_after

    async def take(self, chunk: bytes) -> bool:
        """Takes a chunk; returns whether it stays."""
        await asyncio.sleep(0)  # the network
        self.rows += chunk.count(b"\n")
        return self.rows < self._leaves_after


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prices.csv"
        path.write_text("name,price\n" + "".join(f"item {number},{number}\n" for number in range(ROWS)))
        async with Supervisor("export") as sup:
            patient, hasty = Client(), Client(leaves_after=1000)
            await export(sup, path).send_to(hasty)
            print(f"the hasty client has taken {hasty.rows} rows; workers left: {len(sup.workers())}")
            await export(sup, path).send_to(patient)
            print(f"the patient client has taken {patient.rows} rows; workers left: {len(sup.workers())}")


if __name__ == "__main__":
    asyncio.run(main())
