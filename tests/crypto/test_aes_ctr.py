from __future__ import annotations

import hashlib
import hmac
from typing import Final

import pytest

from trio_ssh.crypto.cipher import CIPHERS
from trio_ssh.crypto.mac import MACS

# NIST SP 800-38A F.5: CTR-AES128, CTR-AES192 and CTR-AES256.
IV: Final = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
PLAIN: Final = bytes.fromhex(
    "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
    "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
)
VECTORS: Final = [
    (
        "aes128-ctr",
        "2b7e151628aed2a6abf7158809cf4f3c",
        (
            "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"
            "5ae4df3edbd5d35e5b4f09020db03eab1e031dda2fbe03d1792170a0f3009cee"
        ),
    ),
    (
        "aes192-ctr",
        "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b",
        (
            "1abc932417521ca24f2b0459fe7e6e0b090339ec0aa6faefd5ccc2c6f4ce8e94"
            "1e36b26bd1ebc670d1bd1d665620abf74f78a7f6d29809585a97daec58c6b050"
        ),
    ),
    (
        "aes256-ctr",
        "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
        (
            "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
            "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
        ),
    ),
]
SEQUENCE: Final = 0x01020304
MAC_KEY: Final = bytes(range(32))


@pytest.mark.parametrize(("name", "key", "sealed"), VECTORS)
def test_nist_vectors_where_the_mac_covers_the_plaintext(name: str, key: str, sealed: str) -> None:
    mac = MACS["hmac-sha2-256"]
    sealer = CIPHERS[name].new_sealer(bytes.fromhex(key), IV, mac, MAC_KEY)
    out = bytearray(len(PLAIN) + 32)
    sealer.seal(SEQUENCE, memoryview(PLAIN), memoryview(out))
    tag = hmac.digest(MAC_KEY, b"\x01\x02\x03\x04" + PLAIN, hashlib.sha256)
    assert out.hex() == sealed + tag.hex()

    opener = CIPHERS[name].new_opener(bytes.fromhex(key), IV, mac, MAC_KEY)
    assert opener.open_length(SEQUENCE, memoryview(out)[:16]) == int.from_bytes(PLAIN[:4], "big")
    assert opener.open(SEQUENCE, memoryview(out), len(PLAIN) - 4) == PLAIN[4:]


@pytest.mark.parametrize(("name", "key", "sealed"), VECTORS)
def test_nist_vectors_where_the_mac_covers_what_is_sent(name: str, key: str, sealed: str) -> None:
    mac = MACS["hmac-sha2-256-etm@openssh.com"]
    length = len(PLAIN).to_bytes(4, "big")
    sealer = CIPHERS[name].new_sealer(bytes.fromhex(key), IV, mac, MAC_KEY)
    out = bytearray(4 + len(PLAIN) + 32)
    sealer.seal(SEQUENCE, memoryview(length + PLAIN), memoryview(out))
    sent = length + bytes.fromhex(sealed)
    assert out == sent + hmac.digest(MAC_KEY, b"\x01\x02\x03\x04" + sent, hashlib.sha256)

    opener = CIPHERS[name].new_opener(bytes.fromhex(key), IV, mac, MAC_KEY)
    assert opener.open_length(SEQUENCE, memoryview(out)[:4]) == len(PLAIN)
    assert opener.open(SEQUENCE, memoryview(out), len(PLAIN)) == PLAIN


def test_the_counter_runs_on_through_packets_that_end_inside_a_block() -> None:
    """What is left over of a block's key stream, the next packet uses."""
    name, key, sealed = VECTORS[0]
    mac = MACS["hmac-sha2-512-etm@openssh.com"]
    sealer = CIPHERS[name].new_sealer(bytes.fromhex(key), IV, mac, bytes(64))
    sent = b""
    for at in range(0, len(PLAIN), 8):
        out = bytearray(12 + 64)
        sealer.seal(at, memoryview(b"\0\0\0\x08" + PLAIN[at : at + 8]), memoryview(out))
        sent += out[4:12]
    assert sent.hex() == sealed


@pytest.mark.parametrize(("mac", "header_size"), [("hmac-sha2-256", 16), ("hmac-sha2-256-etm@openssh.com", 4)])
def test_a_length_is_told_from_as_few_bytes_as_the_mac_allows(mac: str, header_size: int) -> None:
    algorithm = MACS[mac]
    opener = CIPHERS["aes128-ctr"].new_opener(bytes(16), IV, algorithm, MAC_KEY)
    assert opener.header_size == header_size
    assert opener.pads_length == (not algorithm.is_etm)
    assert opener.tag_size == algorithm.tag_size
