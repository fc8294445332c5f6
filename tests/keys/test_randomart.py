from __future__ import annotations

import pytest

from tests.keys.samples import load
from trio_ssh.keys.randomart import draw, short_name


@pytest.mark.parametrize(
    ("key_type", "name"),
    [
        ("ssh-ed25519", "ED25519"),
        ("ecdsa-sha2-nistp521", "ECDSA"),
        ("sk-ecdsa-sha2-nistp256@openssh.com", "ECDSA-SK"),
        ("ssh-ed25519-cert-v01@openssh.com", "ED25519-CERT"),
        ("ssh-rsa-cert-v01@openssh.com", "RSA-CERT"),
        ("sk-ssh-ed25519-cert-v01@openssh.com", "ED25519-SK-CERT"),
        ("ssh-mldsa44-ed25519-cert-v01@openssh.com", "MLDSA44-ED25519-CERT"),
        ("ssh-xmss@openssh.com", "SSH-XMSS@OPENSSH.COM"),
    ],
)
def test_a_type_has_the_name_that_ssh_keygen_gives_it(key_type: str, name: str) -> None:
    assert short_name(key_type) == name


def walk(digest: bytes) -> list[str]:
    return draw(digest, "ssh-rsa", 2048, "sha256").split("\n")


def test_the_walk_begins_in_the_middle_and_ends_where_it_ends() -> None:
    assert walk(b"")[5] == "|        E        |"
    # Down to the right, and three times up to the left.
    assert walk(b"\x03")[3:8] == [
        "|      E          |",
        "|       .         |",
        "|        S        |",
        "|         .       |",
        "|                 |",
    ]


def test_a_walk_stays_inside_and_counts_no_higher_than_its_marks() -> None:
    assert walk(bytes(1000))[1] == "|E....            |"
    picture = walk(b"\x33" * 1000)
    assert all(len(line) == 19 for line in picture)
    assert "^" in picture[5] + picture[6]
    assert "/" not in "".join(picture)


@pytest.mark.parametrize(
    ("key_type", "bits", "edge"),
    [
        ("ssh-ed25519", 256, "+--[ED25519 256]--+"),
        ("ssh-rsa", 16384, "+---[RSA 16384]---+"),
        ("sk-ssh-ed25519@openssh.com", 256, "+[ED25519-SK 256]-+"),
        ("ssh-ed25519-cert-v01@openssh.com", 256, "+-[ED25519-CERT]--+"),
        ("ssh-mldsa44-ed25519@openssh.com", 256, "+[MLDSA44-ED25519-+"),
    ],
)
def test_the_upper_edge_says_what_fits_in(key_type: str, bits: int, edge: str) -> None:
    assert draw(b"", key_type, bits, "sha256").split("\n")[0] == edge


def test_another_hash_is_another_picture() -> None:
    key = load("ed25519.openssh").public_key
    assert key.randomart().split("\n")[10] == "+----[SHA256]-----+"
    assert key.randomart("md5").split("\n")[10] == "+------[MD5]------+"
    with pytest.raises(ValueError, match="unsupported hash"):
        key.randomart("crc32")
