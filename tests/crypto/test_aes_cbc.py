from __future__ import annotations

import hashlib
import hmac
from typing import Final

import pytest
from cryptography.hazmat.decrepit.ciphers.algorithms import TripleDES
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.modes import ECB

from trio_ssh.crypto.cipher import CIPHERS
from trio_ssh.crypto.mac import MACS
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.numbers import DisconnectReason

# NIST SP 800-38A F.2: CBC-AES128, CBC-AES192 and CBC-AES256.
IV: Final = bytes(range(16))
PLAIN: Final = bytes.fromhex(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
VECTORS: Final = [
    (
        "aes128-cbc",
        "2b7e151628aed2a6abf7158809cf4f3c",
        (
            "7649abac8119b246cee98e9b12e9197d5086cb9b507219ee95db113a917678b2"
            "73bed6b8e3c1743b7116e69e222295163ff1caa1681fac09120eca307586e1a7"
        ),
    ),
    (
        "aes192-cbc",
        "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
        (
            "4f021db243bc633d7178183a9fa071e8b4d9ada9ad7dedf4e5e738763f69145a"
            "571b242012fb7ae07fa9baac3df102e008b0e27988598881d920a9e64f5615cd"
        ),
    ),
    (
        "aes256-cbc",
        "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
        (
            "f58c4c04d6e5f1ba779eabfb5f7bfbd69cfc4e967edb808d679f777bc6702c7d"
            "39f23369a9d9bacfa530e26304231461b2eb05e2c39be9fcda6c19078c6a9d1b"
        ),
    ),
]
SEQUENCE: Final = 0x01020304
MAC_KEY: Final = bytes(range(20))
HEAD: Final = b"\x01\x02\x03\x04"


@pytest.mark.parametrize(("name", "key", "sealed"), VECTORS)
def test_nist_vectors_where_the_mac_covers_the_plaintext(name: str, key: str, sealed: str) -> None:
    mac = MACS["hmac-sha1"]
    sealer = CIPHERS[name].new_sealer(bytes.fromhex(key), IV, mac, MAC_KEY)
    out = bytearray(len(PLAIN) + 20)
    sealer.seal(SEQUENCE, memoryview(PLAIN), memoryview(out))
    assert out.hex() == sealed + hmac.digest(MAC_KEY, HEAD + PLAIN, hashlib.sha1).hex()

    opener = CIPHERS[name].new_opener(bytes.fromhex(key), IV, mac, MAC_KEY)
    assert opener.open_length(SEQUENCE, memoryview(out)[:16]) == int.from_bytes(PLAIN[:4], "big")
    # The plaintext's first bytes tell an absurd length, which no reader would wait for: the tag is refused with it.
    with pytest.raises(RemoteProtocolError, match="tag is wrong"):
        opener.open(SEQUENCE, memoryview(out), len(PLAIN) - 4)


@pytest.mark.parametrize(("name", "key", "sealed"), VECTORS)
def test_nist_vectors_where_the_mac_covers_what_is_sent(name: str, key: str, sealed: str) -> None:
    mac = MACS["hmac-sha1-etm@openssh.com"]
    length = len(PLAIN).to_bytes(4, "big")
    sealer = CIPHERS[name].new_sealer(bytes.fromhex(key), IV, mac, MAC_KEY)
    out = bytearray(4 + len(PLAIN) + 20)
    sealer.seal(SEQUENCE, memoryview(length + PLAIN), memoryview(out))
    sent = length + bytes.fromhex(sealed)
    assert out == sent + hmac.digest(MAC_KEY, HEAD + sent, hashlib.sha1)

    opener = CIPHERS[name].new_opener(bytes.fromhex(key), IV, mac, MAC_KEY)
    assert opener.open_length(SEQUENCE, memoryview(out)[:4]) == len(PLAIN)
    assert opener.open(SEQUENCE, memoryview(out), len(PLAIN)) == PLAIN


def test_triple_des_is_chained_in_blocks_of_eight_from_packet_to_packet() -> None:
    """RFC 4253 s6.3: the vector of a packet is the last block of the packet before."""
    key, iv = bytes(range(1, 25)), b"startVec"
    block = Cipher(TripleDES(key), ECB()).encryptor()
    chain, expected = iv, b""
    first = (20).to_bytes(4, "big") + bytes(range(20))
    second = (12).to_bytes(4, "big") + bytes(range(100, 112))
    for offset in range(0, len(first + second), 8):
        mixed = bytes(a ^ b for a, b in zip((first + second)[offset : offset + 8], chain, strict=True))
        chain = block.update(mixed)
        expected += chain
    suite, mac = CIPHERS["3des-cbc"], MACS["hmac-sha1-96"]
    sealer, opener = suite.new_sealer(key, iv, mac, MAC_KEY), suite.new_opener(key, iv, mac, MAC_KEY)
    found = b""
    for number, plain in enumerate((first, second)):
        out = bytearray(len(plain) + 12)
        sealer.seal(number, memoryview(plain), memoryview(out))
        found += bytes(out[:-12])
        tag = hmac.digest(MAC_KEY, number.to_bytes(4, "big") + plain, hashlib.sha1)
        assert out[-12:] == tag[:12]
        assert opener.open_length(number, memoryview(out)[:8]) == len(plain) - 4
        assert opener.open(number, memoryview(out), len(plain) - 4) == plain[4:]
    assert found == expected


@pytest.mark.parametrize("mac", ["hmac-sha1", "hmac-sha2-256"])
@pytest.mark.parametrize("name", ["aes128-cbc", "3des-cbc"])
def test_another_length_than_was_told_is_a_bad_tag(name: str, mac: str) -> None:
    """The reader asks for the longest packet where it was told a bad length; even the right tag is no use then."""
    suite, algorithm = CIPHERS[name], MACS[mac]
    keys = (bytes(range(suite.key_size)), bytes(suite.iv_size), algorithm, bytes(algorithm.key_size))
    plain = (5).to_bytes(4, "big") + bytes(44)
    out = bytearray(48 + algorithm.tag_size)
    suite.new_sealer(*keys).seal(0, memoryview(plain), memoryview(out))
    opener = suite.new_opener(*keys)
    assert opener.open_length(0, memoryview(out)) == 5
    with pytest.raises(RemoteProtocolError, match="tag is wrong") as caught:
        opener.open(0, memoryview(out), 44)
    assert caught.value.reason is DisconnectReason.MAC_ERROR


def test_only_where_the_mac_covers_the_plaintext_the_length_must_not_show() -> None:
    for name in CIPHERS.names():
        for mac in ("hmac-sha1", "hmac-sha1-etm@openssh.com"):
            suite, algorithm = CIPHERS[name], MACS[mac]
            opener = suite.new_opener(bytes(range(suite.key_size)), bytes(suite.iv_size), algorithm, bytes(20))
            assert opener.hides_length == (name.endswith("-cbc") and not algorithm.is_etm)
