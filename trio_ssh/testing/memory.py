"""Two peers in one process without a socket: for users' tests, and ours.  It works under trio's autojump clock."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from functools import partial
from types import TracebackType
from typing import Any, NoReturn

import trio
import trio.testing

from trio_ssh.client import SSHClient
from trio_ssh.core.limits import DEFAULT_LIMITS, Limits
from trio_ssh.keys.ed25519 import Ed25519Key
from trio_ssh.keys.known_hosts import HostKeys
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.signer import Signer
from trio_ssh.runtime.block import Block
from trio_ssh.runtime.handshake import PromptHandler
from trio_ssh.server import checked_server, serve_stream
from trio_ssh.server_interface import ServerInterface

_MEMORY_HOST = "memory"


def memory_pair() -> tuple[trio.abc.HalfCloseableStream, trio.abc.HalfCloseableStream]:
    """Return two connected in-memory streams that break off like sockets: what one sends, the other receives.

    Closing one is EOF for the other, and what is sent to it then raises `trio.BrokenResourceError`.
    """
    return trio.testing.memory_stream_pair()


class open_memory_client:  # noqa: N801 -- called like a function, as `trio.open_nursery` is
    """A client that is logged in to a server of yours, in memory, as a block.

        async with trio_ssh.testing.open_memory_client(Greeter(), password="x") as client:
            done = await client.run_process("hello", capture_stdout=True)

    A session handler's exception, which a real server would log, leaves the block: a test must not overlook it.

    Args:
        server: what is tested.
        username, password, pkey, prompt_handler: as for `connect`; with none of the last three, a server must let in by
            ``none``.
        host_key: the server's; None for a throw-away one.  The client knows it.
        streams: client's and server's end of a connected pair, such as a lockstep or a faulty one; None for
            `memory_pair`.
        client_limits, server_limits: bounds of either side.
        kex, host_key_algorithms, ciphers, macs, compressions: what the client enables; None for the defaults.
    """

    def __init__(
        self,
        server: ServerInterface,
        *,
        username: str = "user",
        password: str | None = None,
        pkey: Signer | Sequence[Signer] | None = None,
        prompt_handler: PromptHandler | None = None,
        host_key: PKey | None = None,
        streams: tuple[trio.abc.Stream, trio.abc.Stream] | None = None,
        client_limits: Limits = DEFAULT_LIMITS,
        server_limits: Limits = DEFAULT_LIMITS,
        kex: Sequence[str] | None = None,
        host_key_algorithms: Sequence[str] | None = None,
        ciphers: Sequence[str] | None = None,
        macs: Sequence[str] | None = None,
        compressions: Sequence[str] | None = None,
    ) -> None:
        self._server = checked_server(server)
        self._block = Block()
        self._client = SSHClient()
        self._failures: list[Exception] = []
        key = host_key or Ed25519Key.generate()
        ours, theirs = streams or memory_pair()

        async def serve() -> None:
            try:
                await serve_stream(theirs, server, host_keys=[key], limits=server_limits)
            except Exception as error:
                self._failures.append(error)

        async def connect() -> None:
            known = HostKeys()
            known.add(_MEMORY_HOST, None, key.public_key)
            await self._client.connect(
                _MEMORY_HOST,
                username=username,
                password=password,
                pkey=pkey,
                look_for_keys=False,
                allow_agent=False,
                prompt_handler=prompt_handler,
                known_hosts=known,
                sock=ours,
                config=None,
                kex=kex,
                host_key_algorithms=host_key_algorithms,
                ciphers=ciphers,
                macs=macs,
                compressions=compressions,
                limits=client_limits,
            )

        own = server.handler_failed

        def handler_failed(error: Exception) -> None:
            self._failures.append(error)
            own(error)

        server.handler_failed = handler_failed  # type: ignore[method-assign] # of this server alone
        self._serve = serve
        self._connect = connect

    def __await__(self) -> Generator[Any, Any, NoReturn]:
        raise TypeError(
            "open_memory_client() opens a block that owns the connection's tasks: "
            "write `async with open_memory_client(...) as client:`"
        )

    async def __aenter__(self) -> SSHClient:
        nursery = await self._block.open()
        try:
            nursery.start_soon(self._serve, name="trio_ssh memory server")
            await self._client.__aenter__()
            try:
                await self._connect()
            except BaseException as error:
                # It has bounds of its own, here and below.
                await self._client.__aexit__(type(error), error, error.__traceback__)  # noqa: ASYNC102 -- see above
                raise
        except Exception as error:
            await self._block.close(error)  # noqa: ASYNC120 -- as below
            if self._failures:
                raise self._failures[0] from error  # why the server is not there
            raise
        except BaseException as error:
            await self._block.close(error)  # noqa: ASYNC102 -- it cancels the server, and waits for its end alone
            raise
        return self._client

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        leave = partial(self._client.__aexit__, kind, error, traceback)
        await self._block.close(error, leave)  # noqa: ASYNC102 -- the client has bounds of its own
        if self._failures:
            if error is None:
                raise self._failures[0]
            # What the test met came of it, mostly.
            error.add_note(f"the server's handler failed with {self._failures[0]!r}")
