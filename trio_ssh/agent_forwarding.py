"""Forwarding an agent: a session elsewhere uses the keys that stay here.

The client asks for it by `Channel.request_forward_agent` and serves the channels that the server then opens; the server
offers its session a socket, whose connections become such channels.

Source: OpenSSH's ``auth-agent-req@openssh.com`` and ``auth-agent@openssh.com``; draft-ietf-sshm-ssh-agent.
"""

from __future__ import annotations

import contextlib
import logging
import os
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from trio_ssh.agent import Agent
from trio_ssh.agent_server import listening_socket
from trio_ssh.errors import AgentException, RemoteProtocolError, SSHException
from trio_ssh.runtime.block import bare_nursery
from trio_ssh.runtime.channel import Channel
from trio_ssh.runtime.transport import Transport
from trio_ssh.session import ServerProcess

_log = logging.getLogger("trio_ssh.agent")


def forwarded_agent(path: str | os.PathLike[str] | None = None) -> Callable[[Channel], Awaitable[None]]:
    """Make what serves forwarded channels from a running agent, for `Channel.request_forward_agent`.

        await channel.request_forward_agent(trio_ssh.forwarded_agent())

    Args:
        path: where the agent is, as for `Agent`; None for the user's.

    The agent is told which host it is forwarded to, so that keys for some destinations are kept from the others.  A
    channel is closed at once where there is no agent.
    """

    async def serve(channel: Channel) -> None:
        transport = channel.get_transport()
        assert isinstance(transport, Transport), "there is no other link"
        if transport.gss_kex_used:
            # Its host key has signed nothing, so no agent can be told which host it is: it would take the server's
            # programs for local ones, and let them use keys that are not for that host.
            _log.warning("the agent was not forwarded: a key exchange by GSS-API proves nothing to it")
            return
        async with Agent(path) as agent:
            try:
                # An agent that knows nothing of it has no keys for some destinations either.
                with contextlib.suppress(AgentException):
                    await agent.bind_session(transport, is_forwarding=True)
                stream = await agent._connected()
            except (AgentException, RemoteProtocolError) as error:
                _log.warning("an agent could not be forwarded: %s", error)
                return
            await relay(channel, stream)

    return serve


async def relay(one: trio.abc.Stream, other: trio.abc.Stream) -> None:
    """Pass bytes both ways until either side ends: half a connection to an agent is of no use."""
    async with bare_nursery() as nursery:

        async def pump(source: trio.abc.Stream, target: trio.abc.Stream) -> None:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                while data := await source.receive_some():
                    await target.send_all(data)
            nursery.cancel_scope.cancel()

        nursery.start_soon(pump, one, other)
        nursery.start_soon(pump, other, one)


@asynccontextmanager
async def agent_socket(process: ServerProcess) -> AsyncGenerator[str, None]:
    """Listen, for as long as the block lasts, where the session's programs look for an agent: yield the path.

        async with trio_ssh.agent_socket(process) as path:
            await trio.run_process(["ssh-add", "-l"], env={"SSH_AUTH_SOCK": path})

    Args:
        process: a session whose client forwards its agent: see `ServerProcess.forwards_agent`.

    Only this user can connect to it, and root.
    """
    directory = Path(tempfile.mkdtemp(prefix="ssh-"))  # nobody else may enter it
    path = directory / "agent"

    async def serve(stream: trio.abc.Stream) -> None:
        async with stream:
            try:
                channel = await process.open_agent()
            except (SSHException, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                # Too many at once, or the client refuses: the program is hung up on, and the session goes on.
                _log.info("a client's agent could not be reached: %s", error)
                return
            async with channel:
                await relay(stream, channel)

    try:
        with listening_socket(path) as listener:

            async def accept(task_status: trio.TaskStatus[None]) -> None:  # noqa: ASYNC114 -- it is started here alone
                # A listener that breaks does so in a group of trio's.
                async with bare_nursery() as accepting:
                    await accepting.start(trio.serve_listeners, serve, [listener])
                    task_status.started()

            async with bare_nursery(keeps_groups=True) as nursery:
                await nursery.start(accept)
                yield str(path)
                nursery.cancel_scope.cancel()
    finally:
        os.rmdir(directory)
