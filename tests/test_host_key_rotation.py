"""Servers tell of their keys; clients believe what is proven, of hosts that they trust already."""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import trio
import trio.testing
from hypothesis import given, strategies

import trio_ssh
from tests.runtime.helpers import OpenDoor
from trio_ssh.host_key_rotation import ANNOUNCE, MOST_KEYS, PROVE, announcement, prove
from trio_ssh.host_keys import KnowsHosts
from trio_ssh.runtime.handler import Answer
from trio_ssh.testing import memory_pair

A, B, C = (trio_ssh.Ed25519Key.generate() for _ in range(3))
E = trio_ssh.ECDSAKey.generate()
SESSION = b"s" * 32

Mode = Literal["yes", "no", "ask"]


def line(key: trio_ssh.PKey, name: str = "example.com", marker: str = "") -> str:
    return f"{marker}{name} {key.public_key.to_openssh()}\n"


def packed(*strings: bytes) -> bytes:
    message = trio_ssh.Message()
    for each in strings:
        message.add_string(each)
    return message.asbytes()


def write(file: Path, text: str) -> None:
    file.write_text(text)


def read(file: Path) -> str:
    return file.read_text()


def inode(file: Path) -> int:
    return file.stat().st_ino


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "known_hosts"
    path.write_text(line(A))
    return path


class Scripted(OpenDoor):
    """A server that says of its keys what a test says, and proves what it says."""

    def __init__(
        self,
        announced: bytes | None = None,
        proofs: Callable[[bytes, bytes], bytes | None] | None = None,
    ) -> None:
        super().__init__()
        self._announced = announced
        self._proofs = proofs
        self.asked = 0

    def announce(self) -> None:
        if self._announced is None:
            super().announce()
        else:
            self.transport._notify(ANNOUNCE, self._announced)

    def global_requested(self, name: str, details: bytes) -> Any:
        if name == PROVE:
            self.asked += 1
            if self._proofs is not None:
                answer = self._proofs(details, self.transport.session_id)
                return Answer(answer is not None, answer or b"")
        return super().global_requested(name, details)


@asynccontextmanager
async def connected(
    server: trio_ssh.ServerInterface,
    known_hosts: trio_ssh.HostKeys | str | Path | list[str | Path] | None,
    mode: Mode | None = "yes",
    *,
    host_keys: Sequence[trio_ssh.PKey] = (A, B),
    policy: trio_ssh.MissingHostKeyPolicy | None = None,
    client: trio_ssh.SSHClient | None = None,
    port: int = 22,
) -> AsyncGenerator[trio_ssh.SSHClient]:
    """A client that has heard the announcement, and done all that came of it."""
    ours, theirs = memory_pair()
    client = client or trio_ssh.SSHClient()
    if policy is not None:
        client.set_missing_host_key_policy(policy)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio_ssh.serve_stream, theirs, server, host_keys=host_keys))
        async with client:
            await client.connect(
                "example.com",
                port,
                "user",
                known_hosts=known_hosts,
                update_host_keys=mode,
                sock=ours,
                look_for_keys=False,
                allow_agent=False,
                config=None,
            )
            await settle(client)
            yield client


async def settle(client: trio_ssh.SSHClient) -> None:
    """Wait until what the server has said is dealt with, threads included."""
    for _ in range(3):
        await client.get_transport().ping()  # type: ignore[union-attr]
        await idle_threads()


async def idle_threads() -> None:
    """Wait until no thread works, and nothing comes of what one has done."""
    limiter = trio.to_thread.current_default_thread_limiter()
    await trio.testing.wait_all_tasks_blocked()
    while limiter.borrowed_tokens:
        await trio.testing.wait_all_tasks_blocked(0.001)
    await trio.testing.wait_all_tasks_blocked()


async def text_after(
    file: Path,
    server: trio_ssh.ServerInterface | None = None,
    mode: Mode | None = "yes",
    *,
    host_keys: Sequence[trio_ssh.PKey] = (A, B),
    policy: trio_ssh.MissingHostKeyPolicy | None = None,
    port: int = 22,
) -> str:
    async with connected(server or OpenDoor(), file, mode, host_keys=host_keys, policy=policy, port=port):
        return read(file)


# -- what is learned, and what is forgotten


async def test_a_key_that_is_new_is_added_once_it_is_proven(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_ssh.client")
    write(file, "# mine\n" + line(A))
    assert await text_after(file, host_keys=(A, B, E)) == "# mine\n" + line(A) + line(B) + line(E)
    assert f"added a host key of example.com: ssh-ed25519 {B.fingerprint}" in caplog.text


async def test_a_key_that_the_server_no_longer_has_is_taken_off_record(file: Path) -> None:
    write(file, line(A) + line(C) + line(C, "other.example.com"))
    assert await text_after(file) == line(A) + line(C, "other.example.com") + line(B)
    write(file, line(A) + line(C))
    server = Scripted()
    assert await text_after(file, server, host_keys=[A]) == line(A)
    assert server.asked == 0, "to forget a key takes no proof"


async def test_a_server_whose_keys_are_all_known_is_asked_for_no_proof(file: Path) -> None:
    write(file, line(B) + line(A))
    server, before = Scripted(), inode(file)
    assert await text_after(file, server) == line(B) + line(A)
    assert server.asked == 0
    assert inode(file) == before


async def test_hidden_names_stay_hidden(file: Path) -> None:
    write(file, line(A, trio_ssh.HostKeys.hash_host("example.com")))
    text = await text_after(file)
    assert "example.com" not in text
    assert len(trio_ssh.HostKeys.from_text(text).lookup("example.com")) == 2


async def test_the_next_login_is_by_the_new_key_alone(file: Path) -> None:
    await text_after(file)
    assert await text_after(file, host_keys=[B]) == line(B)


async def test_an_rsa_key_proves_itself_by_sha_2(file: Path) -> None:
    rsa = trio_ssh.RSAKey.generate(2048)
    assert await text_after(file, host_keys=(A, rsa)) == line(A) + line(rsa)


async def test_the_client_s_own_keys_follow_their_file(file: Path) -> None:
    write(file, line(A) + line(C))
    client = trio_ssh.SSHClient()
    await client.load_host_keys(file)
    async with connected(OpenDoor(), None, client=client):
        assert {entry.key for entry in client.get_host_keys().lookup("example.com")} == {A.public_key, B.public_key}
        await client.save_host_keys()
    assert read(file) == line(A) + line(B)


# -- where it is left alone


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(line(A, "*.com"), id="a pattern"),
        pytest.param(line(A, "example.com,192.0.2.1"), id="a line for two"),
        pytest.param(line(A) + line(C, marker="@cert-authority "), id="an authority"),
        pytest.param(line(A) + line(C, marker="@revoked "), id="a revoked key"),
        pytest.param(line(A) + line(B, "*.com,!x"), id="a pattern besides"),
    ],
)
async def test_lines_that_somebody_looks_after_stay_as_they_are(file: Path, text: str) -> None:
    write(file, text)
    assert await text_after(file) == text


async def test_a_host_that_is_known_for_another_port_is_left_alone(file: Path) -> None:
    assert await text_after(file, port=2222) == line(A)


async def test_a_host_that_a_policy_has_let_in_is_left_alone(file: Path) -> None:
    write(file, "")
    server = Scripted()
    with pytest.warns(UserWarning, match="is unknown"):
        assert await text_after(file, server, policy=trio_ssh.WarningPolicy()) == ""
    assert server.asked == 0


@pytest.mark.parametrize("mode", ["no", None])
async def test_files_that_were_named_are_changed_only_where_it_was_asked_for(file: Path, mode: Mode | None) -> None:
    assert await text_after(file, mode=mode) == line(A)


async def test_the_user_s_usual_file_is_kept_up_to_date(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    system = tmp_path / "ssh_known_hosts"
    monkeypatch.setattr("trio_ssh.config.trust.USER_KNOWN_HOSTS", (str(file),))
    monkeypatch.setattr("trio_ssh.config.trust.SYSTEM_KNOWN_HOSTS", (str(system),))
    async with connected(OpenDoor(), None, None):
        assert read(file) == line(A) + line(B)
    write(file, "")
    system.write_text(line(A))
    async with connected(OpenDoor(), None, None):
        assert (read(file), system.read_text()) == ("", line(A)), "the system's is not ours to change"


async def test_a_file_of_another_user_is_left_alone(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: os.stat(file).st_uid + 1)
    assert await text_after(file) == line(A)


async def test_a_file_that_changed_meanwhile_is_left_alone(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    def prove_late(details: bytes, session_id: bytes) -> bytes | None:
        write(file, line(C))
        return prove(details, [A, B], session_id, "")

    assert await text_after(file, Scripted(proofs=prove_late)) == line(C)
    assert "was changed meanwhile" in caplog.text


async def test_keys_that_were_never_in_a_file_change_none() -> None:
    known = trio_ssh.HostKeys()
    known.add("example.com", None, A.public_key)
    server = Scripted()
    async with connected(server, known):
        assert server.asked == 0


# -- somebody is asked


class Asked(trio_ssh.RejectPolicy):
    def __init__(self, answer: object) -> None:
        self._answer = answer
        self.changes: list[trio_ssh.HostKeyChange] = []

    async def confirm_change(self, client: KnowsHosts, change: trio_ssh.HostKeyChange) -> bool:
        self.changes.append(change)
        return self._answer  # type: ignore[return-value]  # tests what must not happen


@pytest.mark.parametrize(("answer", "is_changed"), [(True, True), (False, False), (None, False), ("yes", False)])
async def test_a_policy_confirms_what_was_proven(file: Path, answer: object, is_changed: bool) -> None:
    write(file, line(A) + line(C))
    policy = Asked(answer)
    text = await text_after(file, mode="ask", policy=policy)
    assert text == (line(A) + line(B) if is_changed else line(A) + line(C))
    assert policy.changes == [trio_ssh.HostKeyChange("example.com", (B.public_key,), (C.public_key,))]


async def test_nobody_to_ask_is_a_no(file: Path) -> None:
    assert await text_after(file, mode="ask", policy=trio_ssh.PromptPolicy(lambda prompt: True)) == line(A)


async def test_a_person_is_asked_about_changes(file: Path) -> None:
    policy = trio_ssh.PromptPolicy(lambda prompt: False, ask_change=lambda change: True)
    assert await text_after(file, mode="ask", policy=policy) == line(A) + line(B)


# -- hostile servers


def signed(key: trio_ssh.PKey, session_id: bytes, blob: bytes, purpose: str = PROVE) -> bytes:
    return key.sign(trio_ssh.Message().add_string(purpose).add_string(session_id).add_string(blob).asbytes())


@pytest.mark.parametrize(
    "proofs",
    [
        pytest.param(lambda details, session: None, id="refused"),
        pytest.param(lambda details, session: b"", id="none"),
        pytest.param(lambda details, session: b"\0\0", id="cut short"),
        pytest.param(lambda details, session: packed(b""), id="empty"),
        pytest.param(lambda details, session: packed(signed(A, session, B.public_key.blob)), id="another key's"),
        pytest.param(lambda details, session: packed(signed(B, b"x" * 32, B.public_key.blob)), id="another session's"),
        pytest.param(lambda details, session: packed(signed(B, session, A.public_key.blob)), id="of another key"),
        pytest.param(lambda details, session: packed(signed(B, session, B.public_key.blob, "x")), id="of another kind"),
        pytest.param(lambda details, session: packed(*[signed(B, session, B.public_key.blob)] * 2), id="two for one"),
        pytest.param(lambda details, session: packed(*[b"x"] * 100), id="a hundred"),
    ],
)
async def test_a_key_that_is_not_proven_is_not_stored(
    file: Path, proofs: Callable[[bytes, bytes], bytes | None], caplog: pytest.LogCaptureFixture
) -> None:
    server = Scripted(announcement([A, B]), proofs)
    assert await text_after(file, server) == line(A)
    assert server.asked == 1
    assert "the record of example.com's keys was not updated" in caplog.text


async def test_the_key_of_another_host_is_not_stored(file: Path) -> None:
    """A server can announce any key that is public; only its owner can prove it."""
    server = Scripted(announcement([A, C]))
    assert await text_after(file, server) == line(A)
    assert server.asked == 1


async def test_a_legacy_signature_proves_nothing(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    rsa = trio_ssh.RSAKey.generate(2048)

    def proofs(details: bytes, session_id: bytes) -> bytes:
        data = trio_ssh.Message().add_string(PROVE).add_string(session_id).add_string(rsa.public_key.blob)
        return packed(rsa.sign(data.asbytes(), "ssh-rsa"))

    assert await text_after(file, Scripted(announcement([A, rsa]), proofs)) == line(A)
    assert "ssh-rsa, which is not accepted" in caplog.text


@pytest.mark.parametrize(
    "announced",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(announcement([B]), id="without the key in use"),
        pytest.param(packed(A.public_key.blob, b"\0\0\0\x04kind", b""), id="unknown kinds"),
        pytest.param(packed(*(number.to_bytes(20, "big") for number in range(10_000))), id="10,000 keys"),
        pytest.param(packed(A.public_key.blob, *([B.public_key.blob] * MOST_KEYS)), id="one too many"),
    ],
)
async def test_an_announcement_of_no_use_is_ignored(file: Path, announced: bytes) -> None:
    server = Scripted(announced)
    assert await text_after(file, server) == line(A)
    assert server.asked == 0


async def test_a_second_announcement_is_ignored(file: Path) -> None:
    server = Scripted(announcement([A]))
    async with connected(server, file) as client:
        server.transport._notify(ANNOUNCE, announcement([A, B]))
        await settle(client)
    assert (read(file), server.asked) == (line(A), 0)


async def test_a_malformed_announcement_ends_the_connection(file: Path) -> None:
    with pytest.RaisesGroup(trio_ssh.ConnectionLost):
        await text_after(file, Scripted(b"\0\0\0\x05abc"))
    assert read(file) == line(A)


@given(strategies.binary(max_size=120))
def test_any_request_for_proofs_is_refused_or_the_peer_s_mistake(details: bytes) -> None:
    with suppress(trio_ssh.RemoteProtocolError):
        assert prove(details, [A, B], SESSION, "ssh-ed25519") is None


def test_a_request_that_is_cut_short_anywhere_is_no_request() -> None:
    details = packed(A.public_key.blob, B.public_key.blob)
    whole = [len(details) // 2, len(details)]
    for end in range(len(details) + 1):
        try:
            proofs = prove(details[:end], [A, B], SESSION, "ssh-ed25519")
        except trio_ssh.RemoteProtocolError:
            proofs = None
        assert (proofs is not None) is (end in whole)


@pytest.mark.parametrize(
    "blobs",
    [
        pytest.param([], id="nothing"),
        pytest.param([A.public_key.blob] * 2, id="twice"),
        pytest.param([A.public_key.blob, C.public_key.blob], id="another's"),
        pytest.param([b"x"] * 1000, id="a thousand"),
    ],
)
def test_a_server_proves_its_own_keys_once_each(blobs: list[bytes]) -> None:
    assert prove(packed(*blobs), [A, B], SESSION, "ssh-ed25519") is None


async def test_proofs_are_not_given_without_end(file: Path) -> None:
    async with connected(OpenDoor(), file, "no") as client:
        transport = client.get_transport()
        assert transport is not None
        for _ in range(4):
            assert await transport.global_request(PROVE, packed(B.public_key.blob))
        with pytest.raises(trio_ssh.RequestRefused):
            await transport.global_request(PROVE, packed(B.public_key.blob))


async def test_a_server_may_keep_its_keys_to_itself(file: Path) -> None:
    class Silent(OpenDoor):
        announces_host_keys = False

    async with connected(Silent(), file) as client:
        with pytest.raises(trio_ssh.RequestRefused):
            await client.get_transport().global_request(PROVE, packed(B.public_key.blob))  # type: ignore[union-attr]
    assert read(file) == line(A)


def test_a_key_that_signs_by_broken_algorithms_alone_is_proven_by_one() -> None:
    key = trio_ssh.DSSKey.generate()
    assert prove(packed(key.public_key.blob), [key], SESSION, "ssh-ed25519") is not None
