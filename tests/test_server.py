"""Serving: who is let in, what one client may do, and what a mistake of the server's author costs."""

from __future__ import annotations

import errno
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing

import trio_ssh
from tests.runtime.helpers import (
    HOST_KEY,
    KIB,
    KNOWN_HOST,
    USER_KEY,
    HandPeer,
    OpenDoor,
    echo,
    listening,
    sleep,
)
from trio_ssh.core.auth_client import none_as_client, password_as_client
from trio_ssh.core.events import AuthAnswered, Ended
from trio_ssh.core.phases import Phase
from trio_ssh.core.questions import CheckPassword, CheckPasswordChange, CheckPublicKey, Question
from trio_ssh.core.role import Role
from trio_ssh.testing import FaultyStream, StalledStream, memory_pair, open_memory_client
from trio_ssh.wire.connection import TcpipChannel, TcpipForward

# -- who is let in


class Answering(trio_ssh.ServerInterface):
    """Answers every check of a login with the same thing."""

    def __init__(self, answer: object) -> None:
        self._answer = answer

    def _give(self, *arguments: object) -> object:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer

    check_auth_none = check_auth_password = check_auth_publickey = _give  # type: ignore[assignment]
    check_auth_interactive = _give  # type: ignore[assignment]


class AnsweringLater(Answering):
    """The same, from async checks."""

    async def _give_later(self, *arguments: object) -> object:
        await trio.lowlevel.checkpoint()
        return self._give()

    check_auth_none = check_auth_password = check_auth_publickey = _give_later  # type: ignore[assignment]
    check_auth_interactive = _give_later  # type: ignore[assignment]


MISTAKES = [True, 1, 0, None, "successful", "AUTH_SUCCESSFUL", object(), ValueError("broken")]


@pytest.mark.parametrize("cls", [Answering, AnsweringLater])
@pytest.mark.parametrize("answer", MISTAKES, ids=lambda answer: type(answer).__name__ + str(answer)[:10])
@pytest.mark.parametrize("method", ["none", "password", "publickey", "keyboard-interactive"])
async def test_nothing_but_the_enum_s_member_lets_anyone_in(
    cls: type[Answering], answer: object, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    credentials: dict[str, dict[str, object]] = {
        "none": {},
        "password": {"password": "x"},
        "publickey": {"pkey": USER_KEY},
        "keyboard-interactive": {"prompt_handler": lambda *prompts: ["x"]},
    }
    with pytest.raises(trio_ssh.AuthenticationException):
        async with open_memory_client(cls(answer), host_key=HOST_KEY, **credentials[method]):  # type: ignore[arg-type]
            raise AssertionError("somebody was let in")
    assert any(record.levelno == logging.ERROR for record in caplog.records), "the mistake was not logged"


async def test_a_server_that_overrides_nothing_lets_nobody_in() -> None:
    with pytest.raises(trio_ssh.AuthenticationException) as raised:
        async with open_memory_client(trio_ssh.ServerInterface(), password="x"):
            raise AssertionError("somebody was let in")
    assert raised.value.allowed == ()


@pytest.mark.parametrize("allowed", [["password"], "password,publickey", ("keyboard-interactive",)])
async def test_a_server_says_which_methods_can_go_on(allowed: Sequence[str] | str) -> None:
    class Picky(trio_ssh.ServerInterface):
        def get_allowed_auths(self, username: str) -> Sequence[str] | str:
            return allowed

    with pytest.raises(trio_ssh.AuthenticationException) as raised:
        async with open_memory_client(Picky()):
            raise AssertionError("somebody was let in")
    assert raised.value.allowed == tuple(allowed.split(",") if isinstance(allowed, str) else allowed)


@pytest.mark.parametrize("allowed", [None, 7, [1, 2], ValueError()], ids=str)
async def test_a_list_of_methods_that_is_none_costs_the_login_and_not_the_server(
    allowed: object, caplog: pytest.LogCaptureFixture
) -> None:
    class Mistaken(trio_ssh.ServerInterface):
        def get_allowed_auths(self, username: str) -> Sequence[str]:
            if isinstance(allowed, Exception):
                raise allowed
            return allowed  # type: ignore[return-value]

    with pytest.raises(trio_ssh.AuthenticationException):
        async with open_memory_client(Mistaken()):
            raise AssertionError("somebody was let in")
    assert not [record for record in caplog.records if "please report" in record.getMessage()]


async def test_several_rounds_of_prompts_are_asked_and_answered() -> None:
    class Rounds(trio_ssh.ServerInterface):
        def __init__(self) -> None:
            self.responses: list[tuple[str, ...]] = []

        def check_auth_interactive(self, username: str, submethods: str) -> trio_ssh.InteractiveQuery:
            return trio_ssh.InteractiveQuery(
                "First", "Answer both", [("Name: ", True), trio_ssh.Prompt("PIN: ", False)]
            )

        async def check_auth_interactive_response(
            self, responses: Sequence[str]
        ) -> trio_ssh.AuthResult | trio_ssh.InteractiveQuery:
            await trio.lowlevel.checkpoint()
            self.responses.append(tuple(responses))
            match len(self.responses):
                case 1:
                    return trio_ssh.InteractiveQuery("Second", "", ["Code: "])
                case 2:
                    return trio_ssh.InteractiveQuery("", "Nothing to answer")
                case _:
                    return trio_ssh.AUTH_SUCCESSFUL

    asked: list[tuple[str, str, list[tuple[str, bool]]]] = []

    async def answer(title: str, instructions: str, prompts: Sequence[trio_ssh.Prompt]) -> list[str]:
        await trio.lowlevel.checkpoint()
        asked.append((title, instructions, [(prompt.text, prompt.echo) for prompt in prompts]))
        return [prompt.text.lower() for prompt in prompts]

    server = Rounds()
    async with open_memory_client(server, prompt_handler=answer) as client:
        assert client.get_transport().is_authenticated()  # type: ignore[union-attr]
    assert asked == [
        ("First", "Answer both", [("Name: ", True), ("PIN: ", False)]),
        ("Second", "", [("Code: ", False)]),
        ("", "Nothing to answer", []),
    ]
    assert server.responses == [("name: ", "pin: "), ("code: ",), ()]


@pytest.mark.parametrize("prompts", [[1], [("text",)], 7, [("text", True, "more")]])
async def test_a_malformed_query_refuses_and_is_the_author_s_mistake(
    prompts: object, caplog: pytest.LogCaptureFixture
) -> None:
    class Malformed(trio_ssh.ServerInterface):
        def check_auth_interactive(self, username: str, submethods: str) -> trio_ssh.InteractiveQuery:
            return trio_ssh.InteractiveQuery("", "", prompts)  # type: ignore[arg-type]

    with pytest.raises(trio_ssh.AuthenticationException):
        async with open_memory_client(Malformed(), prompt_handler=lambda *prompts: []):
            raise AssertionError("somebody was let in")
    assert not [record for record in caplog.records if "please report" in record.getMessage()]


class TwoFactors(trio_ssh.ServerInterface):
    """Wants a key, and then a password."""

    def get_allowed_auths(self, username: str) -> list[str]:
        return ["password"] if "publickey" in self.completed_auths else ["publickey"]

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_PARTIALLY_SUCCESSFUL if key == USER_KEY.public_key else trio_ssh.AUTH_FAILED

    def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_SUCCESSFUL if password == "x" else trio_ssh.AUTH_FAILED


async def test_two_factors_let_in_together() -> None:
    async with open_memory_client(TwoFactors(), pkey=USER_KEY, password="x") as client:
        assert client.get_transport().is_authenticated()  # type: ignore[union-attr]


class PatientTwoFactors(TwoFactors):
    """The same, with a list that has to be waited for."""

    async def get_allowed_auths(self, username: str) -> list[str]:  # type: ignore[override]
        await trio.lowlevel.checkpoint()
        return super().get_allowed_auths(username)

    async def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:  # type: ignore[override]
        await trio.lowlevel.checkpoint()
        return super().check_auth_password(username, password)


@pytest.mark.parametrize("kind", [TwoFactors, PatientTwoFactors])
async def test_a_second_factor_does_not_do_for_both(kind: type[TwoFactors]) -> None:
    server = kind()
    with pytest.raises(trio_ssh.AuthenticationException, match="no key was given"):
        async with open_memory_client(server, password="x"):
            raise AssertionError("somebody was let in")
    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trio_ssh.serve_stream(theirs, kind(), host_keys=[HOST_KEY]))
        async with trio_ssh.Transport(ours) as transport:
            await transport.start_client(check_host_key=lambda key: None)
            with pytest.raises(trio_ssh.BadAuthenticationType, match="password is not allowed"):
                await transport.auth_password("user", "x")  # without asking what is allowed
            with pytest.raises(trio_ssh.PartialAuthentication):
                await transport.auth_publickey("user", USER_KEY)
            await transport.auth_password("user", "x")


@pytest.mark.parametrize("allowed", [None, 7, [1, 2], ValueError(), ["publickey"]], ids=str)
async def test_a_method_that_is_not_among_those_that_can_go_on_is_not_asked_about(allowed: object) -> None:
    class Mistaken(trio_ssh.ServerInterface):
        def get_allowed_auths(self, username: str) -> Sequence[str]:
            if isinstance(allowed, Exception):
                raise allowed
            return allowed  # type: ignore[return-value]

        def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
            raise AssertionError("it was asked")

    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trio_ssh.serve_stream(theirs, Mistaken(), host_keys=[HOST_KEY]))
        async with trio_ssh.Transport(ours) as transport:
            await transport.start_client(check_host_key=lambda key: None)
            with pytest.raises(trio_ssh.AuthenticationException):
                await transport.auth_password("user", "x")


async def test_what_a_check_restricts_holds_where_another_goes_on_with_it() -> None:
    class Asks(trio_ssh.ServerInterface):
        def check_auth_interactive(self, username: str, submethods: str) -> trio_ssh.InteractiveQuery:
            self.restrict(trio_ssh.KeyRestrictions(pty=False))
            return trio_ssh.InteractiveQuery("", "", ["PIN: "])

        def check_auth_interactive_response(self, responses: Sequence[str]) -> trio_ssh.AuthResult:
            self.restrict(trio_ssh.KeyRestrictions(force_command="true"))
            return trio_ssh.AUTH_SUCCESSFUL

        def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
            self.restrict(trio_ssh.KeyRestrictions(force_command="true"))
            return trio_ssh.AUTH_PASSWORD_EXPIRED

        def check_auth_password_change(self, username: str, password: str, new_password: str) -> trio_ssh.AuthResult:
            self.restrict(trio_ssh.KeyRestrictions(pty=False))
            return trio_ssh.AUTH_SUCCESSFUL

    server = Asks()
    async with open_memory_client(server, prompt_handler=lambda *prompts: ["1234"]):
        assert server.restrictions == trio_ssh.KeyRestrictions(pty=False, force_command="true")
    server = Asks()
    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trio_ssh.serve_stream(theirs, server, host_keys=[HOST_KEY]))
        async with trio_ssh.Transport(ours) as transport:
            await transport.start_client(check_host_key=lambda key: None)
            await transport.auth_password("user", "old", new_password=lambda prompt: "new")
            assert server.restrictions == trio_ssh.KeyRestrictions(pty=False, force_command="true")


async def test_one_factor_of_two_is_told_apart_from_none() -> None:
    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trio_ssh.serve_stream(theirs, TwoFactors(), host_keys=[HOST_KEY]))
        async with trio_ssh.Transport(ours) as transport:
            await transport.start_client(check_host_key=lambda key: None)
            with pytest.raises(trio_ssh.BadAuthenticationType, match="password is not allowed") as bad:
                await transport.auth_password("user", "x")
            assert bad.value.allowed == ("publickey",)
            with pytest.raises(trio_ssh.PartialAuthentication, match="another method is wanted") as partial:
                await transport.auth_publickey("user", USER_KEY)
            assert partial.value.allowed == ("password",)
            with pytest.raises(trio_ssh.AuthenticationException, match="password failed for user"):
                await transport.auth_password("user", "wrong")
            assert not transport.is_authenticated()
            await transport.auth_password("user", "x")
            assert transport.is_authenticated()


# -- limits on logging in


class SlowToDecide(trio_ssh.ServerInterface):
    async def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
        await trio.sleep_forever()
        return trio_ssh.AUTH_SUCCESSFUL


@pytest.mark.parametrize("stage", ["silence", "version", "a byte now and then", "authentication", "a slow check"])
async def test_a_client_that_does_not_log_in_is_hung_up_on(stage: str, autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_pair()
    peer = HandPeer(Role.CLIENT, ours)
    server = SlowToDecide() if stage == "a slow check" else OpenDoor()

    async def play() -> None:
        if stage == "version":
            await ours.send_all(b"SSH-2.0-x\r\n")
        elif stage == "a byte now and then":
            for byte in peer.side.data_to_send():
                await trio.sleep(1)
                await ours.send_all(bytes((byte,)))
        elif stage != "silence":
            await peer.until(lambda side: side.connection.phase is Phase.AUTHENTICATE)
            if stage == "a slow check":
                peer.side.record(peer.side.connection.authenticate(none_as_client("user")))
                await peer.send()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play)
        await trio_ssh.serve_stream(theirs, server, host_keys=[HOST_KEY])
        assert trio.current_time() == pytest.approx(120)
        nursery.cancel_scope.cancel()


async def test_one_deadline_covers_keys_and_login(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_pair()
    peer = HandPeer(Role.CLIENT, ours)

    async def play() -> None:
        await trio.sleep(100)
        await peer.until(lambda side: side.connection.phase is Phase.AUTHENTICATE)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(play)
        await trio_ssh.serve_stream(theirs, OpenDoor(), host_keys=[HOST_KEY])
        assert trio.current_time() == pytest.approx(120)
        assert peer.side.connection.phase is Phase.AUTHENTICATE


async def test_a_server_may_be_less_patient(autojump_clock: trio.testing.MockClock) -> None:
    _, theirs = memory_pair()
    await trio_ssh.serve_stream(theirs, OpenDoor(), host_keys=[HOST_KEY], login_timeout=5)
    assert trio.current_time() == pytest.approx(5)


async def test_a_client_that_is_logged_in_may_stay(autojump_clock: trio.testing.MockClock) -> None:
    async with open_memory_client(OpenDoor(), host_key=HOST_KEY) as client:
        await trio.sleep(10_000)
        assert (await client.run_process("x", stdin=b"hello", capture_stdout=True)).stdout == b"hello"


async def guess(stream: trio.abc.Stream, count: int) -> tuple[int, HandPeer]:
    """Try passwords; return how many were answered before the server hung up."""
    peer = HandPeer(Role.CLIENT, stream)
    await peer.until(lambda side: side.connection.phase is Phase.AUTHENTICATE)
    for number in range(count):
        peer.side.record(peer.side.connection.authenticate(password_as_client("user", f"guess {number}")))
        await peer.until(lambda side, done=number: len(side.of(AuthAnswered)) > done or side.of(Ended))
        if peer.side.of(Ended):
            break
    return len(peer.side.of(AuthAnswered)), peer


class Closed(trio_ssh.ServerInterface):
    """Knows no right password."""

    def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_FAILED


async def test_a_client_may_fail_so_often(autojump_clock: trio.testing.MockClock) -> None:
    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trio_ssh.serve_stream(theirs, Closed(), host_keys=[HOST_KEY]))
        answered, peer = await guess(ours, 20)
        assert answered == 5, "the sixth failure is the last"
        failure = peer.side.connection.failure
        assert isinstance(failure, trio_ssh.PeerDisconnected)
        assert failure.reason == trio_ssh.DisconnectReason.NO_MORE_AUTH_METHODS_AVAILABLE


# -- many clients


async def test_clients_that_are_not_logged_in_are_turned_away_when_there_are_too_many(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    limits = trio_ssh.Limits(startups_begin=3, startups_full=3)
    listener, connect_to = listening()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trio_ssh.serve_listeners(OpenDoor, [listener], host_keys=[HOST_KEY], limits=limits))
        silent = [await connect_to() for _ in range(3)]
        await trio.testing.wait_all_tasks_blocked()
        refused = await connect_to()
        assert await refused.receive_some() == b"", "not even a version line"
        assert "a client was turned away: 3 others are not logged in yet" in caplog.text
        await silent[0].aclose()
        await trio.testing.wait_all_tasks_blocked()
        async with trio_ssh.SSHClient() as client:
            await client.connect(
                "memory", username="user", known_hosts=KNOWN_HOST, look_for_keys=False, sock=await connect_to()
            )
            # Who is logged in doesn't count.
            another = await connect_to()
            assert (await another.receive_some()).startswith(b"SSH-2.0-")
        await trio.sleep(130)
        assert all([await stream.receive_some() == b"" or True for stream in silent[1:]])
        for _ in range(3):
            assert (await (await connect_to()).receive_some()).startswith(b"SSH-2.0-"), "the silent ones are gone"
        nursery.cancel_scope.cancel()


async def test_some_are_turned_away_at_random_before_all_are() -> None:
    limits = trio_ssh.Limits(startups_begin=2, startups_rate=50, startups_full=200)
    listener, connect_to = listening()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trio_ssh.serve_listeners(OpenDoor, [listener], host_keys=[HOST_KEY], limits=limits))
        admitted = 0
        for _ in range(60):
            admitted += bool(await (await connect_to()).receive_some())
        # Of 60 each is refused with a probability of 50 to 60 percent: outside of this range in one run of 10**6.
        assert 5 <= admitted <= 55
        nursery.cancel_scope.cancel()


async def test_a_port_that_is_taken_is_named() -> None:
    async with trio.open_nursery() as nursery:
        serve = partial(trio_ssh.serve_tcp, OpenDoor, host="127.0.0.1", host_keys=[HOST_KEY])
        [listener] = await nursery.start(partial(serve, 0))
        port = listener.socket.getsockname()[1]
        with pytest.raises(OSError, match=f"Address already in use: port {port} of 127.0.0.1") as raised:
            await serve(port)
        assert raised.value.errno == errno.EADDRINUSE
        nursery.cancel_scope.cancel()


async def test_a_class_that_handles_no_session_is_told_in_the_log_once(caplog: pytest.LogCaptureFixture) -> None:
    class NoHandler(trio_ssh.ServerInterface):
        def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
            return trio_ssh.AUTH_SUCCESSFUL

    caplog.set_level(logging.INFO, "trio_ssh")
    async with open_memory_client(NoHandler(), host_key=HOST_KEY) as client:
        for _ in range(2):
            with pytest.raises(trio_ssh.ChannelException, match=r"\(administratively prohibited\)$"):
                await client.run_process("x")
    told = [text for text in caplog.messages if "a session is refused" in text]
    assert told == ["a session is refused: NoHandler has neither handle_session nor subsystems"]


@pytest.mark.parametrize("code", [trio_ssh.OPEN_FAILED_UNKNOWN_CHANNEL_TYPE, trio_ssh.OPEN_FAILED_RESOURCE_SHORTAGE])
async def test_only_a_session_too_many_is_said_to_be_one(code: trio_ssh.OpenResult) -> None:
    class Refusing(OpenDoor):
        def check_channel_request(self, kind: str, chanid: int) -> trio_ssh.OpenResult:
            return code

    async with open_memory_client(Refusing(), host_key=HOST_KEY) as client:
        with pytest.raises(trio_ssh.ChannelException) as refused:
            await client.run_process("x")
    assert ("ten by default" in str(refused.value)) is (code is trio_ssh.OPEN_FAILED_RESOURCE_SHORTAGE)


def test_limits_show_what_was_changed() -> None:
    assert repr(trio_ssh.Limits()) == "Limits()"
    assert repr(trio_ssh.Limits(sessions=50)) == "Limits(sessions=50)"
    assert repr(trio_ssh.SFTPLimits(file_bytes=1, depth=2)) == "SFTPLimits(file_bytes=1, depth=2)"


async def test_a_server_takes_note_of_who_is_logged_in(caplog: pytest.LogCaptureFixture) -> None:
    names: list[str | None] = []

    class Door(OpenDoor):
        announced = False

        def announce(self) -> None:
            super().announce()
            self.announced = True

        def logged_in(self) -> None:
            names.append(self.transport.get_username())
            raise ValueError("a mistake of mine")

    door = Door(echo)
    async with open_memory_client(door, host_key=HOST_KEY) as client:
        assert (await client.run_process("x", stdin=b"it goes on", capture_stdout=True)).stdout == b"it goes on"
    assert names == ["user"]
    assert door.announced, "whoever takes a note takes nothing away"
    assert "a mistake of mine" in caplog.text


async def test_who_logs_in_and_who_does_not_is_logged_as_sshd_does(caplog: pytest.LogCaptureFixture) -> None:
    """Administrators, and their tools, look for who tried what from where."""
    caplog.set_level(logging.INFO)
    good, bad = trio_ssh.Ed25519Key.generate(), trio_ssh.Ed25519Key.generate()

    class Door(trio_ssh.ServerInterface):
        def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
            return trio_ssh.AUTH_PARTIALLY_SUCCESSFUL if key == good.public_key else trio_ssh.AUTH_FAILED

        async def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
            is_right = password == "right" and "publickey" in self.completed_auths
            return trio_ssh.AUTH_SUCCESSFUL if is_right else trio_ssh.AUTH_FAILED

        async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
            return 0

    async with trio.open_nursery() as nursery:
        serve = partial(trio_ssh.serve_tcp, Door, 0, host="127.0.0.1", host_keys=[HOST_KEY])
        [listener] = await nursery.start(serve)
        port = listener.socket.getsockname()[1]
        policy = trio_ssh.PinnedFingerprintPolicy(HOST_KEY.fingerprint)
        connect = partial(
            trio_ssh.connect, "127.0.0.1", port, "ali\x1bce", policy=policy, config=None, look_for_keys=False
        )
        with pytest.raises(trio_ssh.AuthenticationException):
            async with connect(pkey=bad, password="wrong"):
                pass
        async with connect(pkey=good, password="right"):
            pass
        nursery.cancel_scope.cancel()
    lines = [re.sub(r"port \d+", "port N", record.getMessage()) for record in caplog.records]
    said = [line for line in lines if " for " in line]
    who = "for ali\\x1bce from 127.0.0.1 port N"
    assert said == [
        f"Failed publickey {who}: ssh-ed25519 {bad.fingerprint}",
        f"Failed password {who}",
        f"Partially accepted publickey {who}: ssh-ed25519 {good.fingerprint}",
        f"Accepted password {who}",
    ]
    assert "wrong" not in caplog.text


async def test_a_server_knows_what_has_let_its_user_in_and_when_it_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trio_ssh")
    authority, key = trio_ssh.Ed25519Key.generate(), trio_ssh.Ed25519Key.generate()
    certificate = trio_ssh.Certificate.issue_for_user(
        authority, key.public_key, key_id="alice's laptop", principals=["alice"], valid_before=2**40, serial=7
    )
    told: list[object] = []

    class Door(OpenDoor):
        def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
            return trio_ssh.AUTH_FAILED

        def check_auth_certificate(self, username: str, certificate: trio_ssh.Certificate) -> trio_ssh.AuthResult:
            return trio_ssh.AUTH_PARTIALLY_SUCCESSFUL

        def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
            return trio_ssh.AUTH_SUCCESSFUL

        def logged_in(self) -> None:
            told.append(("in", self.transport.get_username(), *self.auth_proofs))

        def logged_out(self) -> None:
            told.append(("out", self.transport.get_exception()))
            raise ValueError("a mistake in logged_out")

    async with trio.open_nursery() as nursery:
        serve = partial(trio_ssh.serve_tcp, Door, 0, host="127.0.0.1", host_keys=[HOST_KEY])
        [listener] = await nursery.start(serve)
        port = listener.socket.getsockname()[1]
        policy = trio_ssh.PinnedFingerprintPolicy(HOST_KEY.fingerprint)
        signer = trio_ssh.CertifiedKey(key, certificate)
        async with trio_ssh.connect(
            "127.0.0.1", port, "alice", "right", signer, policy=policy, config=None, look_for_keys=False
        ):
            assert told == [
                (
                    "in",
                    "alice",
                    trio_ssh.AuthProof("publickey", key.public_key, certificate),
                    trio_ssh.AuthProof("password"),
                )
            ]
        with trio.fail_after(5):
            while "Disconnected" not in caplog.text:  # noqa: ASYNC110 -- a log sets no event
                await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    [_, (what, why)] = told
    assert what == "out"
    assert isinstance(why, trio_ssh.PeerDisconnected)
    lines = [re.sub(r"port \d+", "port N", record.getMessage()) for record in caplog.records]
    shown = (
        f"{certificate.key_type} {key.fingerprint} ID alice's laptop (serial 7) CA ssh-ed25519 {authority.fingerprint}"
    )
    assert f"Partially accepted publickey for alice from 127.0.0.1 port N: {shown}" in lines
    [last] = [line for line in lines if line.startswith("Disconnected")]
    assert re.fullmatch(r"Disconnected from user alice 127\.0\.0\.1 port N after \d+\.\d seconds: .*closed by.*", last)
    assert "a mistake in logged_out" in caplog.text


async def test_a_client_that_falls_silent_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    ended = trio.Event()

    class Door(OpenDoor):
        def logged_out(self) -> None:
            ended.set()

    ours, theirs = memory_pair()
    stalled = StalledStream(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(trio_ssh.serve_stream, stalled, Door(), host_keys=[HOST_KEY], keepalive=30))
        async with trio_ssh.SSHClient() as client:
            await client.connect("memory", username="user", known_hosts=KNOWN_HOST, sock=ours, config=None)
            stalled.stop_sending()
            await ended.wait()
            assert trio.current_time() == pytest.approx(120)


@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
async def test_a_keepalive_that_is_none(seconds: float) -> None:
    with pytest.raises(ValueError, match="keepalive is a number of seconds"):
        await trio_ssh.serve_tcp(OpenDoor, 0, host_keys=[HOST_KEY], keepalive=seconds)


async def test_a_factory_that_fails_costs_one_client_its_connection(caplog: pytest.LogCaptureFixture) -> None:
    made = 0

    def factory() -> OpenDoor:
        nonlocal made
        made += 1
        if made == 1:
            raise ValueError("not the first one")
        return OpenDoor(echo)

    listener, connect_to = listening()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trio_ssh.serve_listeners(factory, [listener], host_keys=[HOST_KEY]))
        assert await (await connect_to()).receive_some() == b""
        assert "not the first one" in caplog.text
        assert (await (await connect_to()).receive_some()).startswith(b"SSH-2.0-")
        nursery.cancel_scope.cancel()


async def test_serving_real_sockets_tells_where() -> None:
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            lambda task_status: trio_ssh.serve_tcp(
                OpenDoor, 0, host="127.0.0.1", host_keys=[HOST_KEY], task_status=task_status
            )
        )
        port = listeners[0].socket.getsockname()[1]
        known = trio_ssh.HostKeys()
        known.add(f"[127.0.0.1]:{port}", None, HOST_KEY.public_key)
        async with trio_ssh.connect(
            "127.0.0.1", port, username="user", known_hosts=known, look_for_keys=False
        ) as client:
            assert f"user@127.0.0.1:{port}" in repr(client)
            done = await client.run_process("x", stdin=b"over a socket", capture_stdout=True)
            assert done.stdout == b"over a socket"
            transport = client.get_transport()
            assert transport is not None
            assert transport.getpeername() == ("127.0.0.1", port)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("serve", [trio_ssh.serve_stream, trio_ssh.serve_listeners, trio_ssh.serve_tcp])
@pytest.mark.parametrize(
    ("host_keys", "error", "text"),
    [
        ([], ValueError, "needs at least one host key"),
        (HOST_KEY, TypeError, "a sequence of private keys"),
        (["ssh_host_key"], TypeError, "a host key is a private key, not str"),
        ([HOST_KEY.public_key], TypeError, "a host key is a private key, not Ed25519PublicKey"),
    ],
)
async def test_a_mistake_about_host_keys_is_found_before_the_first_client(
    serve: Callable[..., Awaitable[None]], host_keys: object, error: type[Exception], text: str
) -> None:
    second: object = 0
    first: object = OpenDoor
    if serve is trio_ssh.serve_stream:
        first, second = memory_pair()[0], OpenDoor()
    elif serve is trio_ssh.serve_listeners:
        second = [listening()[0]]
    with trio.fail_after(1), pytest.raises(error, match=text):
        await serve(first, second, host_keys=host_keys)


async def test_a_mistake_about_algorithms_is_found_too() -> None:
    with pytest.raises(ValueError, match=r"unknown ciphers: rot13\. Known are: .*aes128-gcm"):
        await trio_ssh.serve_stream(memory_pair()[0], OpenDoor(), host_keys=[HOST_KEY], ciphers=["rot13"])


# -- limits on what one client may do


async def test_a_client_has_so_many_sessions() -> None:
    async with open_memory_client(OpenDoor(sleep), host_key=HOST_KEY) as client:
        processes = [await client.open_process("x") for _ in range(10)]
        with pytest.raises(trio_ssh.ChannelException, match="resource shortage"):
            await client.open_session()
        # Other channels have a limit of their own.
        await client.open_tcp_stream("host", 1)
        assert len(processes) == 10


async def test_a_session_counts_until_its_handler_has_ended() -> None:
    """Or else a client that closes what it has just started could have any number of handlers at work."""
    running = 0
    most = 0

    async def linger(process: trio_ssh.ServerProcess) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return await sleep(process)
        finally:
            running -= 1

    async with open_memory_client(OpenDoor(linger), host_key=HOST_KEY) as client:
        for _ in range(40):
            try:
                await (await client.open_process("x")).aclose()
            except trio_ssh.ChannelException:
                break
            await trio.testing.wait_all_tasks_blocked()
        assert most <= 10
    assert running == 0


async def test_a_client_sets_so_many_variables_and_no_more() -> None:
    class Granting(OpenDoor):
        def check_channel_env_request(self, channel: trio_ssh.Channel, name: str, value: str) -> bool:
            return True

    limits = trio_ssh.Limits(environment_names=3, environment_bytes=100)
    seen: list[dict[str, str]] = []

    async def show(process: trio_ssh.ServerProcess) -> int:
        seen.append(process.environment)
        return 0

    async with open_memory_client(Granting(show), host_key=HOST_KEY, server_limits=limits) as client:
        channel = await client.open_session()
        for name, value in (("", "x"), ("A=B", "x"), ("A\0", "x"), ("A", "\0"), ("A", "x" * 100)):
            with pytest.raises(trio_ssh.RequestRefused):
                await channel.set_environment_variable(name, value)
        await channel.update_environment({"A": "1", "B": "2", "C": "3"})
        with pytest.raises(trio_ssh.RequestRefused):
            await channel.set_environment_variable("D", "4")
        await channel.exec_command("x")
        await channel.recv_exit_status()
    assert seen == [{"A": "1", "B": "2", "C": "3"}]


async def test_a_burst_of_variables_within_the_limit_is_no_offence() -> None:
    """A client sends them all at once, and the command behind them, without waiting for an answer."""

    class Granting(OpenDoor):
        def check_channel_env_request(self, channel: trio_ssh.Channel, name: str, value: str) -> bool:
            return True

    async def count(process: trio_ssh.ServerProcess) -> int:
        return len(process.environment)

    async with open_memory_client(Granting(count), host_key=HOST_KEY) as client:
        channel = await client.open_session()
        for number in range(100):
            channel._notify("env", trio_ssh.Message().add_string(f"N{number}").add_string("x").asbytes())
        await channel.exec_command("x")
        assert await channel.recv_exit_status() == 100


@pytest.mark.parametrize("answer", [1, None, "yes", 0, ValueError("broken")], ids=str)
async def test_nothing_but_true_grants_a_request(answer: object, caplog: pytest.LogCaptureFixture) -> None:
    class Mistaken(OpenDoor):
        def _give(self, *arguments: object) -> bool:
            if isinstance(answer, Exception):
                raise answer
            return answer  # type: ignore[return-value]

        check_channel_exec_request = check_channel_shell_request = check_channel_subsystem_request = _give  # type: ignore[assignment]
        check_channel_pty_request = check_channel_env_request = check_channel_x11_request = _give  # type: ignore[assignment]
        check_channel_forward_agent_request = check_global_request = _give  # type: ignore[assignment]

    async with open_memory_client(Mistaken(), host_key=HOST_KEY) as client:
        channel = await client.open_session()
        for request in (
            lambda: channel.exec_command("x"),
            channel.invoke_shell,
            lambda: channel.invoke_subsystem("x"),
            channel.get_pty,
            lambda: channel.set_environment_variable("A", "B"),
            channel.request_x11,
            channel.request_forward_agent,
            lambda: client.get_transport().global_request("x"),  # type: ignore[union-attr]
        ):
            caplog.clear()
            with pytest.raises(trio_ssh.RequestRefused):
                await request()
            assert any(record.levelno == logging.ERROR for record in caplog.records), "the mistake was not logged"


@pytest.mark.parametrize(
    "answer", [0, True, None, trio_ssh.OpenFailureReason.CONNECT_FAILED, ValueError("broken")], ids=str
)
async def test_nothing_but_the_enum_s_member_opens_a_channel(answer: object, caplog: pytest.LogCaptureFixture) -> None:
    class Mistaken(OpenDoor):
        def _give(self, *arguments: object) -> trio_ssh.OpenResult:
            if isinstance(answer, Exception):
                raise answer
            return answer  # type: ignore[return-value]

        check_channel_request = check_channel_direct_tcpip_request = _give  # type: ignore[assignment]

    async with open_memory_client(Mistaken(), host_key=HOST_KEY) as client:
        for opening in (client.open_session, lambda: client.open_tcp_stream("host", 1)):
            caplog.clear()
            with pytest.raises(trio_ssh.ChannelException, match="administratively prohibited"):
                await opening()
            assert any(record.levelno == logging.ERROR for record in caplog.records), "the mistake was not logged"


@pytest.mark.parametrize("result", [member for member in trio_ssh.OpenResult if member is not trio_ssh.OPEN_SUCCEEDED])
async def test_the_reason_of_a_refusal_reaches_the_client(result: trio_ssh.OpenResult) -> None:
    class Refusing(OpenDoor):
        async def check_channel_request(self, kind: str, chanid: int) -> trio_ssh.OpenResult:
            await trio.lowlevel.checkpoint()
            return result

    async with open_memory_client(Refusing(), host_key=HOST_KEY) as client:
        with pytest.raises(trio_ssh.ChannelException) as raised:
            await client.open_session()
        assert raised.value.code == result.value


async def test_a_direct_channel_is_served_and_knows_its_destination() -> None:
    seen: list[object] = []

    class Forwarding(OpenDoor):
        def check_channel_direct_tcpip_request(
            self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
        ) -> trio_ssh.OpenResult:
            seen.append((origin, destination))
            return trio_ssh.OPEN_SUCCEEDED

        async def handle_channel(self, channel: trio_ssh.Channel, destination: tuple[str, int] | None) -> None:
            seen.append(destination)
            await channel.send_all(await channel.read())

    async with open_memory_client(Forwarding(), host_key=HOST_KEY) as client:
        stream = await client.open_tcp_stream("db.internal", 5432)
        await stream.send_all(b"query")
        await stream.send_eof()
        assert await stream.read() == b"query"
    assert seen == [(("127.0.0.1", 0), ("db.internal", 5432)), ("db.internal", 5432)]


# -- handlers


@pytest.mark.parametrize(("result", "status"), [(None, 0), (0, 0), (7, 7), (255, 255)])
async def test_a_handler_s_result_is_the_status(result: int | None, status: int) -> None:
    async def handle(process: trio_ssh.ServerProcess) -> int | None:
        return result

    async with open_memory_client(OpenDoor(handle), host_key=HOST_KEY) as client:
        done = await client.run_process("x", check=False, capture_stdout=True)
        assert done.returncode == status


@pytest.mark.parametrize("result", ["0", 1.5, object(), [0], True, 256], ids=lambda result: type(result).__name__)
async def test_a_result_that_is_no_status_is_a_failure_of_the_handler_alone(
    result: object, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(process: trio_ssh.ServerProcess) -> int | None:
        return await echo(process) if process.command == "echo" else result  # type: ignore[return-value]

    server = OpenDoor(handle)
    with pytest.raises((TypeError, ValueError), match="exit status"):
        async with open_memory_client(server, host_key=HOST_KEY) as client:
            other = await client.open_process("echo")
            done = await client.run_process("x", check=False, capture_stdout=True)
            assert done.returncode == 255
            await other.stdin.write("unharmed")
            await other.stdin.aclose()
            assert await other.stdout.read() == b"unharmed"
    assert "please report" not in caplog.text


async def test_a_handler_s_exception_ends_its_channel_and_no_other(caplog: pytest.LogCaptureFixture) -> None:
    async def handle(process: trio_ssh.ServerProcess) -> int:
        if process.command == "echo":
            return await echo(process)
        await process.stdout.write("so far")
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        async with open_memory_client(OpenDoor(handle), host_key=HOST_KEY) as client:
            other = await client.open_process("echo")
            done = await client.run_process("x", check=False, capture_stdout=True)
            assert (done.stdout, done.returncode) == (b"so far", 255)
            await other.stdin.write("unharmed")
            await other.stdin.aclose()
            assert await other.stdout.read() == b"unharmed"
    assert "ValueError: mine" in caplog.text


async def test_a_handler_of_a_channel_may_fail_too(caplog: pytest.LogCaptureFixture) -> None:
    async def handle(channel: trio_ssh.Channel) -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        async with open_memory_client(OpenDoor(echo, handle), host_key=HOST_KEY) as client:
            stream = await client.open_tcp_stream("host", 1)
            assert await stream.read() == b""
            done = await client.run_process("x", stdin=b"unharmed", capture_stdout=True)
            assert done.stdout == b"unharmed"
    assert "ValueError: mine" in caplog.text


async def test_a_stream_of_the_handler_s_own_that_breaks_is_its_failure() -> None:
    """Only a client that went away is no failure; it must not be taken for one that a handler's own resource broke."""

    async def handle(process: trio_ssh.ServerProcess) -> int:
        ours, theirs = memory_pair()
        await theirs.aclose()
        await ours.send_all(b"x")
        return 0

    with pytest.raises(trio.BrokenResourceError):
        async with open_memory_client(OpenDoor(handle), host_key=HOST_KEY) as client:
            done = await client.run_process("x", check=False, capture_stdout=True)
            assert done.returncode == 255


async def test_a_group_of_exceptions_is_one_failure(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("mine")

    async def handle(process: trio_ssh.ServerProcess) -> int:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fail)
            nursery.start_soon(trio.sleep_forever)
        return 0

    with pytest.raises(ExceptionGroup):  # noqa: ASYNC401 -- the oldest pytest that we admit has no RaisesGroup
        async with open_memory_client(OpenDoor(handle), host_key=HOST_KEY) as client:
            done = await client.run_process("x", check=False, capture_stdout=True)
            assert done.returncode == 255


# -- subsystems


async def test_subsystems_are_run_by_name() -> None:
    class Greeting(trio_ssh.SubsystemHandler):
        async def handle(self, process: trio_ssh.ServerProcess) -> int:
            await process.stdout.write(f"hello from {process.subsystem}")
            return 4

    class Serving(trio_ssh.ServerInterface):
        subsystems = {"greeting": Greeting}  # noqa: RUF012 -- as a user writes it

        def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
            return trio_ssh.AUTH_SUCCESSFUL

    async with open_memory_client(Serving(), host_key=HOST_KEY) as client:
        channel = await client.open_session()
        for name in ("sftp", "greeting\0", ""):
            with pytest.raises(trio_ssh.RequestRefused, match="no such subsystem"):
                await channel.invoke_subsystem(name)
        with pytest.raises(trio_ssh.RequestRefused):
            await channel.exec_command("x")
        await channel.invoke_subsystem("greeting")
        assert await channel.read() == b"hello from greeting"
        assert await channel.recv_exit_status() == 4


# -- the stream


async def test_the_stream_is_closed_when_serving_ends() -> None:
    ours, theirs = memory_pair()
    stream = FaultyStream(theirs)
    await ours.aclose()
    await trio_ssh.serve_stream(stream, OpenDoor(), host_keys=[HOST_KEY])
    assert stream.is_closed


async def test_what_a_bad_client_said_is_logged_escaped(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    ours, theirs = memory_pair()
    await ours.send_all(b"GET /\x1b[31m HTTP/1.0\r\n\r\n")
    await trio_ssh.serve_stream(theirs, OpenDoor(), host_keys=[HOST_KEY])
    assert r"GET /\x1b[31m" in caplog.text
    assert "\x1b" not in caplog.text


async def test_a_large_packet_is_refused_by_its_length() -> None:
    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trio_ssh.serve_stream(theirs, OpenDoor(), host_keys=[HOST_KEY]))
        await ours.send_all(b"SSH-2.0-x\r\n" + (256 * KIB + 8).to_bytes(4, "big") + bytes(4))
        said = b"".join([chunk async for chunk in ours])
        assert b"a packet length of 262152" in said


# -- what the log says of those who did not get in


@pytest.mark.parametrize("ending", ["fails", "hangs up", "is silent", "speaks no SSH"])
async def test_the_log_says_where_a_client_was_that_did_not_log_in(
    ending: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Closed(OpenDoor):
        async def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
            await trio.lowlevel.checkpoint()
            return trio_ssh.AUTH_FAILED

    caplog.set_level(logging.INFO, "trio_ssh.server")
    limits = trio_ssh.Limits(auth_attempts=1, auth_failure_seconds=0)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(
            lambda task_status: trio_ssh.serve_tcp(
                Closed,
                0,
                host="127.0.0.1",
                host_keys=[HOST_KEY],
                limits=limits,
                login_timeout=0.05 if ending == "is silent" else None,
                task_status=task_status,
            )
        )
        port = listeners[0].socket.getsockname()[1]
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        our_port = stream.socket.getsockname()[1]
        if ending == "fails":
            async with trio_ssh.Transport(stream) as transport:
                await transport.start_client(check_host_key=lambda key: None)
                with pytest.raises(trio_ssh.SSHException):
                    await transport.auth_password("user", "wrong")
                    await transport.auth_password("user", "wrong")
        elif ending == "speaks no SSH":
            await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
        elif ending == "hangs up":
            await stream.receive_some()
            await stream.aclose()
        with trio.fail_after(10):
            while "did not log in" not in caplog.text:  # noqa: ASYNC110 -- a log sets no event
                await trio.sleep(0.01)
        await stream.aclose()
        nursery.cancel_scope.cancel()
    assert f"a client at 127.0.0.1 port {our_port} did not log in" in caplog.text
    assert "listening there" not in caplog.text


@pytest.mark.parametrize("mistake", [{"host_keys": []}, {"host_keys": [HOST_KEY], "ciphers": ["rot13"]}])
async def test_a_stream_is_closed_where_the_arguments_are_wrong(mistake: dict[str, Any]) -> None:
    ours, theirs = memory_pair()
    with pytest.raises(ValueError, match=r"host key|rot13"):
        await trio_ssh.serve_stream(theirs, OpenDoor(), **mistake)
    assert await ours.receive_some() == b""
    await ours.aclose()


class Expired(trio_ssh.ServerInterface):
    """Restricts whoever has an expired password; the check of the change knows nothing of that."""

    def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        self.restrict(trio_ssh.KeyRestrictions(force_command="true"))
        return trio_ssh.AUTH_PASSWORD_EXPIRED

    def check_auth_password_change(self, username: str, password: str, new_password: str) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_SUCCESSFUL

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_FAILED


@pytest.mark.parametrize(
    ("questions", "is_in"),
    [
        ([CheckPassword("user", "old"), CheckPasswordChange("user", "old", "new")], True),
        ([CheckPasswordChange("user", "old", "new")], False),
        ([CheckPassword("other", "old"), CheckPasswordChange("user", "old", "new")], False),
        (
            [
                CheckPassword("user", "old"),
                CheckPublicKey("user", USER_KEY.public_key, is_proven=False),
                CheckPasswordChange("user", "old", "new"),
            ],
            False,
        ),
    ],
    ids=["in order", "at once", "another's", "with a key between"],
)
async def test_a_password_is_changed_only_right_behind_its_check(questions: list[Question], is_in: bool) -> None:
    server = Expired()
    answers = [server.answer_question(question) for question in questions]
    assert answers[-1] is (trio_ssh.AUTH_SUCCESSFUL if is_in else trio_ssh.AUTH_FAILED)
    assert (server.restrictions == trio_ssh.KeyRestrictions(force_command="true")) is is_in


async def test_one_factor_twice_is_not_two() -> None:
    class Two(trio_ssh.ServerInterface):
        def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
            return self._passed()

        def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
            return self._passed()

        def _passed(self) -> trio_ssh.AuthResult:
            return trio_ssh.AUTH_SUCCESSFUL if self.completed_auths else trio_ssh.AUTH_PARTIALLY_SUCCESSFUL

    server = Two()
    key = CheckPublicKey("user", USER_KEY.public_key, is_proven=True)
    assert server.answer_question(key) is trio_ssh.AUTH_PARTIALLY_SUCCESSFUL
    assert server.answer_question(key) is trio_ssh.AUTH_FAILED
    assert server.answer_question(CheckPassword("user", "x")) is trio_ssh.AUTH_SUCCESSFUL


async def test_ports_that_a_resolver_would_cut_reach_no_check() -> None:
    asked: list[object] = []

    class Asked(OpenDoor):
        def check_channel_direct_tcpip_request(
            self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
        ) -> trio_ssh.OpenResult:
            asked.append(destination)
            return trio_ssh.OPEN_SUCCEEDED

        def check_port_forward_request(self, address: str, port: int) -> int:
            asked.append((address, port))
            return 1

        def cancel_port_forward_request(self, address: str, port: int) -> None:
            asked.append((address, port))

    async with open_memory_client(Asked(), host_key=HOST_KEY) as client:
        transport = client.get_transport()
        assert transport is not None
        for ports in ((65536 + 22, 0), (22, 65536)):
            with pytest.raises(trio_ssh.ChannelException, match="prohibited"):
                await transport._open("direct-tcpip", TcpipChannel("127.0.0.1", ports[0], "", ports[1]).encode())
        for name in ("tcpip-forward", "cancel-tcpip-forward"):
            with pytest.raises(trio_ssh.RequestRefused):
                await transport.global_request(name, TcpipForward("", 65536 + 22).encode())
    assert asked == []
