"""`AgentServer`: keys are used as often, as long, where, and with whose consent they may be, and not otherwise."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as some

import trio_ssh
from tests.keys.tokens import Token
from trio_ssh.core.auth_client import signed_data
from trio_ssh.keys import agent_protocol as protocol
from trio_ssh.keys.agent_constraints import NO_CONSTRAINTS
from trio_ssh.testing import memory_pair
from trio_ssh.wire.fields import DeclaredMessage
from trio_ssh.wire.message import Message

KEY: Final = trio_ssh.Ed25519Key(bytes(32), "first")
OTHER: Final = trio_ssh.Ed25519Key(bytes(range(32)), "second")


@asynccontextmanager
async def asked(server: trio_ssh.AgentServer, *, allow_changes: bool = True) -> AsyncGenerator[trio_ssh.Agent]:
    """A connection to the agent."""
    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(server.serve_stream, theirs, allow_changes=allow_changes))
        async with trio_ssh.Agent(stream=ours) as agent:
            yield agent


async def names(agent: trio_ssh.Agent) -> list[str]:
    return [key.comment for key in await agent.get_keys()]


# -- how long, how often


async def test_a_key_is_forgotten_when_its_time_is_over(autojump_clock: trio.testing.MockClock) -> None:
    server = trio_ssh.AgentServer([OTHER])
    async with asked(server) as agent:
        await agent.add(KEY, lifetime=60)
        [_, key] = await agent.get_keys()
        await trio.sleep(59)
        await key.sign(b"data")
        await trio.sleep(1)
        with pytest.raises(trio_ssh.AgentException):
            await key.sign(b"data")
        assert await names(agent) == ["second"]
        server.add(KEY, lifetime=0.5)
        assert server.get_keys() == (OTHER, KEY)
        await trio.sleep(0.5)
        assert server.get_keys() == (OTHER,)


async def test_a_key_that_is_added_again_has_its_new_constraints(autojump_clock: trio.testing.MockClock) -> None:
    async with asked(trio_ssh.AgentServer()) as agent:
        await agent.add(KEY, lifetime=60)
        await agent.add(KEY, comment="for good")
        await trio.sleep(60)
        assert await names(agent) == ["for good"]


async def test_a_key_is_forgotten_after_its_last_signature() -> None:
    async with asked(trio_ssh.AgentServer()) as agent:
        await agent.add(KEY, max_signatures=2)
        [key] = await agent.get_keys()
        await key.sign(b"one")
        await key.sign(b"two")
        with pytest.raises(trio_ssh.AgentException):
            await key.sign(b"three")
        assert await names(agent) == []


# -- with whose consent


async def test_its_user_is_asked_about_each_signature() -> None:
    answers = [True, False, True]
    asked_for: list[tuple[trio_ssh.PublicKey, str]] = []

    async def confirm(key: trio_ssh.PublicKey, comment: str) -> bool:
        await trio.lowlevel.checkpoint()
        asked_for.append((key, comment))
        return answers.pop(0)

    async with asked(trio_ssh.AgentServer(confirm=confirm)) as agent:
        await agent.add(KEY, confirm=True, comment="\x1b[31mred")
        [key] = await agent.get_keys()
        await key.sign(b"data")
        with pytest.raises(trio_ssh.AgentException, match="its user said no"):
            await key.sign(b"data")
        await key.sign(b"data")
    assert asked_for == [(KEY.public_key, "\\x1b[31mred")] * 3


@pytest.mark.parametrize("answer", [None, 1, "yes", ValueError("no")])
async def test_what_is_not_exactly_a_yes_is_a_no(answer: object, caplog: pytest.LogCaptureFixture) -> None:
    def confirm(key: trio_ssh.PublicKey, comment: str) -> bool:
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]

    server = trio_ssh.AgentServer(confirm=confirm)
    server.add(KEY, confirm=True)
    async with asked(server) as agent:
        [key] = await agent.get_keys()
        with pytest.raises(trio_ssh.AgentException):
            await key.sign(b"data")


async def test_where_nobody_can_be_asked_no_key_is_taken_that_wants_it() -> None:
    server = trio_ssh.AgentServer()
    with pytest.raises(ValueError, match="confirm="):
        server.add(KEY, confirm=True)
    async with asked(server) as agent:
        with pytest.raises(trio_ssh.AgentException):
            await agent.add(KEY, confirm=True)


@pytest.mark.parametrize("change", ["remove", "replace", "lock", "expire"])
async def test_a_yes_comes_too_late_for_a_key_that_is_gone(change: str, autojump_clock: trio.testing.MockClock) -> None:
    async def confirm(key: trio_ssh.PublicKey, comment: str) -> bool:
        async with asked(server) as another:
            match change:
                case "remove":
                    await another.remove(KEY)
                case "replace":
                    await another.add(KEY, confirm=True)
                case "lock":
                    await another.lock("x")
                case _:
                    await trio.sleep(60)
        return True

    server = trio_ssh.AgentServer(confirm=confirm)
    async with asked(server) as agent:
        await agent.add(KEY, confirm=True, lifetime=60)
        [key] = await agent.get_keys()
        with pytest.raises(trio_ssh.AgentException):
            await key.sign(b"data")


async def test_whoever_is_asked_holds_up_nobody_else() -> None:
    is_asked, may_answer = trio.Event(), trio.Event()

    async def confirm(key: trio_ssh.PublicKey, comment: str) -> bool:
        is_asked.set()
        await may_answer.wait()
        return True

    server = trio_ssh.AgentServer([OTHER], confirm=confirm)
    server.add(KEY, confirm=True)
    async with asked(server) as waiting, asked(server) as agent:
        [_, key] = await waiting.get_keys()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(key.sign, b"data")
            await is_asked.wait()
            assert await names(agent) == ["second", "first"]
            may_answer.set()


# -- locked


async def test_locked_it_does_nothing_for_anybody() -> None:
    server = trio_ssh.AgentServer([KEY])
    async with asked(server) as agent, asked(server) as another:
        [key] = await agent.get_keys()
        await agent.lock("open sesame")
        assert server.is_locked
        assert repr(server) == "<AgentServer, 1 keys, locked>"
        assert await names(another) == []
        requests: list[Callable[[], Awaitable[object]]] = [
            lambda: key.sign(b"data"),
            lambda: another.add(OTHER),
            lambda: another.remove(KEY),
            another.remove_all,
            lambda: another.lock("again"),
            another.query_extensions,
        ]
        for request in requests:
            with pytest.raises(trio_ssh.AgentException):
                await request()
        await another.unlock("open sesame")
        assert await names(agent) == ["first"]
        with pytest.raises(trio_ssh.AgentException):
            await agent.unlock("open sesame")


async def test_guessing_its_passphrase_takes_longer_each_time(autojump_clock: trio.testing.MockClock) -> None:
    server = trio_ssh.AgentServer()
    async with asked(server) as agent:
        await agent.lock("open sesame")
        began = trio.current_time()
        for attempt in range(1, 4):
            with pytest.raises(trio_ssh.AgentException, match="the passphrase is wrong"):
                await agent.unlock("friend")
            assert trio.current_time() - began == pytest.approx(sum(range(1, attempt + 1)) / 10)


async def test_many_connections_guess_no_faster_than_one(autojump_clock: trio.testing.MockClock) -> None:
    server = trio_ssh.AgentServer()

    async def guess() -> None:
        async with asked(server) as agent:
            with pytest.raises(trio_ssh.AgentException):
                await agent.unlock("friend")

    async with asked(server) as agent:
        await agent.lock("open sesame")
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(200):
                nursery.start_soon(guess)
        assert trio.current_time() - began == pytest.approx(sum(min(n, 100) for n in range(1, 201)) / 10)


# -- who may change what


async def test_a_connection_may_be_for_signatures_only() -> None:
    server = trio_ssh.AgentServer([KEY])
    async with asked(server, allow_changes=False) as agent:
        [key] = await agent.get_keys()
        KEY.verify(b"data", await key.sign(b"data"))
        requests: list[Callable[[], Awaitable[object]]] = [
            lambda: agent.add(OTHER),
            lambda: agent.remove(KEY),
            agent.remove_all,
            lambda: agent.lock("x"),
            lambda: agent.unlock("x"),
        ]
        for request in requests:
            with pytest.raises(trio_ssh.AgentException):
                await request()
    assert server.get_keys() == (KEY,)
    assert not server.is_locked


def test_whoever_runs_it_changes_it_without_asking() -> None:
    server = trio_ssh.AgentServer([KEY, OTHER])
    assert repr(server) == "<AgentServer, 2 keys>"
    assert server.remove(KEY)
    assert not server.remove(KEY.public_key)
    server.remove_all()
    assert server.get_keys() == ()


async def test_it_holds_no_more_keys_than_one_answer_lists() -> None:
    server = trio_ssh.AgentServer()
    async with asked(server) as agent:
        half = "x" * (protocol.PAYLOAD_BYTES // 2)
        await agent.add(KEY, comment=half)
        with pytest.raises(trio_ssh.AgentException):
            await agent.add(OTHER, comment=half)
        with pytest.raises(ValueError, match="as many keys"):
            server.add(OTHER, comment=half)
        await agent.add(KEY, comment=half + "y")
        assert len(await agent.get_keys()) == 1


async def test_it_holds_no_more_constraints_than_one_request_names() -> None:
    """Keys are few bytes in the list, and each may be for so many destinations that it fills a request."""
    server = trio_ssh.AgentServer()
    hops = [trio_ssh.AgentHop(f"{number}", [KEY.public_key] * 64) for number in range(40)]
    half = [trio_ssh.AgentDestination(each) for each in hops]
    async with asked(server) as agent:
        await agent.add(KEY, destinations=half)
        with pytest.raises(trio_ssh.AgentException):
            await agent.add(OTHER, destinations=half)
        with pytest.raises(ValueError, match="as many constraints"):
            server.add(OTHER, destinations=half)
        await agent.add(KEY)
        await agent.add(OTHER, destinations=half)
    assert server.get_keys() == (KEY, OTHER)


# -- destinations

HOSTS: Final = {name: trio_ssh.Ed25519Key.generate(name) for name in ("a", "b", "c")}


def hop(name: str, username: str = "") -> trio_ssh.AgentHop:
    return trio_ssh.AgentHop(name, [HOSTS[name].public_key], username=username)


#: As ``ssh-add -h alice@a -h 'a>b'``: to a as alice, and from there to b.
WAY: Final = [
    trio_ssh.AgentDestination(hop("a", "ali*")),
    trio_ssh.AgentDestination(hop("b"), hop("a")),
]


async def bind(agent: trio_ssh.Agent, host: str, session: bytes = b"", *, is_forwarding: bool = False) -> None:
    """Tell the agent that the connection is for this host, whose proof is real."""
    session_id = session or host.encode()
    details = protocol.SessionBind(
        HOSTS[host].asbytes(), session_id, HOSTS[host].sign(session_id), is_forwarding
    ).encode()
    await agent.request_extension(protocol.SESSION_BIND, details)


def login(session: str, username: str = "alice", host_key: str = "") -> bytes:
    """What a client signs to log in."""
    if not host_key:
        return signed_data(session.encode(), username, "ssh-ed25519", KEY.asbytes())
    data = Message().add_string(session).add_byte(50).add_string(username).add_string("ssh-connection")
    data.add_string("publickey-hostbound-v00@openssh.com").add_boolean(True).add_string("ssh-ed25519")
    return data.add_string(KEY.asbytes()).add_string(HOSTS[host_key].asbytes()).asbytes()


@pytest.mark.parametrize(
    ("hosts", "data", "is_listed", "is_signed"),
    [
        ([], login("a"), True, False),  # nobody knows where to
        (["a"], login("a"), True, True),
        (["a"], login("a", host_key="a"), True, True),
        (["a"], login("a", "bob"), True, False),
        (["a"], login("a", host_key="b"), True, False),
        (["a"], login("b"), True, False),  # another session
        (["a"], b"a file", True, False),
        (["b"], login("b"), False, False),  # only from a
        (["c"], login("c"), False, False),
        (["a", "b"], login("b", host_key="b"), True, True),
        (["a", "b"], login("b"), True, False),  # a could have said anything
        (["a", "b"], login("a", host_key="a"), True, False),
        (["a", "c"], login("c", host_key="c"), False, False),
        (["c", "b"], login("b", host_key="b"), False, False),
        (["a", "b", "c"], login("c", host_key="c"), False, False),
    ],
)
async def test_a_key_is_used_only_on_its_way(hosts: list[str], data: bytes, is_listed: bool, is_signed: bool) -> None:
    server = trio_ssh.AgentServer()
    server.add(KEY, destinations=WAY)
    async with asked(server) as agent:
        for host in hosts:
            await bind(agent, host, is_forwarding=host != hosts[-1])
        assert await names(agent) == (["first"] if is_listed else [])
        key = trio_ssh.AgentKey(agent, KEY.asbytes())
        if is_signed:
            KEY.verify(data, await key.sign(data))
        else:
            with pytest.raises(trio_ssh.AgentException):
                await key.sign(data)
            if not is_listed:
                with pytest.raises(trio_ssh.AgentException):
                    await agent.remove(KEY)
                with pytest.raises(trio_ssh.AgentException):
                    await agent.add(KEY)


async def test_a_host_sees_only_keys_that_lead_beyond_it() -> None:
    """On a connection that is forwarded to a, and has not gone on yet."""
    server = trio_ssh.AgentServer()
    server.add(KEY, destinations=WAY)
    server.add(OTHER, destinations=WAY[:1])
    async with asked(server) as agent:
        await bind(agent, "a", is_forwarding=True)
        assert await names(agent) == ["first"]
        with pytest.raises(trio_ssh.AgentException):
            await trio_ssh.AgentKey(agent, KEY.asbytes()).sign(login("a"))


async def test_a_false_proof_binds_nothing_and_hides_what_it_would_have_hidden() -> None:
    server = trio_ssh.AgentServer([OTHER])
    server.add(KEY, destinations=WAY)
    async with asked(server) as agent:
        details = protocol.SessionBind(HOSTS["a"].asbytes(), b"session", HOSTS["b"].sign(b"session"), False).encode()
        with pytest.raises(trio_ssh.AgentException):
            await agent.request_extension(protocol.SESSION_BIND, details)
        assert await names(agent) == ["second"]


async def test_a_connection_is_bound_to_one_login() -> None:
    async with asked(trio_ssh.AgentServer()) as agent:
        await bind(agent, "a", is_forwarding=True)
        await bind(agent, "a", is_forwarding=True)  # the same once more
        with pytest.raises(trio_ssh.AgentException):
            await bind(agent, "b", b"a")  # two hosts, one session
        await bind(agent, "b")
        with pytest.raises(trio_ssh.AgentException):
            await bind(agent, "c")


@pytest.mark.parametrize(
    ("principal", "authority", "is_listed"), [("a", "c", True), ("other", "c", False), ("a", "b", False)]
)
async def test_a_host_may_be_known_by_its_certificate(principal: str, authority: str, is_listed: bool) -> None:
    certificate = trio_ssh.Certificate.issue_for_host(
        HOSTS[authority],
        HOSTS["a"].public_key,
        key_id="a",
        principals=[principal],
        valid_before=trio_ssh.Certificate.FOREVER,
    )
    server = trio_ssh.AgentServer()
    by_authority = trio_ssh.AgentHop("a", authorities=[HOSTS["c"].public_key])
    server.add(KEY, destinations=[trio_ssh.AgentDestination(by_authority)])
    async with asked(server) as agent:
        details = protocol.SessionBind(certificate.blob, b"a", HOSTS["a"].sign(b"a"), False).encode()
        await agent.request_extension(protocol.SESSION_BIND, details)
        assert await names(agent) == (["first"] if is_listed else [])
        if is_listed:
            await trio_ssh.AgentKey(agent, KEY.asbytes()).sign(login("a"))


async def test_a_way_has_an_end() -> None:
    async with asked(trio_ssh.AgentServer()) as agent:
        for number in range(16):
            await bind(agent, "a", b"%d" % number, is_forwarding=True)
        with pytest.raises(trio_ssh.AgentException):
            await bind(agent, "a", b"one more", is_forwarding=True)


# -- what is no request


async def told(server: trio_ssh.AgentServer, *sent: bytes) -> bytes:
    """Say something to the agent, hang up, and return all that it answers."""
    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.serve_stream, theirs)
        for data in sent:
            await ours.send_all(data)
        await ours.send_eof()
        answered = b""
        while data := await ours.receive_some():
            answered += data
    return answered


FAILURE: Final = protocol.frame(protocol.AgentFailure().encode())
LISTED: Final = protocol.frame(protocol.write_identities([protocol.ListedKey(KEY.asbytes(), "first")]).encode())
LIST: Final = protocol.frame(protocol.RequestIdentities().encode())

EVERY_REQUEST: Final[list[DeclaredMessage]] = [
    protocol.RequestIdentities(),
    protocol.SignRequest(KEY.asbytes(), b"data", 0),
    protocol.write_added(OTHER, "", NO_CONSTRAINTS),
    protocol.write_added(OTHER, "", attrs.evolve(NO_CONSTRAINTS, lifetime=60)),
    protocol.RemoveIdentity(KEY.asbytes()),
    protocol.RemoveAllIdentities(),
    protocol.LockAgent(b"x"),
    protocol.AgentExtension(
        protocol.SESSION_BIND,
        protocol.SessionBind(HOSTS["a"].asbytes(), b"s", HOSTS["a"].sign(b"s"), False).encode(),
    ),
]


@pytest.mark.parametrize("request_", EVERY_REQUEST, ids=lambda request: type(request).__name__)
async def test_a_request_that_is_cut_short_fails_and_the_next_is_heard(request_: DeclaredMessage) -> None:
    payload = request_.encode()
    without_constraints = protocol.write_added(OTHER, "", NO_CONSTRAINTS).encode()
    for length in set(range(1, len(payload))) - {len(without_constraints)}:
        server = trio_ssh.AgentServer([KEY])
        assert await told(server, protocol.frame(payload[:length]) + LIST) == FAILURE + LISTED
    if not isinstance(request_, protocol.AddIdentityConstrained):  # in which a 1 would be a constraint
        assert await told(trio_ssh.AgentServer([KEY]), protocol.frame(payload + b"\1") + LIST) == FAILURE + LISTED


@pytest.mark.parametrize("number", [0, 1, 5, 6, 12, 14, 20, 21, 26, 28, 200, 255])
async def test_a_request_that_is_not_known_fails(number: int) -> None:
    assert await told(trio_ssh.AgentServer([KEY]), protocol.frame(bytes((number,))) + LIST) == FAILURE + LISTED


@pytest.mark.parametrize("data", [b"\xff\xff\xff\xff", b"\0\0\0\0", b"GET / HTTP/1.1\r\n\r\n"])
async def test_whoever_speaks_something_else_is_hung_up_on(data: bytes) -> None:
    assert await told(trio_ssh.AgentServer([KEY]), LIST, data) == LISTED


async def test_requests_may_come_byte_by_byte_or_all_at_once() -> None:
    assert await told(trio_ssh.AgentServer([KEY]), *(bytes((byte,)) for byte in LIST)) == LISTED
    assert await told(trio_ssh.AgentServer([KEY]), LIST * 100) == LISTED * 100


async def test_rsa_signs_by_sha2_only() -> None:
    key = trio_ssh.RSAKey.generate(2048)
    for flags, algorithm in ((2, "rsa-sha2-256"), (4, "rsa-sha2-512"), (0, None), (1, None)):
        request = protocol.SignRequest(key.asbytes(), b"data", flags)
        answer = await told(trio_ssh.AgentServer([key]), protocol.frame(request.encode()))
        if algorithm is None:
            assert answer == FAILURE
        else:
            key.verify(b"data", protocol.SignResponse.from_payload(answer[4:]).signature, algorithm)


@given(some.lists(some.binary(min_size=1, max_size=60), max_size=5))
def test_whatever_is_asked_has_one_answer_each(payloads: list[bytes]) -> None:
    # A lock, and what unlocks it, would make whoever comes next wait.
    payloads = [payload for payload in payloads if payload[0] not in (22, 23)]
    answers = trio.run(told, trio_ssh.AgentServer([KEY]), *map(protocol.frame, payloads))
    frames = protocol.Frames()
    frames.put(answers)
    assert len(list(iter(frames.take, None))) == len(payloads)


async def test_nothing_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    server = trio_ssh.AgentServer([KEY])
    async with asked(server) as agent:
        await agent.lock("open sesame")
        with pytest.raises(trio_ssh.AgentException):
            await agent.remove_all()
    assert "sesame" not in caplog.text


async def test_a_key_that_cannot_sign_here_is_not_held() -> None:
    with pytest.raises(ValueError, match="can't sign here"):
        trio_ssh.AgentServer().add(Token(KEY).key)


async def test_a_key_may_be_used_at_least_once() -> None:
    with pytest.raises(ValueError, match="max_signatures is at least 1, not 0"):
        trio_ssh.AgentServer().add(KEY, max_signatures=0)


async def test_a_signer_that_fails_is_a_failure_and_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object, data: bytes, algorithm: str | None = None) -> bytes:
        raise trio_ssh.AgentException("the card is gone")

    async with asked(trio_ssh.AgentServer([KEY])) as agent:
        [key] = await agent.get_keys()
        monkeypatch.setattr(trio_ssh.Ed25519Key, "sign", fail)
        with pytest.raises(trio_ssh.AgentException):
            await key.sign(b"data")
        assert await names(agent) == ["first"]


async def test_what_is_no_private_key_is_not_added() -> None:
    async with asked(trio_ssh.AgentServer()) as agent:
        with pytest.raises(TypeError, match="an agent holds private keys"):
            await agent.add(KEY.public_key)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["hostname", "username"])
async def test_a_destination_s_names_are_no_longer_than_a_pattern_may_be(name: str) -> None:
    host, user = ("a" * 1024, "") if name == "hostname" else ("host", "*a" * 1024)
    long = trio_ssh.AgentHop(host, [KEY.public_key], username=user)
    async with asked(trio_ssh.AgentServer()) as agent:
        with pytest.raises(trio_ssh.AgentException):
            await agent.add(KEY, destinations=[trio_ssh.AgentDestination(long)])
        assert await names(agent) == []
