"""A TCP forwarder between a client and a server on loopback, which can lose what it carries."""

from __future__ import annotations

import asyncio
from types import TracebackType


class TcpProxy:
    """Forwards to one port. Used as an async context."""

    def __init__(self, target: int) -> None:
        self.accepted = 0
        """How many connections were made so far."""
        self.port = 0
        self._target = target
        self._server: asyncio.Server | None = None
        self._silent = False
        self._mute: set[int] = set()
        self._marked = b""
        self._silent_after = False
        self._streams: list[asyncio.StreamWriter] = []
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> TcpProxy:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.refuse()

    async def refuse(self) -> None:
        """Cut every connection, and refuse new ones."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for stream in self._streams:
            stream.close()
        await asyncio.gather(*(s.wait_closed() for s in self._streams), return_exceptions=True)
        self._streams.clear()

    def silence(self) -> None:
        """Carry nothing any more, in neither direction; connections stay and are still taken."""
        self._silent = True

    def lose_answer_to(self, request: bytes, *, and_all_after: bool = False) -> None:
        """Carry the next request that holds these bytes, but none of the connection's answers.

        Later connections work, unless `and_all_after`.
        """
        self._marked = request
        self._silent_after = and_all_after

    def heal(self) -> None:
        """Carry what comes from now on, on new connections."""
        self._silent = False

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        self._streams.append(writer)
        if self._silent:
            return
        there, back = await asyncio.open_connection("127.0.0.1", self._target)
        self._streams.append(back)
        number = self.accepted
        for source, sink, answers in ((reader, back, False), (there, writer, True)):
            task = asyncio.create_task(self._carry(source, sink, number, answers=answers))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        number: int,
        *,
        answers: bool,
    ) -> None:
        broken = False
        try:
            while data := await source.read(65536):
                # Once something was lost, the rest of the stream makes no sense to anybody.
                broken = broken or self._silent or (answers and number in self._mute)
                marked = not answers and self._marked and self._marked in data
                if marked:
                    self._mute.add(number)
                    self._marked = b""
                if not broken:
                    sink.write(data)
                    await sink.drain()
                if marked:
                    self._silent = self._silent_after
        except ConnectionError:
            pass
        finally:
            sink.close()
