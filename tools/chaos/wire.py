"""A wire between a host and one of its servers, that can be cut: a TCP relay that passes nothing on meanwhile.

A cut connection looks as it does across a broken network: it stays open, nothing arrives, and nothing is lost if the
network comes back before either side has given up.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any

CHUNK = 65_536
Opener = Callable[[], Coroutine[Any, Any, tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


def to_port(port: int) -> Opener:
    """Opens connections to a port of this machine."""
    return lambda: asyncio.open_connection("127.0.0.1", port)


def to_socket(path: str) -> Opener:
    """Opens connections to a Unix socket."""
    return lambda: asyncio.open_unix_connection(path)


class Wires:
    """The wires of one host, all of which are cut and mended together. Each has a port of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._open = asyncio.Event()
        self._open.set()
        self._servers: list[asyncio.Server] = []
        self._thread = threading.Thread(target=self._loop.run_forever, name="wires", daemon=True)
        self._thread.start()

    def lay(self, opener: Opener) -> int:
        """Lay a wire to a server; the port at which the host reaches it."""

        async def listen() -> int:
            server = await asyncio.start_server(lambda *ends: self._relay(*ends, opener), "127.0.0.1", 0)
            self._servers.append(server)
            port: int = server.sockets[0].getsockname()[1]
            return port

        return asyncio.run_coroutine_threadsafe(listen(), self._loop).result(10)

    def cut(self) -> None:
        """From now on nothing gets through, in either direction."""
        self._loop.call_soon_threadsafe(self._open.clear)

    def mend(self) -> None:
        """Everything gets through again, also what was held."""
        self._loop.call_soon_threadsafe(self._open.set)

    def close(self) -> None:
        """Give the ports back."""

        async def end() -> None:
            for server in self._servers:
                server.close()
            rest = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, opener: Opener) -> None:
        with contextlib.suppress(OSError):
            await self._open.wait()
            try:
                other_reader, other_writer = await opener()
            except OSError:
                writer.transport.abort()
                raise
            await asyncio.gather(self._pass_on(reader, other_writer), self._pass_on(other_reader, writer))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(CHUNK):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
            await self._open.wait()
        except OSError:
            await self._open.wait()
        finally:
            writer.close()
