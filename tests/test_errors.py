"""The exceptions: what each is besides, what it keeps, and that whatever a peer wrote is escaped in it."""

from __future__ import annotations

import inspect
import pickle
import subprocess

import pytest
import trio

import trio_ssh
from trio_ssh import errors

NASTY = "\x1b[31mred\u202e\x00\n"
ESCAPED = r"\x1b[31mred\u202e\x00\n"


def test_everything_raised_on_purpose_has_one_root() -> None:
    classes = [value for value in vars(errors).values() if inspect.isclass(value) and issubclass(value, Exception)]
    for cls in classes:
        assert issubclass(cls, trio_ssh.SSHException), cls
        assert cls.__doc__, cls


def test_every_exception_is_public() -> None:
    own = {
        name for name, value in vars(errors).items() if inspect.isclass(value) and value.__module__ == "trio_ssh.errors"
    }
    assert own <= set(trio_ssh.__all__)


@pytest.mark.parametrize(
    ("cls", "bases"),
    [
        (trio_ssh.RemoteProtocolError, [trio_ssh.ProtocolError]),
        (trio_ssh.LocalProtocolError, [trio_ssh.ProtocolError]),
        (trio_ssh.ConnectionLost, [trio.BrokenResourceError]),
        (trio_ssh.PeerDisconnected, [trio_ssh.ConnectionLost, trio.BrokenResourceError]),
        (trio_ssh.BadHostKeyException, [trio_ssh.HostKeyException]),
        (trio_ssh.UnknownHostKeyException, [trio_ssh.HostKeyException]),
        (trio_ssh.BadAuthenticationType, [trio_ssh.AuthenticationException]),
        (trio_ssh.PartialAuthentication, [trio_ssh.AuthenticationException]),
        (trio_ssh.PasswordRequiredException, [trio_ssh.AuthenticationException]),
        (trio_ssh.ProcessError, [subprocess.CalledProcessError]),
    ],
)
def test_code_that_knows_other_exceptions_catches_ours(cls: type[Exception], bases: list[type[Exception]]) -> None:
    for base in bases:
        assert issubclass(cls, base)


def test_unknown_and_changed_host_keys_are_told_apart() -> None:
    assert not issubclass(trio_ssh.UnknownHostKeyException, trio_ssh.BadHostKeyException)
    assert not issubclass(trio_ssh.BadHostKeyException, trio_ssh.UnknownHostKeyException)


@pytest.mark.parametrize(
    "error",
    [
        trio_ssh.PeerDisconnected(2, NASTY),
        trio_ssh.ChannelException(1, NASTY),
        trio_ssh.IncompatiblePeer("cipher", ["aes128-ctr"], [NASTY], "ciphers"),
        trio_ssh.UnknownHostKeyException(NASTY, "ssh-ed25519", "SHA256:x"),
        trio_ssh.BadHostKeyException(NASTY, "ssh-ed25519", "SHA256:x", ["SHA256:y (file:1)"]),
        trio_ssh.BadHostKeyException(NASTY, "ssh-ed25519", "SHA256:x", is_revoked=True),
        trio_ssh.AuthenticationException("no", allowed=[NASTY]),
        trio_ssh.RequestRefused(NASTY),
        trio_ssh.ProcessError(1, "ls", b"", NASTY.encode()),
        trio_ssh.ProcessError(None, "ls", exit_signal=NASTY, exit_message=NASTY),
        trio_ssh.ProcessError(1, NASTY),
    ],
    ids=lambda error: type(error).__name__,
)
def test_whatever_others_wrote_is_escaped(error: Exception) -> None:
    assert ESCAPED in str(error)
    assert str(error).isprintable()
    assert ESCAPED in repr(error) or "\x1b" not in repr(error)


def test_a_disconnect_keeps_its_reason_known_or_not() -> None:
    known = trio_ssh.PeerDisconnected(12, "bye")
    assert (known.reason, known.message) == (12, "bye")
    assert str(known) == "the peer disconnected (too many connections): bye"
    assert str(trio_ssh.PeerDisconnected(99, "")) == "the peer disconnected (reason 99): no message"


def test_a_refused_channel_keeps_its_code_known_or_not() -> None:
    known = trio_ssh.ChannelException(2, "no route")
    assert (known.code, known.text) == (2, "no route")
    assert str(known) == "the peer refused the channel (connect failed): no route"
    assert str(trio_ssh.ChannelException(2, "no route", "to x")).endswith("(connect failed): no route; to x")
    assert str(trio_ssh.ChannelException(99, "")) == "the peer refused the channel (reason 99): no message"


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (trio_ssh.ProcessError(3, "ls"), "the remote command 'ls' ended with exit status 3"),
        (trio_ssh.ProcessError(None, "ls"), "the remote command 'ls' ended without an exit status"),
        (trio_ssh.ProcessError(-9, "ls", exit_signal="KILL"), "the remote command 'ls' was ended by signal KILL"),
        (
            trio_ssh.ProcessError(1, "ls", b"", b"x" * 1000),
            f"the remote command 'ls' ended with exit status 1; its stderr ends: {'x' * 400}",
        ),
    ],
)
def test_a_command_s_failure_tells_how_it_ended(error: trio_ssh.ProcessError, text: str) -> None:
    assert str(error) == text


def test_a_long_text_of_the_peer_s_is_cut() -> None:
    assert len(str(trio_ssh.PeerDisconnected(2, "x" * 100_000))) < 1000
    assert len(str(trio_ssh.ChannelException(2, "x" * 100_000))) < 1000
    assert len(str(trio_ssh.IncompatiblePeer("cipher", [], ["x" * 100_000], "ciphers"))) < 1000


@pytest.mark.parametrize("reason", list(trio_ssh.DisconnectReason))
def test_a_breach_carries_the_reason_it_is_reported_as(reason: trio_ssh.DisconnectReason) -> None:
    assert trio_ssh.RemoteProtocolError("x", reason).reason is reason
    assert trio_ssh.RemoteProtocolError("x").reason is trio_ssh.DisconnectReason.PROTOCOL_ERROR


def test_an_internal_error_has_a_cause_and_asks_for_a_report() -> None:
    assert "report" in (trio_ssh.InternalError.__doc__ or "")


def test_simple_errors_survive_another_process() -> None:
    for error in (trio_ssh.ConnectionLost("gone"), trio_ssh.RemoteProtocolError("bad"), trio_ssh.SSHException("x")):
        again = pickle.loads(pickle.dumps(error))
        assert type(again) is type(error)
        assert str(again) == str(error)
