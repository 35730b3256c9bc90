from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from http import HTTPStatus

import pytest

from flanneld_py.http import HttpServer, Limits, Request, Response

QUICK = Limits(read_seconds=0.2, write_seconds=0.2, linger_seconds=0.1, connections=4)
PATIENT = Limits(read_seconds=30, write_seconds=30, linger_seconds=30, connections=4)


class Echo:
    """A handler that answers what it was asked, and remembers it."""

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.body = b"hello\n"

    def __call__(self, request: Request) -> Response:
        self.requests.append(request)
        if request.path == "/broken":
            raise KeyError("a fault of ours")
        if request.path == "/no":
            return Response(status=HTTPStatus.METHOD_NOT_ALLOWED, allow="GET")
        return Response(body=self.body)


@pytest.fixture
def echo() -> Echo:
    return Echo()


class Client:
    """Opens connections to a server under test, and closes what is left of them."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._writers: list[asyncio.StreamWriter] = []

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers.append(writer)
        return reader, writer

    async def ask(self, request: bytes) -> bytes:
        async with asyncio.timeout(5):
            reader, writer = await self.open()
            writer.write(request)
            answer = await reader.read()
            writer.close()
            return answer

    async def aclose(self) -> None:
        for writer in self._writers:
            writer.transport.abort()
            await asyncio.gather(writer.wait_closed(), return_exceptions=True)


async def serve(echo: Echo, limits: Limits) -> tuple[HttpServer, Client]:
    listening = socket.create_server(("127.0.0.1", 0))
    server = HttpServer(echo, limits=limits, name="test")
    await server.serve(listening)
    return server, Client(listening.getsockname()[1])


@pytest.fixture
async def client(echo: Echo) -> AsyncIterator[Client]:
    server, client = await serve(echo, PATIENT)
    yield client
    await server.aclose()
    await client.aclose()


@pytest.fixture
async def quick(echo: Echo) -> AsyncIterator[Client]:
    server, client = await serve(echo, QUICK)
    yield client
    await server.aclose()
    await client.aclose()


def head(answer: bytes) -> bytes:
    return answer.partition(b"\r\n")[0]


async def test_a_request_is_answered_and_the_connection_closed(client: Client, echo: Echo) -> None:
    answer = await client.ask(b"GET /a/b?c=d HTTP/1.1\r\nHost: x\r\n\r\n")
    assert answer == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 6\r\n"
        b"Cache-Control: no-store\r\nConnection: close\r\n\r\nhello\n"
    )
    assert echo.requests == [Request(method="GET", path="/a/b", query="c=d")]


async def test_head_has_the_length_and_no_body(client: Client) -> None:
    answer = await client.ask(b"HEAD / HTTP/1.0\r\n\r\n")
    assert b"Content-Length: 6\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_405_names_the_methods_that_would_be_right(client: Client) -> None:
    answer = await client.ask(b"PUT /no HTTP/1.1\r\n\r\n")
    assert head(answer) == b"HTTP/1.1 405 Method Not Allowed"
    assert b"Allow: GET\r\n" in answer


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"GET / HTTP/2.0", b"505"),
        (b"GET /", b"400"),
        (b"GET  / HTTP/1.1", b"400"),
        (b"GET http://x/ HTTP/1.1", b"400"),
        (b"G\xffT / HTTP/1.1 x", b"400"),
        (b"", b"400"),
    ],
)
async def test_nonsense_is_refused(
    client: Client, echo: Echo, request_line: bytes, status: bytes
) -> None:
    answer = await client.ask(request_line + b"\r\n\r\n")
    assert head(answer).split()[1] == status
    assert echo.requests == []


async def test_a_request_that_is_too_long_is_refused(client: Client) -> None:
    answer = await client.ask(b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000 + b"\r\n\r\n")
    assert head(answer) == b"HTTP/1.1 431 Request Header Fields Too Large"


async def test_a_body_that_nobody_asked_for_does_not_spoil_the_answer(client: Client) -> None:
    answer = await client.ask(b"POST / HTTP/1.1\r\n\r\n" + b"x" * 30_000)
    assert head(answer) == b"HTTP/1.1 200 OK"


async def test_a_client_that_sends_too_slowly_is_told_so(quick: Client) -> None:
    answer = await quick.ask(b"GET / HTT")
    assert head(answer) == b"HTTP/1.1 408 Request Timeout"


async def test_a_client_that_goes_without_asking_is_let_go(client: Client, echo: Echo) -> None:
    reader, writer = await client.open()
    writer.write_eof()
    assert await reader.read() == b""
    assert echo.requests == []


async def test_a_client_that_does_not_read_is_cut_off(quick: Client, echo: Echo) -> None:
    echo.body = b"x" * 50_000_000
    _, writer = await quick.open()
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    assert await cut_off(writer)


async def ended(reader: asyncio.StreamReader) -> bool:
    """Whether the server ends the connection without an answer."""
    try:
        return await asyncio.wait_for(reader.read(1), 5) == b""
    except ConnectionResetError:
        return True


async def cut_off(writer: asyncio.StreamWriter) -> bool:
    """Whether the server ends the connection, though nothing is read from it."""
    async with asyncio.timeout(5):
        while True:
            try:
                writer.write(b"x")
                await writer.drain()
            except OSError:
                return True
            await asyncio.sleep(0.01)


async def test_slow_clients_hold_up_nobody(client: Client) -> None:
    idle = [await client.open() for _ in range(50)]
    for _ in range(5):
        assert head(await client.ask(b"GET / HTTP/1.1\r\n\r\n")) == b"HTTP/1.1 200 OK"
    # The oldest ones made room.
    for reader, _ in idle[:47]:
        assert await ended(reader)


async def test_a_fault_in_the_handler_ends_one_connection_and_is_logged(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    assert await client.ask(b"GET /broken HTTP/1.1\r\n\r\n") == b""
    assert head(await client.ask(b"GET / HTTP/1.1\r\n\r\n")) == b"HTTP/1.1 200 OK"
    assert "connection failed server=test" in caplog.text


async def test_closing_ends_open_connections_and_can_be_repeated(echo: Echo) -> None:
    server, client = await serve(echo, PATIENT)
    reader, _ = await client.open()
    assert head(await client.ask(b"GET / HTTP/1.1\r\n\r\n")) == b"HTTP/1.1 200 OK"
    await server.aclose()
    assert await ended(reader)
    with pytest.raises(ConnectionRefusedError):
        await client.open()
    await server.aclose()
    await client.aclose()
