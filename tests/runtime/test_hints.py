"""Names of paramiko's that are trio's in this library: the old name answers with a hint."""

from __future__ import annotations

import copy

import pytest

import trio_ssh
from tests.runtime.helpers import HOST_KEY, OpenDoor
from trio_ssh.runtime.hints import CHANNEL_HINTS, TRANSPORT_HINTS, Hints
from trio_ssh.testing import MemorySFTPServer, open_memory_client


async def test_paramiko_s_names_say_what_to_use() -> None:
    server = OpenDoor()
    server.subsystems = {"sftp": MemorySFTPServer}
    async with open_memory_client(server, host_key=HOST_KEY) as client:
        transport = client.get_transport()
        channel = await client.open_session()
        _, stdout, _ = await client.exec_command("x")
        sftp = await client.open_sftp()
        file = await sftp.open("file", "w")
        for thing, name, hint in (
            (client, "close", "aclose"),
            (transport, "close", "aclose"),
            (transport, "open_sftp_client", "from_transport"),
            (channel, "close", "aclose"),
            (channel, "recv", "receive_some"),
            (channel, "recv_stderr", "stderr.receive_some"),
            (channel, "send", "send_all"),
            (channel, "sendall", "send_all"),
            (channel, "settimeout", "trio.fail_after"),
            (channel, "shutdown_write", "send_eof"),
            (stdout, "close", "aclose"),
            (sftp, "close", "aclose"),
            (file, "close", "aclose"),
        ):
            with pytest.raises(AttributeError, match=hint) as raised:
                getattr(thing, name)
            assert str(raised.value).startswith(f"{type(thing).__name__!r} object has no attribute {name!r}: ")
            assert not hasattr(thing, name)
            with pytest.raises(AttributeError, match=r"no attribute 'recvv'$"):
                thing.recvv  # type: ignore[union-attr]  # noqa: B018
        await file.aclose()
        await sftp.aclose()


@pytest.mark.parametrize(("cls", "hints"), [(trio_ssh.Channel, CHANNEL_HINTS), (trio_ssh.Transport, TRANSPORT_HINTS)])
def test_no_hint_is_in_the_way_of_what_is_there(cls: type, hints: dict[str, str]) -> None:
    assert [name for name in hints if hasattr(cls, name)] == []


def test_what_python_looks_for_is_not_found_without_ado() -> None:
    thing = Hints()
    assert type(copy.copy(thing)) is Hints
    assert not hasattr(thing, "__fspath__")
