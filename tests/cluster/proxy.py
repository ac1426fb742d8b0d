"""A proxy between an owner and a node, which stands for the network: it is cut, slow, or breaks connections."""

import asyncio
import socket
import struct

MOST = 100
"""Pieces that are on their way at once, in one direction."""


class Network:
    """What lies between an owner and a node. On the test's loop.

    Attributes:
        address: Where it listens, as the node's contact address.
        cut: What is cut now: "up", to the node, and "down", from it.
        delay: Seconds that all is on its way; more may follow meanwhile.
    """

    def __init__(self, node_port):
        self._node_port = node_port
        self._pairs = set()
        self._tasks = set()
        self._flowing = {"up": asyncio.Event(), "down": asyncio.Event()}
        self._server = None
        self.delay = 0.0
        self.mend()

    async def __aenter__(self):
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_):
        self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.05)  # transports close in the loop's next turns

    def cut(self, *directions):
        """Lets nothing through any more; whoever has written does not hear of it."""
        for direction in directions or ("up", "down"):
            self._flowing[direction].clear()

    def mend(self):
        """Lets through what waits, and what comes."""
        for flowing in self._flowing.values():
            flowing.set()

    def reset(self):
        """Breaks all connections, in a way that both ends hear of."""
        for writer in list(self._pairs):
            with_rst = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, with_rst)
            writer.transport.abort()
        self._pairs.clear()

    async def _accept(self, reader, writer):
        task = asyncio.current_task()
        self._tasks.add(task)
        node_writer = None
        try:
            await self._flowing["up"].wait()
            node_reader, node_writer = await asyncio.open_connection("127.0.0.1", self._node_port)
            self._pairs |= {writer, node_writer}
            await asyncio.gather(
                self._forward(reader, node_writer, self._flowing["up"]),
                self._forward(node_reader, writer, self._flowing["down"]),
            )
        except* OSError:
            pass
        finally:
            for one in (writer, node_writer):
                if one is not None:
                    one.transport.abort()
                    self._pairs.discard(one)

    async def _forward(self, reader, writer, flowing):
        on_its_way = asyncio.Queue(MOST)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._deliver(on_its_way, writer, flowing))
            while data := await reader.read(1 << 16):
                await on_its_way.put((asyncio.get_running_loop().time() + self.delay, data))
            await on_its_way.put((0.0, b""))

    async def _deliver(self, on_its_way, writer, flowing):
        data = b"begin"
        while data:
            due, data = await on_its_way.get()
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            await flowing.wait()
            writer.write(data)
            await writer.drain()
        writer.transport.abort()
