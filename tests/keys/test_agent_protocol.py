"""What is said to an agent, and what it says: whole, cut at every byte, with something behind it, and made up."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any, Final

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as some

from tests.keys.samples import ONE_OF_EACH, load, string
from trio_ssh.core.auth_client import signed_data
from trio_ssh.errors import LocalProtocolError, RemoteProtocolError
from trio_ssh.keys import agent_protocol as protocol
from trio_ssh.keys.agent_constraints import (
    NO_CONSTRAINTS,
    RESTRICT_DESTINATION,
    AgentDestination,
    AgentHop,
    Constraints,
    read_constraints,
    write_constraints,
)
from trio_ssh.keys.agent_protocol import Frames, ListedKey
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.certified_key import CertifiedKey
from trio_ssh.keys.ed25519 import Ed25519Key
from trio_ssh.keys.private_key import PKey
from trio_ssh.wire.fields import DeclaredMessage
from trio_ssh.wire.message import Message

KEY: Final = Ed25519Key(bytes(32), "comment")
OTHER: Final = Ed25519Key(bytes(range(32)))
HOP: Final = AgentHop("host", (KEY.public_key,), (OTHER.public_key,), "al*")
CONSTRAINTS: Final = Constraints(
    lifetime=60,
    confirm=True,
    max_signatures=3,
    destinations=(
        AgentDestination(HOP),
        AgentDestination(AgentHop("b", (OTHER.public_key,)), attrs.evolve(HOP, username="")),
    ),
)

EVERY_MESSAGE: Final[list[DeclaredMessage]] = [
    protocol.AgentFailure(),
    protocol.AgentSuccess(b""),
    protocol.AgentExtensionFailure(),
    protocol.AgentExtensionResponse("query", b"details"),
    protocol.IdentitiesAnswer(1, b"\0\0\0\1k\0\0\0\1c"),
    protocol.SignResponse(b"signature"),
    protocol.RequestIdentities(),
    protocol.SignRequest(b"blob", b"data", 2),
    protocol.AddIdentity("ssh-ed25519", b"fields"),
    protocol.RemoveIdentity(b"blob"),
    protocol.RemoveAllIdentities(),
    protocol.LockAgent(b"open sesame"),
    protocol.UnlockAgent(b"open sesame"),
    protocol.AddIdentityConstrained("ssh-ed25519", b"fields"),
    protocol.AgentExtension("query", b"details"),
]


# -- frames


def taken(frames: Frames) -> list[bytes]:
    return list(iter(frames.take, None))


@given(some.lists(some.binary(min_size=1, max_size=40)), some.integers(1, 50))
def test_a_stream_is_cut_into_payloads_however_it_arrives(payloads: list[bytes], size: int) -> None:
    stream = b"".join(map(protocol.frame, payloads))
    frames, found = Frames(), []
    for start in range(0, len(stream), size):
        frames.put(stream[start : start + size])
        found += taken(frames)
    assert found == payloads
    assert len(frames) == 0


@pytest.mark.parametrize("length", [0, protocol.PAYLOAD_BYTES + 1, 2**32 - 1])
def test_a_length_that_no_message_has_is_refused_before_the_message(length: int) -> None:
    frames = Frames()
    frames.put(length.to_bytes(4, "big"))
    with pytest.raises(RemoteProtocolError, match=f"{length} bytes"):
        frames.take()


def test_the_longest_message_passes() -> None:
    frames = Frames()
    frames.put(protocol.frame(bytes(protocol.PAYLOAD_BYTES)))
    assert taken(frames) == [bytes(protocol.PAYLOAD_BYTES)]
    with pytest.raises(LocalProtocolError, match="more than an agent takes"):
        protocol.frame(bytes(protocol.PAYLOAD_BYTES + 1))


# -- messages


@pytest.mark.parametrize("message", EVERY_MESSAGE, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_as_it_was(message: DeclaredMessage) -> None:
    assert type(message).from_payload(message.encode()) == message


def test_no_two_messages_share_a_number() -> None:
    assert len({message.NUMBER for message in EVERY_MESSAGE}) == len(EVERY_MESSAGE)


@pytest.mark.parametrize("message", EVERY_MESSAGE, ids=lambda message: type(message).__name__)
def test_a_message_that_is_cut_short_is_refused(message: DeclaredMessage) -> None:
    payload = message.encode()
    rest = {"AgentSuccess", "AgentExtensionResponse", "AddIdentity", "AddIdentityConstrained", "AgentExtension"}
    for length in range(1, len(payload)):
        try:
            read = type(message).from_payload(payload[:length])
        except RemoteProtocolError:
            continue
        # What takes all that remains can't tell; whoever reads that, can.
        assert type(message).__name__ in rest | {"IdentitiesAnswer"}
        assert read != message


def test_secrets_are_not_shown() -> None:
    assert "sesame" not in repr(protocol.LockAgent(b"sesame")) + repr(protocol.UnlockAgent(b"sesame"))
    assert "sesame" not in repr(protocol.AddIdentity("ssh-ed25519", b"sesame"))
    assert "sesame" not in repr(protocol.AddIdentityConstrained("ssh-ed25519", b"sesame"))


# -- lists of keys


def test_a_list_of_keys_comes_back_as_it_was() -> None:
    keys = [ListedKey(KEY.asbytes(), "Grüße"), ListedKey(b"", "\udcff")]
    assert protocol.read_identities(protocol.write_identities(keys)) == keys
    assert protocol.read_identities(protocol.write_identities([])) == []


def test_a_list_of_keys_that_is_cut_short_or_goes_on_is_refused() -> None:
    answer = protocol.write_identities([ListedKey(KEY.asbytes(), "a"), ListedKey(OTHER.asbytes(), "b")])
    for length in range(len(answer.keys)):
        with pytest.raises(RemoteProtocolError):
            protocol.read_identities(protocol.IdentitiesAnswer(2, answer.keys[:length]))
    with pytest.raises(RemoteProtocolError, match="behind the last key"):
        protocol.read_identities(protocol.IdentitiesAnswer(1, answer.keys))


def test_a_count_that_cannot_be_true_costs_nothing() -> None:
    with pytest.raises(RemoteProtocolError, match="4294967295 keys in 8 bytes"):
        protocol.read_identities(protocol.IdentitiesAnswer(2**32 - 1, bytes(8)))


# -- keys that are added


@pytest.mark.parametrize("name", ONE_OF_EACH)
@pytest.mark.parametrize("constraints", [NO_CONSTRAINTS, CONSTRAINTS], ids=["free", "constrained"])
def test_a_key_of_each_kind_comes_back_as_it_was(name: str, constraints: Constraints) -> None:
    key = load(name)
    request = protocol.write_added(key, "Grüße", constraints)
    read, found = protocol.read_added(type(request).from_payload(request.encode()))
    assert (read, read.comment, found) == (key, "Grüße", constraints)
    assert read.sign(b"data")[:8] == key.sign(b"data")[:8]


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_a_key_that_is_cut_short_is_refused(name: str) -> None:
    request = protocol.write_added(load(name), "comment", CONSTRAINTS)
    # The boundaries between constraints are ends as good as any: a sender that stops there has said less.
    whole = {len(request.fields) - len(write_constraints(CONSTRAINTS)) + cut for cut in (0, 5, 6, 11)}
    for length in range(0, len(request.fields), 1 if name.startswith("ed25519") else 7):
        if length in whole:
            continue
        with pytest.raises(RemoteProtocolError):
            protocol.read_added(request.__replace__(fields=request.fields[:length]))


CERTIFIABLE: Final = [
    name for name in ONE_OF_EACH if name.partition(".")[0] in ("ed25519", "ecdsa256", "ecdsa521", "rsa2048")
]


def issued(authority: PKey, key: PKey) -> Certificate:
    return Certificate.issue_for_user(
        authority, key.public_key, key_id="test", principals=["alice"], valid_before=Certificate.FOREVER
    )


@functools.cache
def certified(name: str) -> CertifiedKey:
    key = load(name)
    certificate = issued(OTHER, key)
    return CertifiedKey(key, certificate)


@pytest.mark.parametrize("name", CERTIFIABLE)
@pytest.mark.parametrize("constraints", [NO_CONSTRAINTS, CONSTRAINTS], ids=["free", "constrained"])
def test_a_key_with_its_certificate_comes_back_as_it_was(name: str, constraints: Constraints) -> None:
    key = certified(name)
    request = protocol.write_added(key, "Grüße", constraints)
    assert request.key_type == key.certificate.key_type
    read, found = protocol.read_added(type(request).from_payload(request.encode()))
    assert isinstance(read, CertifiedKey)
    assert (read.key, read.certificate, read.comment, found) == (key.key, key.certificate, "Grüße", constraints)


@pytest.mark.parametrize("name", CERTIFIABLE)
def test_a_certificate_of_another_key_or_one_that_is_cut_short_is_refused(name: str) -> None:
    request = protocol.write_added(certified(name), "comment", NO_CONSTRAINTS)
    blob = certified(name).certificate.blob
    other = next(other for other in CERTIFIABLE if other != name)
    swapped = request.fields.replace(string(blob), string(certified(other).certificate.blob))
    with pytest.raises(RemoteProtocolError):
        protocol.read_added(request.__replace__(fields=swapped))
    for length in range(0, len(request.fields), 13):
        with pytest.raises(RemoteProtocolError):
            protocol.read_added(request.__replace__(fields=request.fields[:length]))
    mixed = protocol.write_added(KEY, "", NO_CONSTRAINTS).fields
    stranger = issued(KEY, OTHER)
    with pytest.raises(RemoteProtocolError):
        protocol.read_added(protocol.AddIdentity(stranger.key_type, string(stranger.blob) + mixed))


def test_a_private_half_that_is_elsewhere_cannot_be_added() -> None:
    key = certified("ed25519.openssh")
    with pytest.raises(LocalProtocolError, match="is not here"):
        protocol.write_added(CertifiedKey(key, key.certificate), "", NO_CONSTRAINTS)


def test_a_key_without_constraints_has_none_behind_it() -> None:
    fields = protocol.write_added(KEY, "", CONSTRAINTS).fields
    with pytest.raises(RemoteProtocolError, match="behind the comment"):
        protocol.read_added(protocol.AddIdentity("ssh-ed25519", fields))


@pytest.mark.parametrize("key_type", ["ssh-ed25519-cert-v01@openssh.com", "", "none\x1b", "ssh-rsa"])
def test_a_key_of_an_unknown_kind_or_of_another_is_refused(key_type: str) -> None:
    fields = protocol.write_added(KEY, "", NO_CONSTRAINTS).fields
    with pytest.raises(RemoteProtocolError):
        protocol.read_added(protocol.AddIdentity(key_type, fields))


@given(some.sampled_from(["ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256"]), some.binary())
def test_whatever_is_added_is_a_key_or_refused(key_type: str, fields: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        protocol.read_added(protocol.AddIdentityConstrained(key_type, fields))


# -- constraints


def destination(origin: bytes = b"", to: bytes = b"", reserved: bytes = b"", name: str = RESTRICT_DESTINATION) -> bytes:
    listed = string(string(string(origin) + string(to) + string(reserved)))
    return b"\xff" + string(name.encode()) + listed


def hop(username: bytes = b"", hostname: bytes = b"", keys: bytes = b"", reserved: bytes = b"") -> bytes:
    return string(username) + string(hostname) + string(reserved) + keys


ONE_KEY: Final = string(KEY.asbytes()) + b"\0"
TO: Final = hop(hostname=b"host", keys=ONE_KEY)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"\1\0\0\0\1\1\0\0\0\1", "the constraint 1 comes twice"),
        (b"\2\2", "the constraint 2 comes twice"),
        (b"\4", "the constraint 4 is not supported"),
        (destination(name="associated-certs-v00@openssh.com"), "is not supported"),
        (destination(hop(username=b"alice"), TO), "the user whom one comes from"),
        (destination(hop(hostname=b"a"), TO), "an origin needs a name and keys"),
        (destination(hop(keys=ONE_KEY), TO), "an origin needs a name and keys"),
        (destination(hop(), hop(hostname=b"host")), "a destination needs a name and keys"),
        (destination(hop(), hop(keys=ONE_KEY)), "a destination needs a name and keys"),
        (destination(hop(), TO, b"?"), "not known yet"),
        (destination(hop(reserved=b"?"), TO), "not known yet"),
        (destination(hop(), hop(hostname=b"h", keys=ONE_KEY[:-1])), "inside a hop's key"),
        (destination(hop(), hop(hostname=b"h", keys=string(b"what") + b"\0")), "ends inside"),
        (destination(hop(), hop(hostname=b"h", keys=ONE_KEY * 65)), "more than 64 keys"),
        (b"\xff" + string(RESTRICT_DESTINATION.encode()) + string(b""), "no destination"),
        (
            b"\xff"
            + string(RESTRICT_DESTINATION.encode())
            + string(string(string(hop()) + string(TO) + string(b"")) * 257),
            "more than 256 destinations",
        ),
    ],
)
def test_a_constraint_that_cannot_be_kept_is_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(RemoteProtocolError, match=complaint):
        read_constraints(data)


def test_a_destination_is_read_as_openssh_writes_it() -> None:
    [read] = read_constraints(destination(hop(), TO)).destinations or ()
    assert read == AgentDestination(AgentHop("host", (KEY.public_key,)))


@given(some.binary())
def test_whatever_stands_for_constraints_is_read_or_refused(data: bytes) -> None:
    read_or_refused(read_constraints, data)


# -- signatures


@pytest.mark.parametrize(
    ("algorithm", "plain", "flags"),
    [
        ("ssh-ed25519", "ssh-ed25519", 0),
        ("rsa-sha2-256", "rsa-sha2-256", 2),
        ("rsa-sha2-512", "rsa-sha2-512", 4),
        ("rsa-sha2-512-cert-v01@openssh.com", "rsa-sha2-512", 4),
        ("ssh-ed25519-cert-v01@openssh.com", "ssh-ed25519", 0),
        ("sk-ssh-ed25519@openssh.com", "sk-ssh-ed25519@openssh.com", 0),
        ("sk-ssh-ed25519-cert-v01@openssh.com", "sk-ssh-ed25519@openssh.com", 0),
    ],
)
def test_an_algorithm_has_its_flags_and_the_name_in_its_signature(algorithm: str, plain: str, flags: int) -> None:
    assert (protocol.plain_algorithm(algorithm), protocol.sign_flags(algorithm)) == (plain, flags)


def test_flags_choose_an_algorithm() -> None:
    assert protocol.flagged_algorithm("ssh-rsa", 2) == "rsa-sha2-256"
    assert protocol.flagged_algorithm("ssh-rsa", 4) == "rsa-sha2-512"
    assert protocol.flagged_algorithm("ssh-rsa", 6) == "rsa-sha2-256"
    assert protocol.flagged_algorithm("ssh-ed25519", 4) == "ssh-ed25519"
    with pytest.raises(RemoteProtocolError, match="SHA-1"):
        protocol.flagged_algorithm("ssh-rsa", 0)
    with pytest.raises(RemoteProtocolError, match="0x8"):
        protocol.flagged_algorithm("ssh-ed25519", 8)


# -- what is signed


def test_a_login_is_read() -> None:
    data = signed_data(b"session", "alice", "ssh-ed25519", KEY.asbytes())
    assert protocol.read_signed_request(data) == protocol.SignedRequest(b"session", "alice", KEY.asbytes(), None)


def test_a_login_that_names_its_host_is_read() -> None:
    data = bound_to_host(b"host key")
    assert protocol.read_signed_request(data).host_key == b"host key"


def bound_to_host(host_key: bytes, method: str = "publickey-hostbound-v00@openssh.com") -> bytes:
    data = Message().add_string(b"session").add_byte(50).add_string("alice").add_string("ssh-connection")
    data.add_string(method).add_boolean(True).add_string("ssh-ed25519").add_string(KEY.asbytes())
    return data.add_string(host_key).asbytes()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a file",
        bound_to_host(b"", "publickey"),
        bound_to_host(b"", "password"),
        bound_to_host(b"host key") + b"x",
        signed_data(b"", "alice", "ssh-ed25519", KEY.asbytes()),
        signed_data(b"session", "alice", "ssh-ed25519", KEY.asbytes(), service="ssh-other"),
        signed_data(b"session", "alice", "ssh-ed25519", KEY.asbytes()) + b"x",
        signed_data(b"session", "alice", "ssh-ed25519", KEY.asbytes()).replace(b"\x32", b"\x33", 1),
        signed_data(b"session", "alice", "ssh-ed25519", KEY.asbytes()).replace(b"publickey\1", b"publickey\0", 1),
    ],
)
def test_what_is_no_login_is_told_apart(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        protocol.read_signed_request(data)


def test_a_login_that_is_cut_short_is_refused() -> None:
    data = bound_to_host(b"host key")
    for length in range(len(data)):
        with pytest.raises(RemoteProtocolError):
            protocol.read_signed_request(data[:length])


# -- anything at all


def read_or_refused(read: Callable[[bytes], Any], data: bytes) -> None:
    """Run a reader, which may refuse what it reads by one exception and no other."""
    with contextlib.suppress(RemoteProtocolError):
        read(data)


@pytest.mark.parametrize(
    "read",
    [
        protocol.read_names,
        protocol.read_signed_request,
        protocol.signature_algorithm,
        protocol.SessionBind.decode,
        lambda data: protocol.read_identities(protocol.IdentitiesAnswer(len(data) % 3, data)),
        *(type(message).from_payload for message in EVERY_MESSAGE),
    ],
)
@given(data=some.binary(min_size=1))
def test_whatever_arrives_is_read_or_refused(read: Callable[[bytes], Any], data: bytes) -> None:
    read_or_refused(read, data)
