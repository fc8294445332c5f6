from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Final

import pytest

from tests.keys.samples import string
from trio_ssh.crypto.defaults import HOST_KEYS
from trio_ssh.errors import KeyFileException, RemoteProtocolError
from trio_ssh.keys import agent_protocol
from trio_ssh.keys.agent_constraints import NO_CONSTRAINTS
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.certification import plain_algorithm
from trio_ssh.keys.certified_key import CertifiedKey
from trio_ssh.keys.container import PrivatePart, seal
from trio_ssh.keys.mldsa import KEY_TYPE, MLDSA44Ed25519Key, is_supported
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import parse_public_key

#: draft-ietf-lamps-pq-composite-sigs, its test vectors: what is signed, the private key, a signature.
VECTOR: Final = json.loads((Path(__file__).parent / "composite.json").read_text())
DATA, SEEDS, RAW = (base64.b64decode(VECTOR[name]) for name in ("m", "sk", "s"))
HEAD: Final = string(KEY_TYPE.encode())
KEY: Final = MLDSA44Ed25519Key(SEEDS, "me")
PUBLIC: Final = KEY.public_key


def blob(keys: bytes) -> bytes:
    return HEAD + string(keys)


def test_the_signature_of_the_draft_is_right() -> None:
    assert is_supported()
    parse_public_key(PUBLIC.blob).verify(DATA, HEAD + string(RAW), KEY_TYPE)
    with pytest.raises(RemoteProtocolError, match="is wrong"):
        PUBLIC.verify(DATA + b".", HEAD + string(RAW), KEY_TYPE)


def test_a_signature_is_right_only_if_both_halves_are() -> None:
    signature = KEY.sign(DATA)
    PUBLIC.verify(DATA, signature, KEY_TYPE)
    assert len(signature) == len(HEAD) + 4 + 2420 + 64
    for position in (len(HEAD) + 4, len(HEAD) + 2000, len(signature) - 64, len(signature) - 1):
        damaged = bytearray(signature)
        damaged[position] ^= 1
        with pytest.raises(RemoteProtocolError, match="is wrong"):
            PUBLIC.verify(DATA, bytes(damaged), KEY_TYPE)
    other = MLDSA44Ed25519Key.generate().sign(DATA)
    for mixed in (signature[:-64] + other[-64:], other[:-64] + signature[-64:]):
        with pytest.raises(RemoteProtocolError, match="is wrong"):
            PUBLIC.verify(DATA, mixed, KEY_TYPE)


@pytest.mark.parametrize("length", [0, 64, 2420, 2483, 2485])
def test_a_signature_of_another_length_is_wrong(length: int) -> None:
    with pytest.raises(RemoteProtocolError, match="is wrong"):
        PUBLIC.verify(DATA, HEAD + string((RAW + b"\0")[:length]), KEY_TYPE)


def test_it_is_offered_to_nobody_by_default() -> None:
    assert KEY.algorithms == (KEY_TYPE,)
    assert KEY_TYPE not in HOST_KEYS
    assert KEY.get_bits() == 256


@pytest.mark.parametrize("length", [0, 32, 1312, 1343, 1345])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(RemoteProtocolError, match=f"of {length} bytes instead of 1344"):
        parse_public_key(blob(bytes(length)))


def test_a_key_whose_ed25519_half_fits_any_signature_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="no usable point"):
        parse_public_key(PUBLIC.blob[:-32] + bytes(32))


def test_a_blob_cut_anywhere_or_longer_is_refused() -> None:
    for length in range(len(PUBLIC.blob)):
        with pytest.raises(RemoteProtocolError):
            parse_public_key(PUBLIC.blob[:length])
    with pytest.raises(RemoteProtocolError, match="too many"):
        parse_public_key(PUBLIC.blob + b"\0")


@pytest.mark.parametrize("passphrase", [None, "passphrase"])
def test_what_is_written_can_be_read(passphrase: str | None) -> None:
    again = PKey.from_bytes(KEY.to_openssh(passphrase, rounds=1), passphrase)
    assert (again, again.comment) == (KEY, "me")
    PUBLIC.verify(b"data", again.sign(b"data"), KEY_TYPE)
    for write in (KEY.to_pem, KEY.to_pkcs8):
        with pytest.raises(ValueError, match="only be written in OpenSSH's format"):
            write(passphrase)


@pytest.mark.parametrize(
    ("keys", "seeds", "complaint"),
    [
        (PUBLIC.blob[-1344:], SEEDS[:-1], "seeds have 63 bytes instead of 64"),
        (PUBLIC.blob[-1344:], SEEDS[:-1] + b"\0", "halves don't belong together"),
        (bytes(1344), SEEDS, "halves don't belong together"),
    ],
)
def test_halves_that_do_not_fit_are_no_key(keys: bytes, seeds: bytes, complaint: str) -> None:
    part = PrivatePart(KEY_TYPE, string(keys) + string(seeds) + string(b""), PUBLIC.blob)
    with pytest.raises(KeyFileException, match=complaint):
        PKey.from_bytes(seal(part, None))


def test_seeds_of_another_length_are_the_callers_mistake() -> None:
    with pytest.raises(ValueError, match="has 64 bytes, not 32"):
        MLDSA44Ed25519Key(bytes(32))


def test_a_certificate_s_signatures_bear_the_key_s_name() -> None:
    """In an agent's answer too, and the agent of ours can be given one."""
    key = MLDSA44Ed25519Key.generate()
    certificate = Certificate.issue_for_user(key, key.public_key, key_id="x", principals=["u"], valid_before=2**40)
    assert plain_algorithm(certificate.key_type) == key.key_type
    assert agent_protocol.flagged_algorithm(certificate.key_type, 0) == key.key_type
    added = agent_protocol.write_added(CertifiedKey(key, certificate), "", NO_CONSTRAINTS)
    held, _ = agent_protocol.read_added(added)
    assert isinstance(held, CertifiedKey)
    assert held.key == key
