"""Logging in by an agent's keys: which are tried, when, and what is said when the agent is of no help."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import trio
import trio.testing

import trio_ssh
from tests.keys.tokens import token
from tests.runtime.helpers import KNOWN_HOST, OpenDoor, serving
from trio_ssh.agent_server import listening_socket
from trio_ssh.keys.security_key import SecurityKey
from trio_ssh.testing import open_memory_client

KEYS: Final = {name: trio_ssh.Ed25519Key.generate(name) for name in ("a", "b", "c", "d")}
ECDSA_KEY: Final = trio_ssh.ECDSAKey.generate(comment="ecdsa")


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home directory without keys, with a name that is short enough for a socket in it."""
    path = Path(tempfile.mkdtemp(prefix="a-"))
    (path / ".ssh").mkdir()
    monkeypatch.setenv("HOME", str(path))
    yield path
    shutil.rmtree(path)


class Knows(trio_ssh.ServerInterface):
    """Lets in whoever has one of some keys, and notes what is shown."""

    def __init__(self, *keys: trio_ssh.PKey, password: str | None = None) -> None:
        self._keys = [key.public_key for key in keys]
        self._password = password
        self.shown: list[str] = []

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        known = {other.public_key: name for name, other in KEYS.items()}
        self.shown.append(known.get(key, key.key_type))
        return trio_ssh.AUTH_SUCCESSFUL if key in self._keys else trio_ssh.AUTH_FAILED

    def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        self.shown.append("password")
        return trio_ssh.AUTH_SUCCESSFUL if password == self._password else trio_ssh.AUTH_FAILED


async def log_in(server: trio_ssh.ServerInterface, **options: object) -> None:
    """Connect, and disconnect."""
    async with serving(server) as stream:
        refusal: Exception | None = None
        async with trio_ssh.SSHClient() as client:
            try:
                await client.connect("memory", username="user", known_hosts=KNOWN_HOST, sock=stream, **options)  # type: ignore[arg-type]
            except trio_ssh.SSHException as error:
                refusal = error
    if refusal is not None:
        raise refusal


async def start(nursery: trio.Nursery, place: Path, *keys: trio_ssh.PKey) -> trio_ssh.AgentServer:
    """Start an agent at ``place / "agent"``."""
    server = trio_ssh.AgentServer(keys)
    await nursery.start(server.serve_unix, place / "agent")
    return server


# -- which, and when


async def test_given_keys_come_first_then_the_agents_then_those_in_the_home_then_the_password(
    nursery: trio.Nursery, place: Path
) -> None:
    await start(nursery, place, KEYS["b"], KEYS["a"], KEYS["c"])
    KEYS["d"].write_private_key_file(place / ".ssh" / "id_ed25519")
    server = Knows(password="x")
    await log_in(server, allow_agent=place / "agent", password="x")
    assert server.shown == ["b", "a", "c", "d", "password"]
    server = Knows()
    with pytest.raises(trio_ssh.AuthenticationException) as raised:
        await log_in(server, allow_agent=place / "agent", pkey=KEYS["a"])
    assert server.shown == ["a", "b", "c"], "a key that was given is not tried again as the agent's"
    assert raised.value.tried[0].endswith("(given): refused")
    assert raised.value.tried[1].endswith("(of the agent, b): refused")


async def test_the_agent_is_not_asked_where_a_given_key_is_enough(place: Path) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        raise AssertionError("it was asked")

    with listening_socket(place / "agent") as listener:
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, serve, [listener])
            await log_in(Knows(KEYS["a"]), pkey=KEYS["a"], allow_agent=place / "agent")
            nursery.cancel_scope.cancel()


async def test_a_file_whose_key_the_agent_has_is_not_tried_again(nursery: trio.Nursery, place: Path) -> None:
    await start(nursery, place, KEYS["a"])
    KEYS["a"].write_private_key_file(place / ".ssh" / "id_ed25519")
    server = Knows()
    with pytest.raises(trio_ssh.AuthenticationException):
        await log_in(server, allow_agent=place / "agent")
    assert server.shown == ["a"]


async def test_only_identities_are_tried_where_the_user_says_so(nursery: trio.Nursery, place: Path) -> None:
    await start(nursery, place, *KEYS.values())
    (place / "named.pub").write_text(KEYS["c"].public_key.to_openssh())
    KEYS["b"].write_private_key_file(place / ".ssh" / "id_ed25519")
    server = Knows()
    with pytest.raises(trio_ssh.AuthenticationException):
        await log_in(server, allow_agent=place / "agent", identities_only=True)
    assert server.shown == ["b"]
    server = Knows()
    with pytest.raises(trio_ssh.AuthenticationException):
        await log_in(server, allow_agent=place / "agent", identities_only=True, key_filename=place / "named.pub")
    assert server.shown == ["c"]
    server = Knows()
    with pytest.raises(trio_ssh.AuthenticationException):
        await log_in(server, allow_agent=place / "agent", key_filename=place / "named.pub")
    assert server.shown == ["c", "a", "b", "d"], "what was named comes first"


async def test_a_named_file_that_is_of_no_use_is_an_error_unless_the_agent_has_its_key(
    nursery: trio.Nursery, place: Path
) -> None:
    key = KEYS["a"]
    key.write_private_key_file(place / "id", "open sesame")
    (place / "id.pub").write_text(key.public_key.to_openssh())
    agent = await start(nursery, place, KEYS["b"])
    for name, error in (
        ("id", trio_ssh.PasswordRequiredException),
        ("id.pub", trio_ssh.KeyFileException),
        ("none", trio_ssh.KeyFileException),
    ):
        with pytest.raises(error):
            await log_in(Knows(key), allow_agent=place / "agent", key_filename=place / name)
        with pytest.raises(error):
            await log_in(Knows(key), allow_agent=place / "nowhere", key_filename=place / name)
        with pytest.raises(error):
            await log_in(Knows(key), key_filename=place / name)
    agent.add(key)
    for name in ("id", "id.pub"):
        server = Knows(key)
        await log_in(server, allow_agent=place / "agent", key_filename=place / name)
        assert server.shown[0] == "a"


async def test_an_encrypted_key_in_the_home_is_left_to_the_agent(nursery: trio.Nursery, place: Path) -> None:
    KEYS["a"].write_private_key_file(place / ".ssh" / "id_ed25519", "open sesame")
    (place / ".ssh" / "id_ed25519.pub").write_text(KEYS["a"].public_key.to_openssh())
    agent = await start(nursery, place)
    with pytest.raises(trio_ssh.AuthenticationException) as raised:
        await log_in(Knows(KEYS["a"]), allow_agent=place / "agent")
    assert raised.value.tried[-1].endswith("id_ed25519 was not tried: it is encrypted, and no passphrase was given")
    agent.add(KEYS["a"])
    await log_in(Knows(KEYS["a"]), allow_agent=place / "agent", identities_only=True)


async def test_the_users_agent_is_found_by_the_environment_and_left_alone_where_that_is_wished(
    nursery: trio.Nursery, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await start(nursery, place, KEYS["a"])
    monkeypatch.setenv("SSH_AUTH_SOCK", str(place / "agent"))
    await log_in(Knows(KEYS["a"]))
    with pytest.raises(trio_ssh.AuthenticationException, match="no key was given"):
        await log_in(Knows(KEYS["a"]), allow_agent=False)


async def test_two_kinds_of_proof_may_be_wanted(nursery: trio.Nursery, place: Path) -> None:
    class WantsBoth(Knows):
        def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
            super().check_auth_publickey(username, key)
            return trio_ssh.AUTH_PARTIALLY_SUCCESSFUL

        def get_allowed_auths(self, username: str) -> str:
            return "password" if self.completed_auths else "publickey"

    await start(nursery, place, KEYS["a"])
    server = WantsBoth(password="x")
    await log_in(server, allow_agent=place / "agent", password="x")
    assert server.shown[-1] == "password"


# -- an agent's key is a key


async def test_an_agents_key_is_given_like_any_other(nursery: trio.Nursery, place: Path) -> None:
    await start(nursery, place, ECDSA_KEY)
    async with trio_ssh.Agent(place / "agent") as agent:
        [key] = await agent.get_keys()
        async with open_memory_client(OpenDoor(), pkey=key) as client:
            transport = client.get_transport()
            assert transport is not None
            assert transport.is_authenticated()
        await log_in(Knows(ECDSA_KEY), pkey=[key], allow_agent=False)


class Vault:
    """A key of a user's own making, which takes its time or refuses."""

    def __init__(self, key: trio_ssh.PKey, refusal: Exception | None = None) -> None:
        self.public_key = key.public_key
        self.comment = "vault"
        self.algorithms = key.algorithms
        self.fingerprint = key.fingerprint
        self._key = key
        self._refusal = refusal

    def asbytes(self) -> bytes:
        return self._key.asbytes()

    async def sign(self, data: bytes, algorithm: str | None = None) -> bytes:
        await trio.sleep(60)
        if self._refusal is not None:
            raise self._refusal
        return self._key.sign(data, algorithm)


async def test_whatever_signs_can_log_in(autojump_clock: trio.testing.MockClock) -> None:
    await log_in(Knows(KEYS["a"]), pkey=Vault(KEYS["a"]))


async def test_a_key_that_is_not_allowed_to_sign_leaves_the_next_its_turn(
    autojump_clock: trio.testing.MockClock,
) -> None:
    refusing = Vault(KEYS["a"], trio_ssh.AgentException("its user said no"))
    await log_in(Knows(KEYS["a"], KEYS["b"]), pkey=[refusing, KEYS["b"]])
    with pytest.raises(trio_ssh.AuthenticationException) as raised:
        await log_in(Knows(KEYS["a"]), pkey=refusing)
    assert raised.value.tried[0].endswith("(given): accepted, but not signed (its user said no)")
    assert raised.value.allowed == ("publickey", "password")


async def test_a_failure_of_a_users_own_leaves_as_it_is(autojump_clock: trio.testing.MockClock) -> None:
    mine = ZeroDivisionError("mine")
    async with serving(Knows(KEYS["a"])) as stream, trio_ssh.SSHClient() as client:
        with pytest.raises(ZeroDivisionError) as raised:
            await client.connect(
                "memory", username="user", known_hosts=KNOWN_HOST, sock=stream, pkey=Vault(KEYS["a"], mine)
            )
        assert raised.value is mine


async def test_a_transport_tells_a_refusal_of_the_agent_from_one_of_the_server() -> None:
    refusing = Vault(KEYS["a"], trio_ssh.AgentException("locked"))
    refusing.sign = lambda data, algorithm=None: refuse()  # type: ignore[method-assign]

    async def refuse() -> bytes:
        raise trio_ssh.AgentException("locked")

    async with serving(Knows(KEYS["a"])) as stream, trio_ssh.Transport(stream) as transport:
        await transport.start_client(check_host_key=lambda key: None)
        with pytest.raises(trio_ssh.AuthenticationException, match="publickey failed for user: locked") as raised:
            await transport.auth_publickey("user", refusing)
        assert not isinstance(raised.value, trio_ssh.BadAuthenticationType)
        await transport.auth_publickey("user", KEYS["a"])


# -- an agent that is of no help


async def test_where_no_agent_listens_the_login_goes_on_and_says_so(place: Path) -> None:
    await log_in(Knows(password="x"), allow_agent=place / "nowhere", password="x")
    with pytest.raises(trio_ssh.AuthenticationException) as raised:
        await log_in(Knows(), allow_agent=place / "nowhere")
    assert raised.value.tried[0] == "none: refused"
    assert raised.value.tried[1].startswith("no agent listens at ")


@pytest.mark.parametrize("said", [b"", b"\xff\xff\xff\xff", b"\0\0\0\1\6", b"\0\0\0\1\5"])
async def test_an_agent_that_makes_no_sense_costs_no_login(place: Path, said: bytes) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        async with stream:
            await stream.receive_some()
            if said:
                await stream.send_all(said)

    with listening_socket(place / "agent") as listener:
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, serve, [listener])
            await log_in(Knows(password="x"), allow_agent=place / "agent", password="x")
            with pytest.raises(trio_ssh.AuthenticationException, match="agent"):
                await log_in(Knows(), allow_agent=place / "agent")
            nursery.cancel_scope.cancel()


async def test_a_silent_agent_is_waited_for_as_long_as_the_caller_does(
    place: Path, autojump_clock: trio.testing.MockClock
) -> None:
    async def serve(stream: trio.abc.Stream) -> None:
        while await stream.receive_some():
            pass

    with listening_socket(place / "agent") as listener:
        async with trio.open_nursery() as nursery:
            await nursery.start(trio.serve_listeners, serve, [listener])
            async with serving(Knows(KEYS["a"])) as stream, trio_ssh.SSHClient() as client:
                with pytest.raises(trio.TooSlowError), trio.fail_after(5):
                    await client.connect(
                        "memory",
                        username="user",
                        known_hosts=KNOWN_HOST,
                        sock=stream,
                        allow_agent=os.fspath(place / "agent"),
                    )
            nursery.cancel_scope.cancel()


class TokenKey(SecurityKey):
    """A security key whose token is plugged in."""

    def __init__(self) -> None:
        self.token = token("sk-ssh-ed25519@openssh.com")
        super().__init__(self.token.public_key, b"handle")

    def can_sign(self) -> bool:
        return True

    def sign(self, data: bytes, algorithm: str | None = None) -> bytes:
        return self.token.sign(data)


@pytest.mark.parametrize("files", [("pub",), ("", "pub"), ("",)])
async def test_the_agent_signs_for_a_security_key_of_the_home(
    nursery: trio.Nursery, place: Path, files: tuple[str, ...]
) -> None:
    key = TokenKey()
    await start(nursery, place, KEYS["a"], key)
    if "" in files:
        key.token.key.write_private_key_file(place / ".ssh" / "id_ed25519_sk")
    if "pub" in files:
        (place / ".ssh" / "id_ed25519_sk.pub").write_text(key.public_key.to_openssh() + "\n")
    server = Knows(key)
    await log_in(server, allow_agent=place / "agent", identities_only=True)
    assert set(server.shown) == {key.key_type}
    # Without it in the agent, the error says what to do.
    await nursery.start(trio_ssh.AgentServer([KEYS["a"]]).serve_unix, place / "other")
    with pytest.raises(trio_ssh.AuthenticationException) as raised:
        await log_in(Knows(key), allow_agent=place / "other")
    assert any(line.startswith(f"{place}/.ssh/id_ed25519_sk was not tried: ") for line in raised.value.tried)
    assert ("run `ssh-add`" in str(raised.value)) == ("" in files)
