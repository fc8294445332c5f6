"""Two KEXINITs: what they agree on, and what is said when they don't."""

from __future__ import annotations

from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.fed import replaced
from trio_ssh.core.negotiation import (
    Algorithms,
    DirectionChoice,
    PassedOver,
    _agree,
    is_strict,
    kexinit,
    negotiate,
    negotiate_payloads,
)
from trio_ssh.core.role import Role
from trio_ssh.crypto import defaults
from trio_ssh.errors import IncompatiblePeer, RemoteProtocolError
from trio_ssh.wire.transport import KexInit

COOKIE: Final = bytes(16)
DEFAULTS: Final = Algorithms()
MARKERS: Final = ("ext-info-c", "ext-info-s", "kex-strict-c-v00@openssh.com", "kex-strict-s-v00@openssh.com")


def pair(client: Algorithms = DEFAULTS, server: Algorithms = DEFAULTS) -> tuple[KexInit, KexInit]:
    return (
        kexinit(Role.CLIENT, client, COOKIE, is_first_exchange=True),
        kexinit(Role.SERVER, server, COOKIE, is_first_exchange=True),
    )


def test_two_of_our_own_agree_on_the_best() -> None:
    client, server = pair()
    for role, ours, theirs in ((Role.CLIENT, client, server), (Role.SERVER, server, client)):
        agreed = negotiate(role, ours, theirs)
        assert (agreed.kex, agreed.host_key_algorithm) == (defaults.KEX[0], defaults.HOST_KEYS[0])
        assert agreed.client_to_server == agreed.server_to_client
        assert agreed.client_to_server == DirectionChoice(defaults.CIPHERS[0], "", "none")
        assert not agreed.guess_was_wrong


def names(available: tuple[str, ...]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(available), min_size=1, unique=True).map(tuple)


algorithms: Final = st.builds(
    Algorithms,
    kex=names(defaults.KEX),
    host_keys=names(defaults.HOST_KEYS),
    ciphers=names(defaults.CIPHERS),
    macs=names(defaults.MACS),
    compressions=names(defaults.COMPRESSIONS),
)


@given(algorithms, algorithms)
def test_both_sides_choose_the_client_s_first_that_the_server_has(client: Algorithms, server: Algorithms) -> None:
    ours, theirs = pair(client, server)

    def first(kind: str) -> str | None:
        return next((name for name in getattr(client, kind) if name in getattr(server, kind)), None)

    cipher = first("ciphers")
    needs_mac = cipher is not None and cipher.endswith("-ctr")
    wanted = [first("kex"), first("host_keys"), cipher, first("compressions"), first("macs") if needs_mac else ""]
    if None in wanted:
        for role, mine, other in ((Role.CLIENT, ours, theirs), (Role.SERVER, theirs, ours)):
            with pytest.raises(IncompatiblePeer):
                negotiate(role, mine, other)
        return
    agreed = negotiate(Role.CLIENT, ours, theirs)
    assert agreed == negotiate(Role.SERVER, theirs, ours)
    choice = agreed.client_to_server
    assert [agreed.kex, agreed.host_key_algorithm, choice.cipher, choice.compression, choice.mac] == wanted
    assert agreed.server_to_client == choice


def test_the_two_directions_are_chosen_apart() -> None:
    client, server = pair()
    client = replaced(
        client,
        encryption_client_to_server=("aes256-ctr",),
        mac_client_to_server=("hmac-sha2-512",),
        encryption_server_to_client=("chacha20-poly1305@openssh.com",),
        mac_server_to_client=("no such thing, and none is needed",),
        compression_server_to_client=("zlib@openssh.com",),
    )
    agreed = negotiate(Role.SERVER, server, client)
    assert agreed.client_to_server == DirectionChoice("aes256-ctr", "hmac-sha2-512", "none")
    assert agreed.server_to_client == DirectionChoice("chacha20-poly1305@openssh.com", "", "zlib@openssh.com")


@pytest.mark.parametrize("marker", MARKERS)
@pytest.mark.parametrize("role", Role)
def test_a_marker_is_never_an_algorithm(role: Role, marker: str) -> None:
    client, server = pair()
    client = replaced(client, kex_algorithms=(marker, "unknown"))
    server = replaced(server, kex_algorithms=(marker, "other"))
    ours, theirs = (client, server) if role is Role.CLIENT else (server, client)
    with pytest.raises(IncompatiblePeer):
        negotiate(role, ours, theirs)


@pytest.mark.parametrize("role", Role)
def test_the_markers_are_said_in_the_first_exchange_only(role: Role) -> None:
    first = kexinit(role, DEFAULTS, COOKIE, is_first_exchange=True)
    later = kexinit(role, DEFAULTS, COOKIE, is_first_exchange=False)
    said = ("ext-info-c", "kex-strict-c-v00@openssh.com") if role is Role.CLIENT else ("kex-strict-s-v00@openssh.com",)
    assert first.kex_algorithms == (*defaults.KEX, *said)
    assert later.kex_algorithms == defaults.KEX
    assert (first.first_kex_packet_follows, first.reserved, first.cookie) == (False, 0, COOKIE)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("marker", [*MARKERS, "kex-strict-s-v01@openssh.com", ""])
def test_an_exchange_is_strict_if_the_peer_says_so_in_its_own_role(role: Role, marker: str) -> None:
    theirs = replaced(pair()[0], kex_algorithms=("curve25519-sha256", marker))
    expected = "kex-strict-s-v00@openssh.com" if role is Role.CLIENT else "kex-strict-c-v00@openssh.com"
    assert is_strict(role, theirs.kex_algorithms) == (marker == expected)


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("follows", [True, False])
@pytest.mark.parametrize("other_kex", [True, False])
@pytest.mark.parametrize("other_host_key", [True, False])
def test_a_guess_was_wrong_if_either_first_name_differs(
    role: Role, follows: bool, other_kex: bool, other_host_key: bool
) -> None:
    """RFC 4253 s7.1: even if the guessed method is the one that is agreed on in the end."""
    ours, theirs = pair() if role is Role.CLIENT else pair()[::-1]
    theirs = replaced(theirs, first_kex_packet_follows=follows)
    if other_kex:
        theirs = replaced(theirs, kex_algorithms=("sntrup761x25519-sha512", *theirs.kex_algorithms))
    if other_host_key:
        theirs = replaced(theirs, server_host_key_algorithms=theirs.server_host_key_algorithms[::-1])
    assert negotiate(role, ours, theirs).guess_was_wrong == (follows and (other_kex or other_host_key))


KINDS: Final = [
    ("key exchange", "kex", "kex_algorithms", "kex"),
    ("host key", "host_keys", "server_host_key_algorithms", "host_key_algorithms"),
    ("cipher", "ciphers", "encryption_client_to_server", "ciphers"),
    ("cipher", "ciphers", "encryption_server_to_client", "ciphers"),
    ("MAC", "macs", "mac_client_to_server", "macs"),
    ("MAC", "macs", "mac_server_to_client", "macs"),
    ("compression", "compressions", "compression_client_to_server", "compressions"),
    ("compression", "compressions", "compression_server_to_client", "compressions"),
]


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize(("kind", "field", "attribute", "setting"), KINDS)
def test_no_common_algorithm_names_both_offers_and_the_setting(
    role: Role, kind: str, field: str, attribute: str, setting: str
) -> None:
    enabled = Algorithms(ciphers=("aes128-ctr",))
    client, server = pair(enabled, enabled)
    ours, theirs = (client, server) if role is Role.CLIENT else (server, client)
    theirs = replaced(theirs, **{attribute: ("rot13", "\x1b[2Jsly", *MARKERS)})
    with pytest.raises(IncompatiblePeer) as caught:
        negotiate(role, ours, theirs)
    error = caught.value
    assert error.kind == kind
    assert error.ours == getattr(enabled, field)
    assert error.theirs[:2] == ("rot13", "\x1b[2Jsly")
    text = str(error)
    assert text.isprintable()
    assert f"no common {kind} algorithm: we offer {', '.join(error.ours)}; the peer offers rot13, \\x1b[2Jsly" in text
    assert f"`{setting}=`" in text
    assert not any(marker in str(error.theirs) for marker in MARKERS)


@pytest.mark.parametrize("role", Role)
def test_a_peer_that_offers_nothing_is_told_apart(role: Role) -> None:
    ours, theirs = pair() if role is Role.CLIENT else pair()[::-1]
    with pytest.raises(IncompatiblePeer, match="the peer offers nothing"):
        negotiate(role, ours, replaced(theirs, encryption_client_to_server=()))


# -- why


@pytest.mark.parametrize("role", Role)
def test_where_both_want_the_same_nothing_was_passed_over(role: Role) -> None:
    client, server = pair()
    ours, theirs = (client, server) if role is Role.CLIENT else (server, client)
    assert negotiate(role, ours, theirs).passed_over == {}


def test_a_client_knows_what_the_server_lacks() -> None:
    client, server = pair(
        Algorithms(kex=("mlkem768x25519-sha256", "curve25519-sha256", "ecdh-sha2-nistp256")),
        Algorithms(kex=("ecdh-sha2-nistp256", "curve25519-sha256")),
    )
    agreed = negotiate(Role.CLIENT, client, server)
    assert agreed.kex == "curve25519-sha256"
    # The markers are no algorithms, and the server's order doesn't count.
    assert agreed.passed_over == {("key exchange", None): PassedOver(peer_lacks=("mlkem768x25519-sha256",))}


def test_a_server_knows_what_the_client_lacks_and_what_it_wanted_less() -> None:
    client, server = pair(
        Algorithms(ciphers=("rot13", "aes256-ctr", "aes128-gcm@openssh.com")),
        Algorithms(ciphers=("chacha20-poly1305@openssh.com", "aes128-gcm@openssh.com", "aes256-ctr")),
    )
    expected = PassedOver(
        peer_lacks=("chacha20-poly1305@openssh.com",),
        we_lack=("rot13",),
        outvoted=("aes128-gcm@openssh.com",),
    )
    assert negotiate(Role.SERVER, server, client).passed_over == {
        ("cipher", Role.CLIENT): expected,
        ("cipher", Role.SERVER): expected,
    }


def test_of_a_client_s_wishes_only_some_are_kept() -> None:
    """They are kept as long as the connection lasts, and a KEXINIT may hold a quarter of a megabyte of them."""
    wishes = ("x" * 65, *(f"wish{number}" for number in range(900)))
    client, server = pair()
    client = replaced(client, kex_algorithms=(*wishes, "curve25519-sha256"))
    kept = negotiate(Role.SERVER, server, client).passed_over["key exchange", None].we_lack
    assert kept == tuple(f"wish{number}" for number in range(16))


def test_users_may_sign_by_what_hosts_may_unless_it_is_said_otherwise() -> None:
    assert Algorithms(host_keys=("ssh-ed25519",)).pubkeys == ("ssh-ed25519",)
    assert Algorithms(host_keys=("ssh-ed25519",), pubkeys=("rsa-sha2-512",)).pubkeys == ("rsa-sha2-512",)


# -- what is remembered


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("count", [0, 1, 500])  # of names that only the peer knows: the longest list is not remembered
@pytest.mark.parametrize("follows", [False, True])
def test_payloads_agree_on_the_same_as_what_is_in_them(role: Role, count: int, follows: bool) -> None:
    client, server = pair()
    ours, theirs = (client, server) if role is Role.CLIENT else (server, client)
    others = tuple(f"cipher-{number}@example.org" for number in range(count))
    theirs = replaced(
        theirs,
        cookie=b"\1" * 16,
        encryption_client_to_server=(*others, *theirs.encryption_client_to_server),
        kex_algorithms=("curve25519-sha256", *MARKERS),
        first_kex_packet_follows=follows,
    )
    for _ in range(2):
        their_kex, agreed = negotiate_payloads(role, ours.encode(), theirs.encode())
        assert their_kex == theirs.kex_algorithms
        assert agreed == negotiate(role, ours, theirs)
        assert agreed.passed_over == negotiate(role, ours, theirs).passed_over


def test_each_side_s_cookie_changes_nothing_and_all_else_does() -> None:
    client, server = pair()
    _agree.cache_clear()
    for cookie in (bytes(16), b"\1" * 16, b"\2" * 16):
        negotiate_payloads(Role.CLIENT, replaced(client, cookie=cookie).encode(), server.encode())
        negotiate_payloads(Role.CLIENT, client.encode(), replaced(server, cookie=cookie).encode())
    assert _agree.cache_info().currsize == 1
    negotiate_payloads(Role.CLIENT, client.encode(), replaced(server, reserved=1).encode())
    negotiate_payloads(Role.CLIENT, replaced(client, reserved=1).encode(), server.encode())
    negotiate_payloads(Role.SERVER, client.encode(), server.encode())
    assert _agree.cache_info().currsize == 4


def test_what_a_peer_sends_is_remembered_only_where_it_is_short_and_little_of_it() -> None:
    client, server = pair()
    _agree.cache_clear()
    long = replaced(server, languages_client_to_server=tuple(f"language-{number}" for number in range(500)))
    negotiate_payloads(Role.CLIENT, client.encode(), long.encode())
    assert _agree.cache_info().currsize == 0
    for number in range(100):
        negotiate_payloads(Role.CLIENT, client.encode(), replaced(server, reserved=number).encode())
    assert _agree.cache_info().currsize == 16


def test_a_failure_is_not_remembered() -> None:
    client, server = pair()
    for _ in range(2):
        with pytest.raises(RemoteProtocolError):
            negotiate_payloads(Role.CLIENT, client.encode(), server.encode()[:-1])
        with pytest.raises(RemoteProtocolError):
            negotiate_payloads(Role.CLIENT, client.encode(), server.encode()[:5])
    errors = []
    for _ in range(2):
        with pytest.raises(IncompatiblePeer) as caught:
            negotiate_payloads(Role.CLIENT, client.encode(), replaced(server, kex_algorithms=("x",)).encode())
        errors.append(caught.value)
    assert errors[0] is not errors[1]
