"""Keys exchanged by GSS-API, whole connections of both roles: who vouches for whom, and who must do so again."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import HOST_KEY, KNOWN_HOST, OpenDoor, cancel_everywhere
from tests.runtime.stand_ins import PRINCIPAL, StandInRealm, install
from trio_ssh.errors import AuthOutcome
from trio_ssh.testing import FaultyStream, memory_pair

METHOD: Final = "gss-curve25519-sha256-toWM5Slw5Ew8Mqkay+al2g=="
NOBODY: Final = trio_ssh.HostKeys()


@pytest.fixture
def realm(monkeypatch: pytest.MonkeyPatch) -> StandInRealm:
    return install(monkeypatch)


class Kerberized(OpenDoor):
    """Lets in whom the realm knows, and nobody else.

    Args:
        results: of its checks, in turn; the last one lasts.
    """

    def __init__(self, *results: trio_ssh.AuthResult) -> None:
        super().__init__()
        self.results = list(results) or [trio_ssh.AUTH_SUCCESSFUL]
        self.principals: list[str] = []

    def enable_auth_gssapi(self) -> bool:
        return True

    def check_auth_gssapi_with_mic(self, username: str, identity: trio_ssh.GssIdentity) -> trio_ssh.AuthResult:
        self.principals.append(identity.principal)
        return self.results.pop(0) if len(self.results) > 1 else self.results[0]

    async def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
        await trio.lowlevel.checkpoint()
        return trio_ssh.AUTH_FAILED


@asynccontextmanager
async def serving(
    server: trio_ssh.ServerInterface, *, host_keys: Sequence[trio_ssh.PKey] = (HOST_KEY,), **options: Any
) -> AsyncGenerator[FaultyStream, None]:
    ours, theirs = memory_pair()
    arguments: dict[str, Any] = {"host_keys": host_keys, "gss_kex": True}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio_ssh.serve_stream, theirs, server, **(arguments | options)))
        yield FaultyStream(ours)
        nursery.cancel_scope.cancel()


async def log_in(client: trio_ssh.SSHClient, stream: trio.abc.Stream, **options: Any) -> trio_ssh.Transport:
    arguments: dict[str, Any] = {
        "username": "user",
        "known_hosts": NOBODY,
        "look_for_keys": False,
        "allow_agent": False,
        "gss_kex": True,
        "sock": stream,
    }
    await client.connect("memory", **(arguments | options))
    transport = client.get_transport()
    assert transport is not None
    return transport


# -- one who is believed


@pytest.mark.parametrize("rounds", [1, 3])
async def test_the_realm_vouches_for_the_host_and_the_same_ticket_logs_in(realm: StandInRealm, rounds: int) -> None:
    realm.rounds = rounds
    server = Kerberized()
    async with serving(server) as stream, trio_ssh.SSHClient() as client:
        transport = await log_in(client, stream)
        assert transport.gss_kex_used
        assert server.transport.gss_kex_used
        with pytest.raises(trio_ssh.LocalProtocolError, match="GSS-API vouches for it"):
            transport.get_remote_server_key()
        done = await client.run_process("echo", stdin=b"hello", capture_stdout=True)
        assert done.stdout == b"hello"
    assert server.principals == [PRINCIPAL]
    assert server.failures == []


async def test_what_was_agreed_is_told(realm: StandInRealm) -> None:
    for keys in ([HOST_KEY], []):
        server = Kerberized()
        async with serving(server, host_keys=keys) as stream, trio_ssh.SSHClient() as client:
            transport = await log_in(client, stream)
            for explanation in (client.explain(), server.transport.explain()):
                assert explanation.choices[0].name == METHOD
                assert explanation.host_key == "none was shown, GSS-API vouches for the server"
                assert not explanation.is_post_quantum
                assert explanation.openssh_would_warn
                assert explanation.is_strict
            assert transport.explain().choices[1].name == ("ssh-ed25519" if keys else "null")
            transport._engine.core.keying.host_key = HOST_KEY.public_key  # as if the server had shown it
            assert client.explain().host_key.endswith(f"{HOST_KEY.public_key.fingerprint}, for which GSS-API vouches")


async def test_a_server_needs_no_host_key_and_then_turns_all_others_away(realm: StandInRealm) -> None:
    async with serving(Kerberized(), host_keys=[]) as stream, trio_ssh.SSHClient() as client:
        transport = await log_in(client, stream)
        assert transport.gss_kex_used
    async with serving(OpenDoor(), host_keys=[]) as stream, trio_ssh.SSHClient() as client:
        with pytest.raises(trio_ssh.IncompatiblePeer, match="key exchange"):
            await log_in(client, stream, gss_kex=False)


async def test_without_gss_kex_a_server_needs_a_host_key(realm: StandInRealm) -> None:
    ours, theirs = memory_pair()
    async with ours, theirs:
        with pytest.raises(ValueError, match="at least one host key"):
            await trio_ssh.serve_stream(theirs, OpenDoor(), host_keys=[])


async def test_a_server_without_a_host_key_and_without_a_method_for_it_says_so(realm: StandInRealm) -> None:
    kex = ["diffie-hellman-group18-sha512"]
    ours, theirs = memory_pair()
    async with ours:
        with pytest.raises(trio_ssh.LocalProtocolError, match="enable one of curve25519-sha256, "):
            await trio_ssh.serve_stream(theirs, Kerberized(), host_keys=[], gss_kex=True, kex=kex)
    with pytest.raises(trio_ssh.LocalProtocolError, match="enable one of curve25519-sha256, "):
        await trio_ssh.serve_tcp(Kerberized, 0, host_keys=[], gss_kex=True, kex=kex)


async def test_a_configuration_asks_for_it(realm: StandInRealm) -> None:
    config = await trio_ssh.SSHConfig.from_text("GSSAPIKeyExchange yes\nGSSAPIServerIdentity elsewhere\n")
    realm.host = "elsewhere"
    async with serving(Kerberized()) as stream, trio_ssh.SSHClient() as client:
        transport = await log_in(client, stream, gss_kex=None, known_hosts=None, config=config)
        assert transport.gss_kex_used
    assert set(realm.begun) == {"elsewhere"}


@pytest.mark.parametrize("how", ["gss_kex", "known_hosts", "policy", "loaded"])
async def test_a_configuration_is_not_heard_where_the_caller_says_whom_to_trust(
    realm: StandInRealm, how: str, tmp_path: Path
) -> None:
    config = await trio_ssh.SSHConfig.from_text("GSSAPIKeyExchange yes\nGSSAPIAuthentication no\n")
    (tmp_path / "known_hosts").write_text("")
    async with serving(Kerberized()) as stream, trio_ssh.SSHClient() as client:
        if how == "policy":
            client.set_missing_host_key_policy(trio_ssh.PinnedFingerprintPolicy("SHA256:" + "A" * 43))
        elif how == "loaded":
            await client.load_host_keys(tmp_path / "known_hosts")
        with pytest.raises(trio_ssh.HostKeyException if how == "policy" else trio_ssh.UnknownHostKeyException):
            await log_in(
                client,
                stream,
                gss_kex=False if how == "gss_kex" else None,
                known_hosts=NOBODY if how == "known_hosts" else None,
                config=config,
            )
    assert realm.begun == []


async def test_the_login_goes_on_with_other_methods(realm: StandInRealm) -> None:
    async with serving(OpenDoor()) as stream, trio_ssh.SSHClient() as client:
        transport = await log_in(client, stream, password="x")
        assert transport.gss_kex_used


async def test_a_user_s_key_logs_in_and_is_bound_to_no_host_key(realm: StandInRealm) -> None:
    key = trio_ssh.Ed25519Key.generate()
    for keys in ([HOST_KEY], []):
        async with serving(OpenDoor(), host_keys=keys) as stream, trio_ssh.SSHClient() as client:
            transport = await log_in(client, stream, pkey=key)
            assert transport.gss_kex_used


async def test_gssapi_with_mic_works_as_before_behind_it(realm: StandInRealm) -> None:
    server = Kerberized(trio_ssh.AUTH_FAILED, trio_ssh.AUTH_SUCCESSFUL)
    async with serving(server) as stream, trio_ssh.SSHClient() as client:
        await log_in(client, stream, gss_auth=True)
    assert server.principals == [PRINCIPAL] * 2


# -- one who is not


async def test_a_host_that_the_realm_does_not_vouch_for_is_refused(realm: StandInRealm) -> None:
    realm.host = "mallory"
    server = Kerberized()
    async with serving(server) as stream, trio_ssh.SSHClient() as client:
        with pytest.raises(trio_ssh.SSHException, match="GSS-API refuses the server's token: it is another host"):
            await log_in(client, stream, known_hosts=KNOWN_HOST)
    assert server.principals == []


async def test_a_realm_that_authenticates_one_side_only_is_refused(realm: StandInRealm) -> None:
    realm.is_mutual = False
    async with serving(Kerberized()) as stream, trio_ssh.SSHClient() as client:
        with pytest.raises(trio_ssh.ConnectionLost, match="no proof of who we are"):
            await log_in(client, stream)


@pytest.mark.parametrize("method", ["gssapi-keyex", "gssapi-with-mic"])
async def test_one_ticket_is_one_proof(realm: StandInRealm, method: str) -> None:
    """Or who asks for two proofs would get the same one twice."""
    server = Kerberized(trio_ssh.AUTH_PARTIALLY_SUCCESSFUL, trio_ssh.AUTH_SUCCESSFUL)
    config = await trio_ssh.SSHConfig.from_text(f"PreferredAuthentications {method},gssapi-with-mic,gssapi-keyex\n")
    async with serving(server) as stream, trio_ssh.SSHClient() as client:
        with pytest.raises(trio_ssh.AuthenticationException) as raised:
            await log_in(client, stream, gss_auth=True, config=config)
    assert [(each.method, each.outcome) for each in raised.value.attempts] == [(method, AuthOutcome.PARTIAL)]
    assert not {"gssapi-keyex", "gssapi-with-mic"}.intersection(raised.value.allowed)
    assert server.principals == [PRINCIPAL]


async def test_a_server_that_does_not_name_the_method_does_not_take_it(realm: StandInRealm) -> None:
    class Others(Kerberized):
        def get_allowed_auths(self, username: str) -> str:
            return "gssapi-with-mic"

    server = Others()
    async with serving(server) as stream, trio_ssh.SSHClient() as client:
        with pytest.raises(trio_ssh.AuthenticationException) as raised:
            await log_in(client, stream)
    assert raised.value.attempts[0].outcome is AuthOutcome.REFUSED
    assert server.principals == []


async def test_a_server_that_turned_it_off_meanwhile_does_not_take_it(realm: StandInRealm) -> None:
    class Off(Kerberized):
        def enable_auth_gssapi(self) -> bool:
            return False

    server = Off()
    async with serving(server) as stream, trio_ssh.SSHClient() as client:
        with pytest.raises(trio_ssh.AuthenticationException):
            await log_in(client, stream)
    assert server.principals == []


# -- without a ticket, or without a server that does it


async def test_without_a_ticket_the_record_of_host_keys_decides(
    realm: StandInRealm, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    realm.has_ticket = False
    async with serving(OpenDoor()) as stream, trio_ssh.SSHClient() as client:
        transport = await log_in(client, stream, known_hosts=KNOWN_HOST, password="x")
        assert not transport.gss_kex_used
    assert "keys are not exchanged by GSS-API: there is no ticket" in caplog.text
    async with serving(OpenDoor()) as stream, trio_ssh.SSHClient() as client:
        with pytest.raises(trio_ssh.UnknownHostKeyException):
            await log_in(client, stream, password="x")


async def test_a_server_that_does_not_do_it_is_one_like_any_other(realm: StandInRealm) -> None:
    async with serving(OpenDoor(), gss_kex=False) as stream, trio_ssh.SSHClient() as client:
        transport = await log_in(client, stream, known_hosts=KNOWN_HOST, password="x")
        assert not transport.gss_kex_used
        await transport.renegotiate_keys()
        with pytest.raises(trio_ssh.LocalProtocolError, match="use auth_gssapi_with_mic"):
            transport.gssapi_keyex_dialog("user")
    async with serving(OpenDoor(), gss_kex=False) as stream, trio_ssh.SSHClient() as client:
        with pytest.raises(trio_ssh.UnknownHostKeyException):
            await log_in(client, stream, password="x")


async def test_a_client_that_does_not_do_it_is_one_like_any_other(realm: StandInRealm) -> None:
    server = OpenDoor()
    async with serving(server) as stream, trio_ssh.SSHClient() as client:
        transport = await log_in(client, stream, known_hosts=KNOWN_HOST, password="x", gss_kex=False)
        assert not transport.gss_kex_used
        assert not server.transport.gss_kex_used
    assert realm.begun == []


async def test_a_transport_says_what_it_needs(realm: StandInRealm) -> None:
    ours, theirs = memory_pair()
    async with theirs, trio_ssh.Transport(ours, gss_kex=True) as transport:
        with pytest.raises(trio_ssh.LocalProtocolError, match="set_gss_host"):
            await transport.start_client(check_host_key=lambda key: None)


async def test_a_transport_without_a_ticket_says_so(realm: StandInRealm) -> None:
    realm.has_ticket = False
    async with serving(OpenDoor()) as stream, trio_ssh.Transport(stream, gss_kex=True) as transport:
        transport.set_gss_host("memory")
        with pytest.raises(trio_ssh.SSHException, match=r"can't begin a key exchange: there is no ticket\.  Is there"):
            await transport.start_client(check_host_key=lambda key: None)


# -- exchanging keys anew


@pytest.mark.parametrize("keys", [[HOST_KEY], []])
async def test_either_side_changes_keys_and_the_realm_vouches_again(
    realm: StandInRealm, keys: list[trio_ssh.PKey]
) -> None:
    server = Kerberized()
    async with serving(server, host_keys=keys) as stream, trio_ssh.SSHClient() as client:
        transport = await log_in(client, stream)
        accepted = realm.accepted
        async with await client.open_process("echo") as process:
            for number, side in enumerate((transport, server.transport, transport)):
                await process.stdin.send_all(b"before")
                await side.renegotiate_keys()
                await process.stdin.send_all(b" and after")
                assert await process.stdout.read(16) == b"before and after"
                assert realm.accepted == accepted + number + 1
                assert side.explain().choices[0].name == METHOD
        assert transport.gss_kex_used
    assert server.failures == []


async def test_a_server_that_the_realm_vouches_for_no_more_is_left(realm: StandInRealm) -> None:
    async with serving(Kerberized()) as stream, trio_ssh.SSHClient() as client:
        transport = await log_in(client, stream)
        realm.host = "mallory"
        with pytest.raises(trio_ssh.ConnectionLost, match="it is another host"):
            await transport.renegotiate_keys()


async def test_a_ticket_that_is_over_ends_the_connection_at_its_next_exchange(realm: StandInRealm) -> None:
    async with serving(Kerberized()) as stream, trio_ssh.SSHClient() as client:
        transport = await log_in(client, stream)
        realm.has_ticket = False
        with pytest.raises(trio_ssh.ConnectionLost, match=r"there is no ticket.*does it last"):
            await transport.renegotiate_keys()


# -- what relies on a host key's signature


async def test_the_agent_is_not_forwarded(
    realm: StandInRealm, caplog: pytest.LogCaptureFixture, tmp_path: Path, nursery: trio.Nursery
) -> None:
    class Forwards(Kerberized):
        def check_channel_forward_agent_request(self, channel: trio_ssh.Channel) -> bool:
            return True

        async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
            async with trio_ssh.Agent(stream=await process.open_agent()) as agent:
                with pytest.raises(trio_ssh.AgentException, match="hung up"):
                    await agent.get_keys()
            return 0

    agent = trio_ssh.AgentServer([trio_ssh.Ed25519Key.generate()])
    await nursery.start(agent.serve_unix, tmp_path / "agent")
    server = Forwards()
    async with serving(server) as stream, trio_ssh.SSHClient() as client:
        await log_in(client, stream)
        channel = await client.open_session()
        await channel.request_forward_agent(trio_ssh.forwarded_agent(tmp_path / "agent"))
        await channel.exec_command("")
        assert await channel.recv_exit_status() == 0
    assert server.failures == []
    assert "the agent was not forwarded" in caplog.text


async def test_an_agent_has_no_proof_of_the_session_and_logs_in_all_the_same(
    realm: StandInRealm, tmp_path: Path, nursery: trio.Nursery
) -> None:
    key = trio_ssh.Ed25519Key.generate()
    await nursery.start(trio_ssh.AgentServer([key]).serve_unix, tmp_path / "agent")
    async with serving(OpenDoor()) as stream, trio_ssh.SSHClient() as client:
        transport = await log_in(client, stream, allow_agent=tmp_path / "agent")
        async with trio_ssh.Agent(tmp_path / "agent") as agent:
            with pytest.raises(trio_ssh.AgentException, match="no host key has signed"):
                await agent.bind_session(transport)


async def test_the_record_of_host_keys_is_not_changed(
    realm: StandInRealm, tmp_path: Path, autojump_clock: trio.testing.MockClock
) -> None:
    record = tmp_path / "known_hosts"
    record.write_text(f"memory {HOST_KEY.public_key.to_openssh()}\n")
    before = record.read_text()
    keys = [HOST_KEY, trio_ssh.ECDSAKey.generate()]
    for is_by_gss in (True, False):
        async with serving(Kerberized(), host_keys=keys) as stream, trio_ssh.SSHClient() as client:
            arguments = {} if is_by_gss else {"gss_auth": True, "gss_kex": False}
            transport = await log_in(client, stream, known_hosts=[record], update_host_keys="yes", **arguments)
            await transport.ping()
            await trio.testing.wait_all_tasks_blocked()
            with trio.move_on_after(5):
                while record.read_text() == before:  # noqa: ASYNC110  (nothing tells of a file that is written)
                    await trio.sleep(0.1)
        assert (record.read_text() == before) is is_by_gss


# -- the end of a connection, and cancellation


async def test_cancelled_anywhere_nothing_is_left(realm: StandInRealm) -> None:
    streams: list[FaultyStream] = []

    async def scenario() -> None:
        async with serving(Kerberized()) as stream, trio_ssh.SSHClient() as client:
            streams.append(stream)
            await log_in(client, stream)

    async def check() -> None:
        assert all(stream.is_closed for stream in streams)

    assert await cancel_everywhere(scenario, check, at_steps_of_others=True) > 20


async def stuck(realm: StandInRealm, working: trio.Event) -> None:
    """What a step does that asks a server which doesn't answer."""
    working.set()
    await trio.sleep_forever()


async def test_a_client_whose_realm_does_not_answer_goes_when_the_server_does(realm: StandInRealm) -> None:
    working = trio.Event()
    ours, theirs = memory_pair()
    async with trio_ssh.Transport(ours, gss_kex=True) as client, trio_ssh.Transport(theirs, gss_kex=True) as server:
        client.set_gss_host("memory")
        server.add_server_key(HOST_KEY)
        async with trio.open_nursery() as nursery:

            async def start_server() -> None:
                with pytest.raises(trio_ssh.SSHException):
                    await server.start_server(Kerberized())

            nursery.start_soon(start_server)
            realm.wait = lambda: stuck(realm, working)
            async with trio.open_nursery() as ending:

                async def end() -> None:
                    await working.wait()
                    await theirs.aclose()

                ending.start_soon(end)
                with pytest.raises(trio_ssh.ConnectionLost, match="closed the connection"):
                    await client.start_client(check_host_key=lambda key: None)
    # Both blocks have ended: nothing waits for the step any more.
    assert working.is_set()


async def test_a_rekey_in_which_the_realm_does_not_answer_ends_in_time(
    realm: StandInRealm, autojump_clock: trio.testing.MockClock
) -> None:
    working = trio.Event()
    limits = trio_ssh.Limits(exchange_seconds=30)
    async with serving(Kerberized()) as stream, trio_ssh.SSHClient() as client:
        transport = await log_in(client, stream, limits=limits)
        realm.wait = lambda: stuck(realm, working)
        with pytest.raises(trio_ssh.ConnectionLost, match="within 30 seconds"):
            await transport.renegotiate_keys()
    assert working.is_set()


async def test_a_connection_that_is_closed_before_the_step_begins_does_not_wait_for_it(realm: StandInRealm) -> None:
    begun: list[None] = []

    async def wait() -> None:
        begun.append(None)
        await trio.sleep_forever()

    async with serving(Kerberized()) as stream, trio_ssh.SSHClient() as client:
        transport = await log_in(client, stream)
        realm.wait = wait
        spawned: list[str] = []
        engine = transport._engine
        spawn = engine.spawn

        def close_at_once(function: Callable[[], Awaitable[object]], *, name: str) -> None:
            spawned.append(name)
            spawn(function, name=name)
            if name == "trio_ssh GSS-API":
                engine.fail(trio_ssh.ConnectionLost("at once"))

        engine.spawn = close_at_once  # type: ignore[method-assign]
        with pytest.raises(trio_ssh.ConnectionLost, match="at once"):
            await transport.renegotiate_keys()
    assert "trio_ssh GSS-API" in spawned
    assert len(begun) <= 1


# -- checkpoints


@pytest.mark.parametrize("method", ["gssapi_keyex", "gssapi_with_mic"])
async def test_each_step_of_a_login_is_a_checkpoint(realm: StandInRealm, method: str) -> None:
    ours, theirs = memory_pair()
    async with trio_ssh.Transport(ours, gss_kex=True) as client, trio_ssh.Transport(theirs, gss_kex=True) as server:
        interface = Kerberized()
        interface.transport = server

        async def start_server() -> None:
            with trio.testing.assert_checkpoints():
                await server.start_server(interface)

        client.set_gss_host("memory")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(start_server)
            with trio.testing.assert_checkpoints():
                await client.start_client(check_host_key=lambda key: None)
        with trio.testing.assert_checkpoints():
            if method == "gssapi_keyex":
                await client.auth_gssapi_keyex("user")
            else:
                await client.auth_gssapi_with_mic("user", "memory")
    assert interface.principals == [PRINCIPAL]


async def test_a_login_by_it_that_is_refused_says_so(realm: StandInRealm) -> None:
    ours, theirs = memory_pair()
    async with trio_ssh.Transport(ours, gss_kex=True) as client, trio_ssh.Transport(theirs, gss_kex=True) as server:
        interface = Kerberized(trio_ssh.AUTH_FAILED)
        interface.transport = server
        client.set_gss_host("memory")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(server.start_server, interface)
            await client.start_client(check_host_key=lambda key: None)
        with pytest.raises(trio_ssh.AuthenticationException, match="gssapi-keyex failed for user"):
            await client.auth_gssapi_keyex("user")
        with pytest.raises(trio_ssh.AuthenticationException, match="gssapi-with-mic failed for user"):
            await client.auth_gssapi_with_mic("user", "memory")
