from __future__ import annotations

import hashlib
import hmac

import pytest

from trio_ssh.crypto.mac import MACS

# RFC 4231 s4, the cases whose tags are given in full: key, data, HMAC-SHA-256, HMAC-SHA-512.
RFC_4231 = [
    (
        b"\x0b" * 20,
        b"Hi There",
        "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
        (
            "87aa7cdea5ef619d4ff0b4241a1d6cb02379f4e2ce4ec2787ad0b30545e17cde"
            "daa833b7d6b8a702038b274eaea3f4e4be9d914eeb61f1702e696c203a126854"
        ),
    ),
    (
        b"Jefe",
        b"what do ya want for nothing?",
        "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
        (
            "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea250554"
            "9758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"
        ),
    ),
    (
        b"\xaa" * 20,
        b"\xdd" * 50,
        "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe",
        (
            "fa73b0089d56a284efb0f0756c890be9b1b5dbdd8ee81a3655f83e33b2279d39"
            "bf3e848279a722c806b485a47e67c807b946a337bee8942674278859e13292fb"
        ),
    ),
    (
        b"\xaa" * 131,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
        (
            "80b24263c7c1a3ebb71493c1dd7be8b49b46d1f41b4aeec1121b013783f8f352"
            "6b56d037e05f2598bd0fd2215d6a1e5295e64f73f63f0aec8b915a985d786598"
        ),
    ),
]


@pytest.mark.parametrize("name", [name for name in MACS.names() if "sha2" in name])
@pytest.mark.parametrize(("key", "data", "sha256", "sha512"), RFC_4231)
def test_the_vectors_of_rfc_4231(name: str, key: bytes, data: bytes, sha256: str, sha512: str) -> None:
    # What a tag covers begins with the sequence number, so the vector's first four bytes are one here.
    sequence = int.from_bytes(data[:4], "big")
    tag = MACS[name].new(key).tag(sequence, data[4:])
    assert tag.hex() == (sha256 if "sha2-256" in name else sha512)


# RFC 2202 s3: key, data, HMAC-SHA-1.
RFC_2202 = [
    (b"\x0b" * 20, b"Hi There", "b617318655057264e28bc0b6fb378c8ef146be00"),
    (b"Jefe", b"what do ya want for nothing?", "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
    (b"\xaa" * 20, b"\xdd" * 50, "125d7342b9ac11cd91a39af48aa17b4f63f175d3"),
    (
        b"\xaa" * 80,
        b"Test Using Larger Than Block-Size Key - Hash Key First",
        "aa4ae5e15272d00e95705637ce8a3b55ed402112",
    ),
]


@pytest.mark.parametrize("name", ["hmac-sha1", "hmac-sha1-96", "hmac-sha1-etm@openssh.com"])
@pytest.mark.parametrize(("key", "data", "tag"), RFC_2202)
def test_the_vectors_of_rfc_2202(name: str, key: bytes, data: bytes, tag: str) -> None:
    sequence = int.from_bytes(data[:4], "big")
    assert MACS[name].new(key).tag(sequence, data[4:]).hex() == tag[: 2 * MACS[name].tag_size]


@pytest.mark.parametrize("name", MACS.names())
def test_sizes_are_what_they_are_said_to_be(name: str) -> None:
    algorithm = MACS[name]
    tag = algorithm.new(bytes(algorithm.key_size)).tag(0)
    assert algorithm.name == name
    assert len(tag) == algorithm.tag_size
    assert algorithm.is_etm == name.endswith("-etm@openssh.com")


def test_parts_are_one_message_and_every_tag_stands_alone() -> None:
    key = bytes(range(32))
    mac = MACS["hmac-sha2-256"].new(key)
    expected = hmac.digest(key, b"\xff\xff\xff\xfeone, two", hashlib.sha256)
    assert mac.tag(2**32 - 2, b"one, ", memoryview(b"two")) == expected
    assert mac.tag(2**32 - 2, b"one, two") == expected
    assert mac.tag(2**32 - 1, b"one, two") != expected
