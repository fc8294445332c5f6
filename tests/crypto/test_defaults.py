from __future__ import annotations

from typing import Final

import pytest

from trio_ssh.crypto import defaults
from trio_ssh.crypto.agreement import KEX
from trio_ssh.crypto.cipher import CIPHERS
from trio_ssh.crypto.compression import COMPRESSIONS
from trio_ssh.crypto.mac import MACS


def test_the_order_that_a_peer_sees() -> None:
    """Changing this is a decision: it says what is spoken with whom."""
    assert defaults.KEX == (
        "mlkem768x25519-sha256",
        "mlkem768nistp256-sha256",
        "mlkem1024nistp384-sha384",
        "curve25519-sha256",
        "curve25519-sha256@libssh.org",
        "ecdh-sha2-nistp256",
        "ecdh-sha2-nistp384",
        "ecdh-sha2-nistp521",
        "diffie-hellman-group16-sha512",
        "diffie-hellman-group-exchange-sha256",
        "diffie-hellman-group14-sha256",
    )
    assert defaults.SERVER_KEX == (
        "mlkem768x25519-sha256",
        "curve25519-sha256",
        "curve25519-sha256@libssh.org",
    )
    assert defaults.HOST_KEYS == (
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
        "rsa-sha2-512",
        "rsa-sha2-256",
    )
    assert defaults.CIPHERS == (
        "aes128-gcm@openssh.com",
        "aes256-gcm@openssh.com",
        "chacha20-poly1305@openssh.com",
        "aes128-ctr",
        "aes192-ctr",
        "aes256-ctr",
    )
    assert defaults.MACS == (
        "hmac-sha2-256-etm@openssh.com",
        "hmac-sha2-512-etm@openssh.com",
        "hmac-sha2-256",
        "hmac-sha2-512",
    )
    assert defaults.SERVER_MACS == ("hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com")
    assert defaults.COMPRESSIONS == ("none", "zlib@openssh.com")


def test_nothing_offered_is_broken() -> None:
    offered = {
        *defaults.KEX,
        *defaults.HOST_KEYS,
        *defaults.CIPHERS,
        *defaults.MACS,
        *defaults.COMPRESSIONS,
    }
    assert not [
        name for name in offered if "sha1" in name or "md5" in name or "cbc" in name or name in ("ssh-rsa", "ssh-dss")
    ]
    assert not offered & {*defaults.HOST_KEYS_BY_NAME}


KINDS: Final = ("kex", "host_keys", "ciphers", "macs", "compressions")


def offered(profile: str) -> set[str]:
    both = (defaults.PROFILES[profile].client, defaults.PROFILES[profile].server)
    return {name for offer in both for kind in KINDS for name in getattr(offer, kind)}


def test_the_default_profile_is_what_is_offered_without_one() -> None:
    modern = defaults.PROFILES["modern"]
    assert next(iter(defaults.PROFILES)) == "modern"
    client = (modern.client.kex, modern.client.host_keys, modern.client.ciphers, modern.client.macs)
    assert client == (defaults.KEX, defaults.HOST_KEYS, defaults.CIPHERS, defaults.MACS)
    assert (modern.server.kex, modern.server.macs) == (defaults.SERVER_KEX, defaults.SERVER_MACS)


@pytest.mark.parametrize("profile", defaults.PROFILES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_profile_names_each_algorithm_once_and_only_those_that_exist(profile: str, kind: str) -> None:
    known: dict[str, tuple[str, ...]] = {
        "kex": KEX.names(),
        "host_keys": (*defaults.HOST_KEYS, *defaults.HOST_KEYS_BY_NAME),
        "ciphers": CIPHERS.names(),
        "macs": MACS.names(),
        "compressions": COMPRESSIONS.names(),
    }
    for offer in (defaults.PROFILES[profile].client, defaults.PROFILES[profile].server):
        names = getattr(offer, kind)
        assert len(set(names)) == len(names) > 0
        assert set(names) <= set(known[kind])
    if profile == "legacy":
        assert set(names) == set(known[kind])


@pytest.mark.parametrize("profile", [name for name in defaults.PROFILES if name != "legacy"])
def test_only_the_legacy_profile_offers_what_is_broken(profile: str) -> None:
    assert offered(profile).isdisjoint(defaults.INSECURE)


def test_what_is_broken_stands_behind_all_that_is_not() -> None:
    legacy = defaults.PROFILES["legacy"].client
    assert offered("legacy") >= set(defaults.INSECURE)
    for kind in KINDS:
        flags = [name in defaults.INSECURE for name in getattr(legacy, kind)]
        assert flags == sorted(flags)


def test_each_profile_holds_the_one_before_it() -> None:
    assert offered("modern") < offered("compatible") < offered("legacy")


def test_fips_has_nothing_that_nist_has_not_approved() -> None:
    for name in offered("fips") - {"none", "zlib@openssh.com"}:
        assert "25519" not in name
        assert "448" not in name
        assert "chacha" not in name
        assert "group-exchange" not in name
