"""Profiles, what is changed of them, and what is said of a name that nobody knows."""

from __future__ import annotations

from typing import Any, Final

import paramiko
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

import trio_ssh
from trio_ssh.core.negotiation import Algorithms
from trio_ssh.core.role import Role
from trio_ssh.crypto import defaults
from trio_ssh.crypto.cipher import CIPHERS
from trio_ssh.errors import LocalProtocolError
from trio_ssh.keys.certification import certificate_name
from trio_ssh.runtime.security_options import SecurityOptions, checked_algorithms, signature_algorithm
from trio_ssh.testing import memory_pair

ED25519: Final = trio_ssh.Ed25519Key.generate()
RSA: Final = trio_ssh.RSAKey.generate(2048)
DSA: Final = trio_ssh.DSSKey.generate()


@pytest.mark.parametrize("name", defaults.PROFILES)
def test_a_profile_is_what_it_says_in_either_role(name: Any) -> None:
    options = SecurityOptions(name)
    profile = defaults.PROFILES[name]
    for role, offer in ((Role.CLIENT, profile.client), (Role.SERVER, profile.server)):
        found = options.for_role(role)
        assert (found.kex, found.host_keys, found.pubkeys) == (offer.kex, offer.host_keys, offer.host_keys)
        assert (found.ciphers, found.macs, found.compressions) == (offer.ciphers, offer.macs, offer.compressions)
        assert checked_algorithms(role, name) == checked_algorithms(role, options) == found
    assert options.profile == name
    assert options.algorithms == options.for_role(Role.CLIENT)


def test_without_a_profile_it_is_the_modern_one() -> None:
    assert checked_algorithms(Role.CLIENT) == SecurityOptions().algorithms == Algorithms()
    assert checked_algorithms(Role.SERVER).kex == defaults.SERVER_KEX


def test_no_profile_has_another_name() -> None:
    with pytest.raises(ValueError, match="no profile is called 'paranoid'; there are: modern, compatible"):
        SecurityOptions("paranoid")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        (["aes256-ctr", "aes128-ctr"], ("aes256-ctr", "aes128-ctr")),
        (("aes256-ctr",), ("aes256-ctr",)),
        ("aes256-ctr, aes128-ctr", ("aes256-ctr", "aes128-ctr")),
        ("aes256-ctr,aes256-ctr", ("aes256-ctr",)),
        ("+3des-cbc,aes128-cbc", (*defaults.CIPHERS, "3des-cbc", "aes128-cbc")),
        ("+aes128-ctr", defaults.CIPHERS),
        ("^aes256-ctr", ("aes256-ctr", *(name for name in defaults.CIPHERS if name != "aes256-ctr"))),
        ("-aes*-ctr", defaults.CIPHERS[:3]),
        ("-aes128-gcm@openssh.com,chacha20*", defaults.CIPHERS[1:2] + defaults.CIPHERS[3:]),
        ("-3des-cbc", defaults.CIPHERS),
    ],
)
def test_names_replace_join_lead_or_leave(wanted: str | list[str], names: tuple[str, ...]) -> None:
    assert SecurityOptions(ciphers=wanted).ciphers == names
    options = SecurityOptions()
    options.ciphers = wanted
    assert options.ciphers == names
    assert options.for_role(Role.SERVER).ciphers == names


@pytest.mark.parametrize("sign", ["", "+", "-", "^"])
def test_a_name_that_nobody_knows_is_told_with_the_nearest_one(sign: str) -> None:
    with pytest.raises(ValueError, match="unknown ciphers: aes128-gcm") as caught:
        SecurityOptions(ciphers=f"{sign}aes128-gcm,aes256-ctr")
    text = str(caught.value)
    assert text.startswith("unknown ciphers: aes128-gcm. Did you mean aes128-gcm@openssh.com? Known are: ")
    assert all(name in text for name in CIPHERS.names())


@pytest.mark.parametrize(
    ("setting", "plural"),
    [
        ("kex", "key exchange methods"),
        ("host_key_algorithms", "host key algorithms"),
        ("pubkey_algorithms", "public key algorithms"),
        ("ciphers", "ciphers"),
        ("macs", "MACs"),
        ("compressions", "compression methods"),
    ],
)
def test_each_setting_checks_its_names(setting: str, plural: str) -> None:
    values: dict[str, Any] = {setting: ["rot13\x1b[2J"]}
    with pytest.raises(ValueError, match=rf"unknown {plural}: rot13\\x1b\[2J\. Known are: "):
        SecurityOptions(**values)
    for nothing in ([], "", "-*"):
        values = {setting: nothing}
        with pytest.raises(ValueError, match=f"no {plural}: at least one must stay enabled. Known are: "):
            SecurityOptions(**values)
    values = {setting: [b"bytes"]}
    with pytest.raises(TypeError, match=f"{plural} are names"):
        SecurityOptions(**values)


def test_what_can_t_be_set_changes_nothing() -> None:
    """Nor for one role alone."""
    options = SecurityOptions()
    before = {role: options.for_role(role) for role in Role}
    with pytest.raises(ValueError, match="no key exchange methods"):
        options.kex = "-mlkem768x25519-sha256,curve25519-*"  # which leaves a server nothing
    assert {role: options.for_role(role) for role in Role} == before


@given(st.text())
def test_any_text_is_names_or_an_error(text: str) -> None:
    try:
        options = SecurityOptions(macs=text)
    except ValueError:
        return
    assert set(options.digests) <= set(defaults.PROFILES["legacy"].client.macs)


def test_paramiko_s_settings_are_read_and_written() -> None:
    options = SecurityOptions()
    options.kex = ["curve25519-sha256"]
    options.key_types = ["ssh-ed25519"]
    options.digests = [name for name in options.digests if "512" in name]
    options.compression = ("zlib@openssh.com",)
    options.pubkeys = ["rsa-sha2-512"]
    found = options.algorithms
    assert (found.kex, found.host_keys, found.compressions) == (
        ("curve25519-sha256",),
        ("ssh-ed25519",),
        ("zlib@openssh.com",),
    )
    assert found.macs == ("hmac-sha2-512-etm@openssh.com", "hmac-sha2-512")
    assert options.pubkeys == ("rsa-sha2-512",)


def test_disabled_algorithms_are_taken_from_each_kind() -> None:
    options = SecurityOptions(
        disabled_algorithms={
            "kex": ["curve25519-sha256"],
            "keys": ["rsa-sha2-512"],
            "pubkeys": ["ssh-ed25519"],
            "ciphers": [],
            "macs": {"hmac-sha2-256"},
        }
    )
    found = options.algorithms
    assert found.kex == tuple(name for name in defaults.KEX if name != "curve25519-sha256")
    assert found.host_keys == tuple(name for name in defaults.HOST_KEYS if name != "rsa-sha2-512")
    assert found.pubkeys == tuple(name for name in defaults.HOST_KEYS if name != "ssh-ed25519")
    assert found.macs == tuple(name for name in defaults.MACS if name != "hmac-sha2-256")
    assert found.ciphers == defaults.CIPHERS


@pytest.mark.parametrize(
    ("disabled", "error", "text"),
    [
        (
            {"digests": ["hmac-sha1"]},
            ValueError,
            "no 'digests'; there are: kex, keys, pubkeys, ciphers, macs, compression",
        ),
        ({"ciphers": list(CIPHERS.names())}, ValueError, "no ciphers: at least one must stay enabled"),
        ({"macs": "hmac-sha1"}, TypeError, r"disabled_algorithms\['macs'\] is a list of names, not one str"),
    ],
)
def test_disabling_what_cannot_be_is_an_error(disabled: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        SecurityOptions(disabled_algorithms=disabled)


def test_the_kinds_that_can_be_disabled_are_paramiko_s() -> None:
    theirs = {name.removeprefix("preferred_") for name in vars(paramiko.Transport) if name.startswith("preferred_")}
    options = SecurityOptions(disabled_algorithms=dict.fromkeys(theirs, ()))
    assert options.algorithms == Algorithms()
    with pytest.raises(ValueError, match="there are: ") as caught:
        options.disable({"x": ()})
    assert set(str(caught.value).partition("there are: ")[2].split(", ")) == theirs


def test_a_name_that_is_unknown_is_disabled_anyway_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    options = SecurityOptions(disabled_algorithms={"compression": ["lzma\x07", "zlib@openssh.com"], "kex": ["curve*"]})
    assert options.compression == ("none",)
    assert options.kex == defaults.KEX
    assert r"disabled_algorithms['compression']: lzma\x07 is unknown" in caplog.text
    assert "disabled_algorithms['kex']: curve* is unknown" in caplog.text


async def test_a_transport_lacks_what_was_disabled() -> None:
    ours, theirs = memory_pair()
    with pytest.raises(ValueError, match="no 'digests'"):
        trio_ssh.Transport(ours, disabled_algorithms={"digests": ()})
    given = SecurityOptions("fips")
    transport = trio_ssh.Transport(ours, security=given, disabled_algorithms={"macs": ["hmac-sha2-256"]})
    assert "hmac-sha2-256" not in transport.get_security_options().digests
    assert "hmac-sha2-256" in given.digests
    for stream in (ours, theirs):
        await trio.aclose_forcefully(stream)


# -- certificates

CERTIFICATE = "ssh-ed25519-cert-v01@openssh.com"


@pytest.mark.parametrize(
    ("wanted", "names"),
    [
        # A key's algorithm stands for its certificates'.
        (["ssh-ed25519"], [CERTIFICATE, "ssh-ed25519"]),
        ("-ssh-rsa,ecdsa-sha2-nistp*,sk-*,rsa-*", [CERTIFICATE, "ssh-ed25519"]),
        # Until they are spoken of.
        ([CERTIFICATE, "ssh-ed25519"], [CERTIFICATE, "ssh-ed25519"]),
        ([CERTIFICATE], [CERTIFICATE]),
        ("-*-cert-*,rsa-*,ecdsa-*,sk-*", ["ssh-ed25519"]),
        ("-ssh-ed25519,rsa-*,ecdsa-*,sk-*", [CERTIFICATE]),
    ],
)
def test_certificates_are_enabled_with_their_keys_until_they_are_named(
    wanted: str | list[str], names: list[str]
) -> None:
    assert SecurityOptions(pubkey_algorithms=wanted).algorithms.every_pubkey == tuple(names)


def test_named_certificates_lead_or_follow() -> None:
    plain = defaults.HOST_KEYS
    certificates = tuple(map(certificate_name, plain))
    ahead = SecurityOptions(host_key_algorithms=f"^{certificates[3]}")
    assert ahead.key_types == tuple(dict.fromkeys((certificates[3], *certificates, *plain)))
    assert SecurityOptions(host_key_algorithms=f"+{CERTIFICATE}").key_types == (*certificates, *plain)
    # Of users' algorithms no certificate is named by that.
    assert ahead.pubkeys == plain
    ahead.key_types = ["ssh-ed25519"]
    assert ahead.algorithms.names_certificates == frozenset()
    only = SecurityOptions(host_key_algorithms=["ssh-ed448-cert-v01@openssh.com"])
    assert only.pubkeys == (*plain, "ssh-ed448")
    assert Algorithms(host_keys=(CERTIFICATE, "ssh-ed25519")).pubkeys == ("ssh-ed25519",)


@pytest.mark.parametrize("named", ["", "^ssh-ed25519-cert-v01@openssh.com"])
def test_who_disables_a_key_s_algorithm_disables_its_certificates(named: str) -> None:
    options = SecurityOptions(**({"pubkey_algorithms": named} if named else {}))  # type: ignore[arg-type]
    options.disable({"pubkeys": ["ssh-ed25519"]})
    assert {CERTIFICATE, "ssh-ed25519"}.isdisjoint(options.algorithms.every_pubkey)
    options.disable({"pubkeys": ["rsa-sha2-512-cert-v01@openssh.com", "rsa-sha2-256"]})
    found = options.algorithms.every_pubkey
    assert [name for name in found if name.startswith("rsa")] == ["rsa-sha2-512"]


def test_a_certified_key_signs_by_what_is_left() -> None:
    issued = trio_ssh.Certificate.issue_for_user(
        ED25519, RSA.public_key, key_id="", principals=["bob"], valid_before=trio_ssh.Certificate.FOREVER
    )
    key = trio_ssh.CertifiedKey(RSA, issued)
    assert signature_algorithm(key, Algorithms().every_pubkey, None) == "rsa-sha2-512-cert-v01@openssh.com"
    rest = SecurityOptions(pubkey_algorithms="-rsa-sha2-512*").algorithms.every_pubkey
    assert signature_algorithm(key, rest, b"rsa-sha2-512") == "rsa-sha2-256-cert-v01@openssh.com"
    bare = SecurityOptions(pubkey_algorithms="-*-cert-*").algorithms.every_pubkey
    with pytest.raises(LocalProtocolError, match=r"cert-v01@openssh\.com, which is disabled: enable it by pubkey"):
        signature_algorithm(key, bare, None)


def test_a_description_is_a_table_with_what_there_is_to_say() -> None:
    lines = SecurityOptions("legacy").describe().splitlines()
    assert lines[0].split() == ["kind", "algorithm"]
    assert all(line == line.rstrip() for line in lines)
    rows = [
        line.split(None, 3) if line.startswith(("key exchange", "host key")) else line.split(None, 2) for line in lines
    ]
    assert ["key", "exchange", "mlkem768x25519-sha256", "post-quantum"] in rows
    assert ["key", "exchange", "curve25519-sha256"] in rows
    assert ["MAC", "hmac-sha2-256"] in rows
    [triple_des] = [line for line in lines if "3des" in line]
    assert "insecure: blocks of 64 bits repeat" in triple_des
    assert not any("insecure" in line for name in ("modern", "compatible", "fips") for line in both(name))


def both(name: Any) -> list[str]:
    options = SecurityOptions(name)
    return [*options.describe().splitlines(), *options.describe("server").splitlines()]


def test_a_server_s_description_is_the_server_s() -> None:
    options = SecurityOptions()
    assert "ecdh-sha2-nistp256" in options.describe()
    assert "ecdh-sha2-nistp256" not in options.describe("server")


def test_users_keys_have_lines_of_their_own_where_they_differ() -> None:
    assert "user key" not in SecurityOptions().describe()
    text = SecurityOptions(pubkey_algorithms=["rsa-sha2-512"]).describe()
    assert [line.split() for line in text.splitlines() if line.startswith("user key")] == [
        ["user", "key", "rsa-sha2-512"]
    ]


def test_a_copy_is_changed_apart() -> None:
    options = SecurityOptions("fips")
    copied = options.copy()
    copied.ciphers = ["aes256-ctr"]
    assert options.ciphers != copied.ciphers
    assert (copied.profile, copied.kex) == ("fips", options.kex)


async def test_a_transport_s_options_are_its_own() -> None:
    given = SecurityOptions("compatible")
    ours, theirs = memory_pair()
    async with trio_ssh.Transport(ours, security=given) as transport:
        transport.get_security_options().kex = ["curve25519-sha256"]
        assert given.kex != ("curve25519-sha256",)
    await trio.aclose_forcefully(theirs)


# -- what a user signs with


def test_the_first_algorithm_that_the_server_takes_is_chosen() -> None:
    enabled = defaults.HOST_KEYS
    assert signature_algorithm(RSA, enabled, None) == "rsa-sha2-512"
    assert signature_algorithm(RSA, enabled, b"rsa-sha2-256") == "rsa-sha2-256"
    assert signature_algorithm(RSA, enabled, b"ssh-rsa") == "rsa-sha2-512"
    assert signature_algorithm(ED25519, enabled, b"\xff") == "ssh-ed25519"


def test_what_is_disabled_is_not_chosen() -> None:
    assert signature_algorithm(RSA, ["rsa-sha2-256"], b"rsa-sha2-512,rsa-sha2-256") == "rsa-sha2-256"
    with pytest.raises(LocalProtocolError, match="signs only with ssh-ed25519, which is disabled"):
        signature_algorithm(ED25519, ["rsa-sha2-256"], None)


def test_a_rare_key_that_was_given_needs_no_name() -> None:
    assert signature_algorithm(trio_ssh.Ed448Key.generate(), defaults.HOST_KEYS, None) == "ssh-ed448"


def test_what_is_broken_is_chosen_for_who_names_it_only() -> None:
    with pytest.raises(LocalProtocolError, match="signs only with ssh-dss, which is insecure, and enabled by nobody"):
        signature_algorithm(DSA, defaults.HOST_KEYS, None)
    legacy = SecurityOptions("legacy").algorithms.pubkeys
    assert signature_algorithm(DSA, legacy, None) == "ssh-dss"
    assert signature_algorithm(RSA, legacy, b"ssh-rsa,rsa-sha2-256") == "rsa-sha2-256"
    # A server that announces nothing is too old for SHA-2.
    assert signature_algorithm(RSA, legacy, None) == "ssh-rsa"


def test_who_names_sha_1_for_hosts_and_no_sha_2_means_users_too() -> None:
    options = SecurityOptions(host_key_algorithms=["ssh-rsa"])
    assert signature_algorithm(RSA, options.pubkeys, b"rsa-sha2-512,ssh-rsa") == "ssh-rsa"
    assert signature_algorithm(ED25519, options.pubkeys, b"ssh-ed25519") == "ssh-ed25519"
    options = SecurityOptions(host_key_algorithms="+ssh-rsa")
    assert signature_algorithm(RSA, options.pubkeys, b"rsa-sha2-512,ssh-rsa") == "rsa-sha2-512"
