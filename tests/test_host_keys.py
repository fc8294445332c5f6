"""Whom a client trusts: what it knows, what it is told, and what it says when a key is not the right one."""

from __future__ import annotations

import logging
import os
import stat
import warnings
from collections.abc import Awaitable
from pathlib import Path

import pytest
import trio

import trio_ssh
from tests.runtime.helpers import HOST_KEY, OpenDoor, serving
from trio_ssh.host_keys import KnowsHosts

OTHER_KEY = trio_ssh.Ed25519Key.generate()
FINGERPRINT = HOST_KEY.public_key.fingerprint()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory that holds nothing, and a system that knows no hosts."""
    directory = tmp_path / "home"
    (directory / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setattr("trio_ssh.config.trust.SYSTEM_KNOWN_HOSTS", str(tmp_path / "ssh_known_hosts"))
    return directory


def line(name: str, key: trio_ssh.PKey, marker: str = "") -> str:
    return f"{marker}{name} {key.public_key.to_openssh()}\n"


async def connect(
    client: trio_ssh.SSHClient,
    host: str = "example.com",
    port: int = 22,
    known_hosts: trio_ssh.HostKeys | str | Path | list[str | Path] | None = None,
) -> None:
    """Connect `client` to a server that shows `HOST_KEY`, and disconnect; a refusal closes the stream."""
    async with serving() as stream:
        try:
            await client.connect(
                host, port, "user", known_hosts=known_hosts, sock=stream, look_for_keys=False, config=None
            )
        except trio_ssh.HostKeyException as error:
            assert stream.is_closed
            refusal: Exception | None = error
        else:
            refusal = None
            await client.aclose()
    if refusal is not None:
        raise refusal


async def test_an_unknown_host_is_refused_and_the_text_says_what_to_do() -> None:
    async with trio_ssh.SSHClient() as client:
        with pytest.raises(trio_ssh.UnknownHostKeyException) as raised:
            await connect(client)
    error = raised.value
    assert isinstance(error, trio_ssh.HostKeyException)
    assert not isinstance(error, trio_ssh.BadHostKeyException)
    assert (error.hostname, error.key_type, error.fingerprint) == ("example.com", "ssh-ed25519", FINGERPRINT)
    for word in ("example.com is unknown", FINGERPRINT, "ssh-keygen -lf", "known_hosts", "AutoAddPolicy"):
        assert word in str(error)


async def test_a_changed_key_is_another_exception_with_another_text(home: Path) -> None:
    (home / ".ssh" / "known_hosts").write_text("# mine\n" + line("example.com", OTHER_KEY))
    async with trio_ssh.SSHClient() as client:
        client.set_missing_host_key_policy(trio_ssh.AutoAddPolicy)  # which is not asked
        with pytest.raises(trio_ssh.BadHostKeyException) as raised:
            await connect(client)
    error = raised.value
    assert not isinstance(error, trio_ssh.UnknownHostKeyException)
    assert not error.is_revoked
    known = f"{OTHER_KEY.public_key.fingerprint()} ({home / '.ssh' / 'known_hosts'}:2)"
    assert error.expected == (known,)
    for word in ("HAS CHANGED", f"shows ssh-ed25519 {FINGERPRINT}", known, "ssh-keygen -R example.com"):
        assert word in str(error)


async def test_a_revoked_key_is_never_trusted(home: Path) -> None:
    (home / ".ssh" / "known_hosts").write_text(line("example.com", HOST_KEY) + line("*", HOST_KEY, "@revoked "))
    async with trio_ssh.SSHClient() as client:
        client.set_missing_host_key_policy(trio_ssh.AutoAddPolicy)
        with pytest.raises(trio_ssh.BadHostKeyException, match=r"was REVOKED.*Do not connect") as raised:
            await connect(client)
    assert raised.value.is_revoked
    assert raised.value.expected == ()


async def test_the_user_s_and_the_system_s_known_hosts_are_read(home: Path, tmp_path: Path) -> None:
    (home / ".ssh" / "known_hosts").write_text(line("mine.example.com", HOST_KEY))
    (tmp_path / "ssh_known_hosts").write_text(line("*.system.example.com", HOST_KEY))
    async with trio_ssh.SSHClient() as client:
        await connect(client, "mine.example.com")
        await connect(client, "a.system.example.com")
        with pytest.raises(trio_ssh.UnknownHostKeyException):
            await connect(client, "elsewhere.example.com")


async def test_a_port_is_part_of_the_name() -> None:
    known = trio_ssh.HostKeys()
    known.add("[example.com]:2222", None, HOST_KEY.public_key)
    async with trio_ssh.SSHClient() as client:
        await connect(client, port=2222, known_hosts=known)
        with pytest.raises(trio_ssh.UnknownHostKeyException) as raised:
            await connect(client, port=22, known_hosts=known)
        assert raised.value.hostname == "example.com"
        with pytest.raises(trio_ssh.UnknownHostKeyException, match=r"\[example.com\]:2223 is unknown"):
            await connect(client, port=2223, known_hosts=known)


async def test_given_files_replace_the_usual_ones(home: Path, tmp_path: Path) -> None:
    (home / ".ssh" / "known_hosts").write_text(line("example.com", OTHER_KEY))
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text(line("one.example.com", HOST_KEY))
    two.write_text(line("example.com", HOST_KEY))
    async with trio_ssh.SSHClient() as client:
        await connect(client, known_hosts=[one, str(two)])
        await connect(client, "one.example.com", known_hosts=one)
        with pytest.raises(trio_ssh.UnknownHostKeyException):
            await connect(client, known_hosts=str(one))


async def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    async with trio_ssh.SSHClient() as client, serving() as stream:
        with pytest.raises(OSError, match="nowhere"):
            await client.connect("x", username="user", known_hosts=tmp_path / "nowhere", sock=stream)
        assert stream.is_closed, "the stream is the client's, whatever becomes of the connection"


async def test_keys_are_loaded_and_saved_through_the_client(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("# a comment\nnonsense that nobody understands\n" + line("other.example.com", OTHER_KEY))
    path.chmod(0o640)
    async with trio_ssh.SSHClient() as client:
        await client.load_host_keys(path)
        assert client.host_keys_filename == path
        client.set_missing_host_key_policy(trio_ssh.AutoAddPolicy())
        await connect(client)
        text = path.read_text()
        assert text.startswith("# a comment\nnonsense that nobody understands\n")
        assert text.endswith(line("example.com", HOST_KEY))
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        client.set_missing_host_key_policy(trio_ssh.RejectPolicy)
        await connect(client)
        await client.save_host_keys(tmp_path / "copy")
        assert (tmp_path / "copy").read_text() == text
    async with trio_ssh.SSHClient() as client:
        await client.load_system_host_keys(path)
        assert not list(client.get_host_keys().lookup("example.com"))
        await connect(client)
        with pytest.raises(ValueError, match="load_host_keys first"):
            await client.save_host_keys()


async def test_what_was_loaded_replaces_the_usual_files(home: Path, tmp_path: Path) -> None:
    (home / ".ssh" / "known_hosts").write_text(line("example.com", HOST_KEY))
    (tmp_path / "empty").write_text("")
    async with trio_ssh.SSHClient() as client:
        await client.load_host_keys(tmp_path / "empty")
        with pytest.raises(trio_ssh.UnknownHostKeyException):
            await connect(client)
        await client.load_system_host_keys()
        await connect(client)


async def test_keys_can_be_added_by_hand() -> None:
    async with trio_ssh.SSHClient() as client:
        client.get_host_keys().add("example.com", None, HOST_KEY.public_key)
        await connect(client)


async def test_an_accepted_key_is_remembered_without_a_file(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with trio_ssh.SSHClient() as client:
        client.set_missing_host_key_policy(trio_ssh.AutoAddPolicy)
        await connect(client)
        client.set_missing_host_key_policy(trio_ssh.RejectPolicy)
        await connect(client)
    assert f"added the host key of example.com: ssh-ed25519 {FINGERPRINT}" in caplog.text


async def test_a_warning_is_given_and_nothing_remembered() -> None:
    async with trio_ssh.SSHClient() as client:
        client.set_missing_host_key_policy(trio_ssh.WarningPolicy)
        for _ in range(2):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                await connect(client)
            assert [FINGERPRINT in str(warning.message) for warning in caught] == [True]


class Deciding(trio_ssh.MissingHostKeyPolicy):
    """Decides as a test says, sync or async."""

    def __init__(self, error: Exception | None = None, *, is_async: bool = False) -> None:
        self._error = error
        self._is_async = is_async
        self.asked: list[tuple[str, trio_ssh.PublicKey]] = []

    def missing_host_key(self, client: KnowsHosts, hostname: str, key: trio_ssh.PublicKey) -> Awaitable[None] | None:
        self.asked.append((hostname, key))
        if self._is_async:
            return self._decide_later()
        return self._decide()

    async def _decide_later(self) -> None:
        await trio.lowlevel.checkpoint()
        self._decide()

    def _decide(self) -> None:
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_policy_of_one_s_own_decides(is_async: bool) -> None:
    policy = Deciding(is_async=is_async)
    async with trio_ssh.SSHClient() as client:
        client.set_missing_host_key_policy(policy)
        await connect(client)
    assert policy.asked == [("example.com", HOST_KEY.public_key)]


@pytest.mark.parametrize("is_async", [False, True])
async def test_what_a_policy_raises_comes_out(is_async: bool, caplog: pytest.LogCaptureFixture) -> None:
    async with trio_ssh.SSHClient() as client, serving() as stream:
        client.set_missing_host_key_policy(Deciding(LookupError("mine"), is_async=is_async))
        with pytest.raises(LookupError, match="mine"):
            await client.connect("example.com", username="user", known_hosts=[], sock=stream, look_for_keys=False)
        assert stream.is_closed
        assert client.get_transport() is None
    assert "please report" not in caplog.text


async def test_a_key_that_is_known_in_another_kind_is_asked_for_first() -> None:
    """A server with several keys must not look unknown because it showed another one."""
    rsa = trio_ssh.ECDSAKey.generate()
    known = trio_ssh.HostKeys()
    known.add("example.com", None, rsa.public_key)
    ours, theirs = trio_ssh.testing.memory_pair()
    async with trio.open_nursery() as nursery, trio_ssh.SSHClient() as client:
        nursery.start_soon(lambda: trio_ssh.serve_stream(theirs, OpenDoor(), host_keys=[HOST_KEY, rsa]))
        await client.connect("example.com", username="user", known_hosts=known, sock=ours, look_for_keys=False)
        assert client.get_transport().get_remote_server_key() == rsa.public_key  # type: ignore[union-attr]


async def test_a_host_s_name_is_escaped_wherever_it_is_shown() -> None:
    async with trio_ssh.SSHClient() as client:
        with pytest.raises(trio_ssh.UnknownHostKeyException) as raised:
            await connect(client, "example\x1b[31m.com")
    assert "\x1b" not in str(raised.value)


async def test_saving_to_a_directory_that_is_not_there_says_so(tmp_path: Path) -> None:
    async with trio_ssh.SSHClient() as client:
        with pytest.raises(OSError, match="nowhere"):
            await client.save_host_keys(tmp_path / "nowhere" / "known_hosts")
    assert os.listdir(tmp_path) == ["home"]
