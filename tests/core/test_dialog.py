"""A handshake as a generator: what it sends, expects and asks, and what it refuses."""

from __future__ import annotations

import pytest

from tests.core.fed import Fed
from trio_ssh.core.dialog import Dialog, ask, discard, expect, expect_any, send
from trio_ssh.core.questions import AllowedAuths, CheckNone
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.transport import Disconnect, NewKeys, Ping, Pong, ServiceAccept, ServiceRequest
from trio_ssh.wire.userauth import UserauthInfoRequest, UserauthPkOk


def call_and_answer() -> Dialog[str]:
    yield from send(ServiceRequest("a"))
    accept = yield from expect(ServiceAccept)
    answer = yield from ask(AllowedAuths(accept.service))
    yield from send(Ping(answer))
    pong = yield from expect_any(Pong, NewKeys)
    return f"{accept.service} {pong}"


def test_a_dialog_goes_from_step_to_step() -> None:
    fed = Fed(call_and_answer())
    assert fed.sent == [ServiceRequest("a")]
    assert fed.hear(ServiceAccept("b")) == []
    assert fed.asked == [AllowedAuths("b")]
    assert fed.answer(b"c") == [Ping(b"c")]
    assert fed.results == []
    fed.hear(NewKeys())
    assert fed.conversation.is_done
    assert fed.result == "b NewKeys()"


def test_another_message_than_the_expected_ends_it() -> None:
    fed = Fed(call_and_answer())
    with pytest.raises(RemoteProtocolError, match="message 1 arrived where ServiceAccept was due"):
        fed.hear(Disconnect(1, "", ""))


def test_the_expected_message_must_be_well_formed() -> None:
    fed = Fed(call_and_answer())
    with pytest.raises(RemoteProtocolError, match="ServiceAccept: 1 bytes too many"):
        fed.conversation.receive(ServiceAccept("b").encode() + b"\0")


def test_a_message_that_comes_while_a_question_is_open_is_not_taken() -> None:
    fed = Fed(call_and_answer())
    fed.hear(ServiceAccept("b"))
    with pytest.raises(RemoteProtocolError, match="arrived where none was due"):
        fed.hear(Pong(b""))


def test_a_message_that_comes_when_all_is_said_is_not_taken() -> None:
    fed = Fed(call_and_answer())
    fed.hear(ServiceAccept("b"))
    fed.answer(b"")
    fed.hear(Pong(b""))
    with pytest.raises(RemoteProtocolError, match="arrived where none was due"):
        fed.hear(Pong(b""))


def test_a_number_is_read_as_the_waiting_line_says() -> None:
    """60 means three things."""

    def probe() -> Dialog[UserauthPkOk]:
        return (yield from expect(UserauthPkOk))

    def prompts() -> Dialog[UserauthInfoRequest]:
        return (yield from expect(UserauthInfoRequest))

    payload = UserauthInfoRequest("", "", "", 0, b"").encode()
    fed = Fed(prompts())
    fed.conversation.receive(payload)
    assert fed.result == UserauthInfoRequest("", "", "", 0, b"")
    with pytest.raises(RemoteProtocolError, match="UserauthPkOk"):
        Fed(probe()).conversation.receive(payload)


def test_a_message_can_be_dropped_unread() -> None:
    def dropping() -> Dialog[int]:
        number = yield from discard()
        yield from expect(NewKeys)
        return number

    fed = Fed(dropping())
    fed.conversation.receive(b"\x1eanything")
    fed.hear(NewKeys())
    assert fed.result == 0x1E


def test_a_dialog_that_waits_for_nothing_is_done_at_once() -> None:
    def only_sends() -> Dialog[None]:
        yield from send(NewKeys())

    fed = Fed(only_sends())
    assert fed.conversation.is_done
    assert fed.sent == [NewKeys()]


def test_several_questions_follow_each_other() -> None:
    def curious() -> Dialog[list[object]]:
        first = yield from ask(CheckNone("a"))
        second = yield from ask(CheckNone("b"))
        return [first, second]

    fed = Fed(curious())
    fed.answer(1)
    fed.answer(2)
    assert fed.asked == [CheckNone("a"), CheckNone("b")]
    assert fed.result == [1, 2]
