"""Key files as OpenSSH and OpenSSL wrote them, each named kind.format, and what some tests do with them."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from hypothesis import strategies

from trio_ssh.keys.files import load_private_key
from trio_ssh.keys.private_key import PKey

DATA: Final = Path(__file__).parent / "data"
PASSPHRASE: Final = "correct horse"
COMMENT: Final = "alice@example"

#: File -> type and size of the key in it.
KINDS: Final = {
    "ed25519": ("ssh-ed25519", 256),
    "ecdsa256": ("ecdsa-sha2-nistp256", 256),
    "ecdsa384": ("ecdsa-sha2-nistp384", 384),
    "ecdsa521": ("ecdsa-sha2-nistp521", 521),
    "rsa2048": ("ssh-rsa", 2048),
    "rsa1024": ("ssh-rsa", 1024),
    "ed448": ("ssh-ed448", 448),
}
#: All but DSA's, which sign for nobody who doesn't name their algorithm.
FILES: Final = sorted(path.name for path in DATA.iterdir() if not path.name.startswith("dsa"))
ENCRYPTED: Final = [
    name for name in FILES if "encrypted" in name or "aes256" in name or name.endswith(("-scrypt", "poly1305"))
]

#: One plain key of each type that OpenSSH has, and of each.
OPENSSHS: Final = [f"{kind}.openssh" for kind in KINDS if kind not in ("rsa1024", "ed448")]
ONE_OF_EACH: Final = [*OPENSSHS, "ed448.openssh"]


@strategies.composite
def garbled(draw: strategies.DrawFn, text: str) -> bytes:
    """The bytes of a text in which a few pieces have become others, of any bytes."""
    data = text.encode()
    for _ in range(draw(strategies.integers(0, 4))):
        start = draw(strategies.integers(0, len(data)))
        end = draw(strategies.integers(start, min(start + 8, len(data))))
        data = data[:start] + draw(strategies.binary(max_size=4)) + data[end:]
    return data


def content(name: str) -> bytes:
    return (DATA / name).read_bytes()


def load(name: str) -> PKey:
    return load_private_key(content(name), PASSPHRASE, name=name, minimum_rsa_bits=1024)


def unarmoured(text: bytes) -> bytearray:
    """The bytes inside the armour of a file's content."""
    lines = text.splitlines()
    return bytearray(binascii.a2b_base64(b"".join(line for line in lines if b"-" not in line and b":" not in line)))


def opened(name: str) -> bytearray:
    """The bytes inside the armour of a file."""
    return unarmoured(content(name))


def armoured(name: str, inside: bytes) -> bytes:
    """A file like `name`, with other bytes inside its armour."""
    lines = content(name).splitlines()
    headers = [line for line in lines[1:-1] if b":" in line]
    parts = [lines[0], *headers, *([b""] if headers else []), base64.encodebytes(inside).rstrip(), lines[-1], b""]
    return b"\n".join(parts)


def flips(data: bytes, step: int = 1) -> Iterator[bytes]:
    """`data` with the lowest or the highest bit of one byte flipped, of every `step`th byte."""
    for position in range(0, len(data), step):
        for bit in (0x01, 0x80):
            damaged = bytearray(data)
            damaged[position] ^= bit
            yield bytes(damaged)


def string(value: bytes) -> bytes:
    return len(value).to_bytes(4, "big") + value
