from __future__ import annotations

import hashlib
import os
from typing import Final, NoReturn

import pytest
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey, MLKEM1024PublicKey
from cryptography.hazmat.primitives.asymmetric.x448 import X448PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from trio_ssh.crypto import agreement_ecdh, agreement_hybrid, defaults
from trio_ssh.crypto.agreement import KEX, AgreementAlgorithm, ClientAgreement, ServerAgreement
from trio_ssh.crypto.agreement_ecdh import NistAgreement, X448Agreement, X25519Agreement, encode_secret, x25519
from trio_ssh.crypto.agreement_hybrid import ML_KEM_768, HybridClientAgreement, HybridServerAgreement
from trio_ssh.errors import RemoteProtocolError
from trio_ssh.wire.numbers import DisconnectReason

NISTP: Final = {
    "ecdh-sha2-nistp256": ec.SECP256R1(),
    "ecdh-sha2-nistp384": ec.SECP384R1(),
    "ecdh-sha2-nistp521": ec.SECP521R1(),
}
SHARE_SIZES: Final = {
    "mlkem768x25519-sha256": (1216, 1120),
    "mlkem768nistp256-sha256": (1249, 1153),
    "mlkem1024nistp384-sha384": (1665, 1665),
    "curve448-sha512": (56, 56),
    "curve25519-sha256": (32, 32),
    "curve25519-sha256@libssh.org": (32, 32),
    "ecdh-sha2-nistp256": (65, 65),
    "ecdh-sha2-nistp384": (97, 97),
    "ecdh-sha2-nistp521": (133, 133),
}

#: Where ML-KEM's part of a share ends: the client's, and the server's.
HYBRIDS: Final = {
    "mlkem768x25519-sha256": (1184, 1088),
    "mlkem768nistp256-sha256": (1184, 1088),
    "mlkem1024nistp384-sha384": (1568, 1568),
}

# Points of small order: whatever the private key, the result is zero.  The last two are the first two plus p.
SMALL_ORDER: Final = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
    bytes.fromhex("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
    bytes.fromhex("eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f"),
]


def mpint(value: int) -> bytes:
    """RFC 4251 s5, for what is not negative."""
    body = value.to_bytes(value.bit_length() // 8 + 1, "big") if value else b""
    return len(body).to_bytes(4, "big") + body


def new_client(name: str) -> ClientAgreement:
    algorithm = KEX[name]
    assert isinstance(algorithm, AgreementAlgorithm)
    return algorithm.new_client()


def new_server(name: str) -> ServerAgreement:
    algorithm = KEX[name]
    assert isinstance(algorithm, AgreementAlgorithm)
    return algorithm.new_server()


def client_refuses(name: str, share: bytes) -> None:
    client = new_client(name)
    with pytest.raises(RemoteProtocolError) as caught:
        client.finish(share)
    assert caught.value.reason is DisconnectReason.KEY_EXCHANGE_FAILED


def server_refuses(name: str, share: bytes) -> None:
    server = new_server(name)
    with pytest.raises(RemoteProtocolError) as caught:
        server.respond(share)
    assert caught.value.reason is DisconnectReason.KEY_EXCHANGE_FAILED


def nist_point(name: str) -> bytes:
    return new_client(name).our_share


def compressed(curve: ec.EllipticCurve) -> bytes:
    public = ec.generate_private_key(curve).public_key()
    return public.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)


# -- every agreement


@pytest.mark.parametrize("name", SHARE_SIZES)
def test_both_sides_agree(name: str) -> None:
    client = new_client(name)
    share, secret = new_server(name).respond(client.our_share)
    assert client.finish(share) == secret
    assert (len(client.our_share), len(share)) == SHARE_SIZES[name]


@pytest.mark.parametrize("name", SHARE_SIZES)
def test_every_exchange_is_fresh(name: str) -> None:
    client = new_client(name)
    first, first_secret = new_server(name).respond(client.our_share)
    second, second_secret = new_server(name).respond(client.our_share)
    assert first != second
    assert first_secret != second_secret
    assert new_client(name).our_share != client.our_share


@pytest.mark.parametrize("name", SHARE_SIZES)
def test_a_share_of_any_other_length_is_the_peer_s_error(name: str) -> None:
    client_share, server_share = nist_point(name), new_server(name).respond(nist_point(name))[0]
    for share in (b"", b"\x00", b"\x04", server_share[:-1], server_share + b"\x00", bytes(100_000)):
        client_refuses(name, share)
    for share in (b"", b"\x00", b"\x04", client_share[:-1], client_share + b"\x00", bytes(100_000)):
        server_refuses(name, share)


def test_the_hashes_of_the_exchanges() -> None:
    assert {name: KEX[name].hash_name for name in KEX.names() if not name.startswith("diffie")} == {
        "mlkem768x25519-sha256": "sha256",
        "mlkem768nistp256-sha256": "sha256",
        "mlkem1024nistp384-sha384": "sha384",
        "curve448-sha512": "sha512",
        "curve25519-sha256": "sha256",
        "curve25519-sha256@libssh.org": "sha256",
        "ecdh-sha2-nistp256": "sha256",
        "ecdh-sha2-nistp384": "sha384",
        "ecdh-sha2-nistp521": "sha512",
    }
    assert all(KEX[name].name == name for name in KEX.names())


def test_every_agreement_that_exists_is_offered_by_some_profile_and_a_hybrid_first() -> None:
    assert set(defaults.PROFILES["legacy"].client.kex) == set(KEX.names())
    for profile in defaults.PROFILES.values():
        assert profile.client.kex[0] in defaults.POST_QUANTUM
        assert profile.server.kex[0] in defaults.POST_QUANTUM


def test_no_private_key_is_seen_in_a_repr() -> None:
    for name in SHARE_SIZES:
        for side in (new_client(name), new_server(name)):
            assert repr(side).startswith(f"<{type(side).__module__}.{type(side).__name__} object")


# -- Curve25519


def test_curve25519_as_in_rfc_7748() -> None:
    """RFC 7748 s6.1."""
    alice = X25519Agreement(bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a"))
    bob = X25519Agreement(bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb"))
    secret = bytes.fromhex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742")
    assert alice.our_share.hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert bob.our_share.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    assert alice.finish(bob.our_share) == b"\x00\x00\x00\x20" + secret
    assert bob.respond(alice.our_share) == (bob.our_share, b"\x00\x00\x00\x20" + secret)


@pytest.mark.parametrize(
    ("shared", "encoded"),
    [
        ("7f01", "00000002" + "7f01"),
        ("80" + "00" * 31, "00000021" + "0080" + "00" * 31),
        ("00" * 31 + "09", "00000001" + "09"),
        ("0080" + "11" * 30, "00000020" + "0080" + "11" * 30),
    ],
)
def test_a_secret_is_the_shortest_mpint(shared: str, encoded: str) -> None:
    """RFC 8731 s3.1: the coordinate is read as a big-endian integer, whatever byte it begins with."""
    assert encode_secret(bytes.fromhex(shared)).hex() == encoded


@pytest.mark.parametrize("share", SMALL_ORDER, ids=bytes.hex)
@pytest.mark.parametrize("name", ["curve25519-sha256", "curve25519-sha256@libssh.org"])
def test_a_share_of_small_order_is_the_peer_s_error(name: str, share: bytes) -> None:
    client_refuses(name, share)
    server_refuses(name, share)


def test_an_all_zero_result_is_refused_whether_or_not_the_library_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_check(private: bytes, their_share: bytes) -> bytes:
        return bytes(32)

    monkeypatch.setattr(agreement_ecdh, "crypto_scalarmult", no_check)
    with pytest.raises(RemoteProtocolError, match="small order"):
        x25519(bytes(32), bytes(32))


# -- NIST curves

RFC_5903: Final = [
    (
        "ecdh-sha2-nistp256",
        "C88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433",
        (
            "DAD0B65394221CF9B051E1FECA5787D098DFE637FC90B9EF945D0C3772581180"
            "5271A0461CDB8252D61F1C456FA3E59AB1F45B33ACCF5F58389E0577B8990BB3"
        ),
        "C6EF9C5D78AE012A011164ACB397CE2088685D8F06BF9BE0B283AB46476BEE53",
        (
            "D12DFB5289C8D4F81208B70270398C342296970A0BCCB74C736FC7554494BF63"
            "56FBF3CA366CC23E8157854C13C58D6AAC23F046ADA30F8353E74F33039872AB"
        ),
        "D6840F6B42F6EDAFD13116E0E12565202FEF8E9ECE7DCE03812464D04B9442DE",
    ),
    (
        "ecdh-sha2-nistp384",
        "099F3C7034D4A2C699884D73A375A67F7624EF7C6B3C0F160647B67414DCE655E35B538041E649EE3FAEF896783AB194",
        (
            "667842D7D180AC2CDE6F74F37551F55755C7645C20EF73E31634FE72B4C55EE6DE3AC808ACB4BDB4C88732AEE95F41AA"
            "9482ED1FC0EEB9CAFC4984625CCFC23F65032149E0E144ADA024181535A0F38EEB9FCFF3C2C947DAE69B4C634573A81C"
        ),
        "41CB0779B4BDB85D47846725FBEC3C9430FAB46CC8DC5060855CC9BDA0AA2942E0308312916B8ED2960E4BD55A7448FC",
        (
            "E558DBEF53EECDE3D3FCCFC1AEA08A89A987475D12FD950D83CFA41732BC509D0D1AC43A0336DEF96FDA41D0774A3571"
            "DCFBEC7AACF3196472169E838430367F66EEBE3C6E70C416DD5F0C68759DD1FFF83FA40142209DFF5EAAD96DB9E6386C"
        ),
        "11187331C279962D93D604243FD592CB9D0A926F422E47187521287E7156C5C4D603135569B9E9D09CF5D4A270F59746",
    ),
    (
        "ecdh-sha2-nistp521",
        (
            "0037ADE9319A89F4DABDB3EF411AACCCA5123C61ACAB57B5393DCE47608172A095AA"
            "85A30FE1C2952C6771D937BA9777F5957B2639BAB072462F68C27A57382D4A52"
        ),
        (
            "0015417E84DBF28C0AD3C278713349DC7DF153C897A1891BD98BAB4357C9ECBEE1E3"
            "BF42E00B8E380AEAE57C2D107564941885942AF5A7F4601723C4195D176CED3E"
            "017CAE20B6641D2EEB695786D8C946146239D099E18E1D5A514C739D7CB4A10AD8A7"
            "88015AC405D7799DC75E7B7D5B6CF2261A6A7F1507438BF01BEB6CA3926F9582"
        ),
        (
            "0145BA99A847AF43793FDD0E872E7CDFA16BE30FDC780F97BCCC3F078380201E9C67"
            "7D600B343757A3BDBF2A3163E4C2F869CCA7458AA4A4EFFC311F5CB151685EB9"
        ),
        (
            "00D0B3975AC4B799F5BEA16D5E13E9AF971D5E9B984C9F39728B5E5739735A219B97"
            "C356436ADC6E95BB0352F6BE64A6C2912D4EF2D0433CED2B6171640012D9460F"
            "015C68226383956E3BD066E797B623C27CE0EAC2F551A10C2C724D9852077B87220B"
            "6536C5C408A1D2AEBB8E86D678AE49CB57091F4732296579AB44FCD17F0FC56A"
        ),
        (
            "01144C7D79AE6956BC8EDB8E7C787C4521CB086FA64407F97894E5E6B2D79B04D142"
            "7E73CA4BAA240A34786859810C06B3C715A3A8CC3151F2BEE417996D19F3DDEA"
        ),
    ),
]


@pytest.mark.parametrize(("name", "i", "gi", "r", "gr", "gir"), RFC_5903, ids=[case[0] for case in RFC_5903])
def test_nist_curves_as_in_rfc_5903(name: str, i: str, gi: str, r: str, gr: str, gir: str) -> None:
    """RFC 5903 s8."""
    initiator = NistAgreement(ec.derive_private_key(int(i, 16), NISTP[name]))
    responder = NistAgreement(ec.derive_private_key(int(r, 16), NISTP[name]))
    assert initiator.our_share == bytes.fromhex("04" + gi)
    assert responder.our_share == bytes.fromhex("04" + gr)
    secret = mpint(int(gir, 16))
    assert initiator.finish(responder.our_share) == secret
    assert responder.respond(initiator.our_share) == (responder.our_share, secret)


@pytest.mark.parametrize("name", NISTP)
def test_a_share_that_is_no_point_is_the_peer_s_error(name: str) -> None:
    point = nist_point(name)
    size = (len(point) - 1) // 2
    beyond_the_field = b"\x04" + b"\xff" * size + point[1 + size :]
    off_the_curve = point[:-1] + bytes((point[-1] ^ 1,))
    hybrid_form = bytes((6 | point[-1] & 1,)) + point[1:]  # X9.62 knows a third form, which gives both coordinates
    origin = b"\x04" + bytes(2 * size)
    infinity = b"\x00"
    of_another_curve = nist_point("ecdh-sha2-nistp384" if name != "ecdh-sha2-nistp384" else "ecdh-sha2-nistp521")
    for share in (
        beyond_the_field,
        off_the_curve,
        hybrid_form,
        origin,
        infinity,
        infinity * len(point),
        compressed(NISTP[name]),
        of_another_curve,
    ):
        client_refuses(name, share)
        server_refuses(name, share)


# -- the hybrid


def test_a_hybrid_client_agrees_with_a_server_made_of_its_parts() -> None:
    """draft-ietf-sshm-mlkem-hybrid-kex: shares are joined, and K is the string SHA-256(K_PQ || K_CL)."""
    client = new_client("mlkem768x25519-sha256")
    server_x25519 = X25519PrivateKey.generate()
    k_pq, ciphertext = MLKEM768PublicKey.from_public_bytes(client.our_share[:1184]).encapsulate()
    k_cl = server_x25519.exchange(X25519PublicKey.from_public_bytes(client.our_share[1184:]))
    reply = ciphertext + server_x25519.public_key().public_bytes_raw()
    assert client.finish(reply) == b"\x00\x00\x00\x20" + hashlib.sha256(k_pq + k_cl).digest()


def test_a_hybrid_server_agrees_with_a_client_made_of_its_parts() -> None:
    kem, classic = MLKEM768PrivateKey.generate(), X25519PrivateKey.generate()
    init = kem.public_key().public_bytes_raw() + classic.public_key().public_bytes_raw()
    reply, secret = new_server("mlkem768x25519-sha256").respond(init)
    k_pq = kem.decapsulate(reply[:1088])
    k_cl = classic.exchange(X25519PublicKey.from_public_bytes(reply[1088:]))
    assert secret == b"\x00\x00\x00\x20" + hashlib.sha256(k_pq + k_cl).digest()


def test_both_halves_of_the_hybrid_count() -> None:
    def new_server() -> HybridServerAgreement:
        return HybridServerAgreement(ML_KEM_768, "sha256", X25519Agreement(os.urandom(32)))

    client = HybridClientAgreement(ML_KEM_768, "sha256", MLKEM768PrivateKey.generate(), X25519Agreement(os.urandom(32)))
    reply, secret = new_server().respond(client.our_share)
    other_reply, _ = new_server().respond(client.our_share)
    assert client.finish(reply) == secret
    assert client.finish(reply[:1088] + other_reply[1088:]) != secret
    assert client.finish(other_reply[:1088] + reply[1088:]) != secret
    # FIPS 203 s6.3: a ciphertext of nobody's is rejected silently, by another secret.
    assert client.finish(bytes(1088) + reply[1088:]) != secret


@pytest.mark.parametrize("share", SMALL_ORDER, ids=bytes.hex)
def test_a_hybrid_share_with_a_point_of_small_order_is_the_peer_s_error(share: bytes) -> None:
    name = "mlkem768x25519-sha256"
    client = new_client(name)
    reply, _ = new_server(name).respond(client.our_share)
    server_refuses(name, client.our_share[:1184] + share)
    client_refuses(name, reply[:1088] + share)


@pytest.mark.parametrize("coefficient", [3329, 4095])
@pytest.mark.parametrize("place", [0, 1, 383, 767])
def test_an_encapsulation_key_that_fails_the_modulus_check_is_the_peer_s_error(place: int, coefficient: int) -> None:
    """FIPS 203 s7.2: every one of the 768 coefficients of 12 bits is below 3329."""
    share = new_client("mlkem768x25519-sha256").our_share
    packed = int.from_bytes(share[:1152], "little")
    packed = packed & ~(0xFFF << 12 * place) | coefficient << 12 * place
    server_refuses("mlkem768x25519-sha256", packed.to_bytes(1152, "little") + share[1152:])
    # The same key with the largest coefficient that there may be is a key.
    packed = packed & ~(0xFFF << 12 * place) | 3328 << 12 * place
    new_server("mlkem768x25519-sha256").respond(packed.to_bytes(1152, "little") + share[1152:])


@pytest.mark.parametrize("name", HYBRIDS)
def test_a_hybrid_s_parts_are_of_their_own_lengths_each(name: str) -> None:
    """A share of the right length in all, cut elsewhere, is two parts of wrong lengths; nothing shifts."""
    client = new_client(name)
    reply, secret = new_server(name).respond(client.our_share)
    assert client.finish(reply) == secret
    at_key, at_ciphertext = HYBRIDS[name]
    for share in (client.our_share[1:], client.our_share[:at_key], client.our_share[at_key:], client.our_share * 2):
        server_refuses(name, share)
    for share in (reply[1:], reply[:at_ciphertext], reply[at_ciphertext:], reply * 2, bytes(len(reply))):
        client_refuses(name, share)
    server_refuses(name, bytes(len(client.our_share)))
    server_refuses(name, b"\xff" * len(client.our_share))
    # FIPS 203 s6.3: of ML-KEM's part, nothing that has its length is noticed by a client; the secret is another.
    garbled = bytes(at_ciphertext) + reply[at_ciphertext:]
    assert client.finish(garbled) != secret


@pytest.mark.parametrize("name", ["mlkem768nistp256-sha256", "mlkem1024nistp384-sha384"])
def test_a_hybrid_s_nist_part_is_a_point_on_its_curve(name: str) -> None:
    client = new_client(name)
    reply, _ = new_server(name).respond(client.our_share)
    at_key, at_ciphertext = HYBRIDS[name]
    size = (len(client.our_share) - at_key - 1) // 2
    for point in (bytes(1 + 2 * size), b"\x04" + bytes(2 * size), b"\x04" + b"\xff" * (2 * size)):
        server_refuses(name, client.our_share[:at_key] + point)
        client_refuses(name, reply[:at_ciphertext] + point)
    off_the_curve = client.our_share[:-1] + bytes((client.our_share[-1] ^ 1,))
    server_refuses(name, off_the_curve)


def test_a_nist_hybrid_hashes_the_point_in_full_length() -> None:
    """draft-ietf-sshm-mlkem-hybrid-kex: K_CL is x as SEC1 encodes a field element, zeros in front too."""
    for name, curve, hash_name in (
        ("mlkem768nistp256-sha256", ec.SECP256R1(), "sha256"),
        ("mlkem1024nistp384-sha384", ec.SECP384R1(), "sha384"),
    ):
        at_key, _ = HYBRIDS[name]
        client = new_client(name)
        private = ec.generate_private_key(curve)
        point = ec.EllipticCurvePublicKey.from_encoded_point(curve, client.our_share[at_key:])
        k_cl = private.exchange(ec.ECDH(), point)
        assert len(k_cl) == (curve.key_size + 7) // 8
        read = (MLKEM768PublicKey if at_key == 1184 else MLKEM1024PublicKey).from_public_bytes
        k_pq, ciphertext = read(client.our_share[:at_key]).encapsulate()
        ours = private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        digest = hashlib.new(hash_name, k_pq + k_cl).digest()
        assert client.finish(ciphertext + ours) == len(digest).to_bytes(4, "big") + digest


# -- Curve448


def test_curve448_as_in_rfc_7748() -> None:
    """RFC 7748 s6.2."""
    alice = X448PrivateKey.from_private_bytes(
        bytes.fromhex(
            "9a8f4925d1519f5775cf46b04b5800d4ee9ee8bae8bc5565d498c28dd9c9baf5"
            "74a9419744897391006382a6f127ab1d9ac2d8c0a598726b"
        )
    )
    bob = X448PrivateKey.from_private_bytes(
        bytes.fromhex(
            "1c306a7ac2a0e2e0990b294470cba339e6453772b075811d8fad0d1d6927c120"
            "bb5ee8972b0d3e21374c9c921b09d1b0366f10b65173992d"
        )
    )
    secret = bytes.fromhex(
        "07fff4181ac6cc95ec1c16a94a0f74d12da232ce40a77552281d282bb60c0b56"
        "fd2464c335543936521c24403085d59a449a5037514a879d"
    )
    ours, theirs = X448Agreement(alice), X448Agreement(bob)
    assert ours.our_share.hex().startswith("9b08f7cc31b7e3e67d22d5aea121074a273bd2b83de09c63faa73d2c")
    assert ours.finish(theirs.our_share) == b"\x00\x00\x00\x38" + secret
    assert theirs.respond(ours.our_share) == (theirs.our_share, b"\x00\x00\x00\x38" + secret)


#: p = 2**448 - 2**224 - 1, little-endian.
P448: Final = 2**448 - 2**224 - 1


@pytest.mark.parametrize("value", [0, 1, P448 - 1, P448, P448 + 1])
def test_a_share_of_small_order_on_curve448_is_the_peer_s_error(value: int) -> None:
    """RFC 7748 s6.2, RFC 8731 s3."""
    share = value.to_bytes(56, "little")
    client_refuses("curve448-sha512", share)
    server_refuses("curve448-sha512", share)


@pytest.mark.parametrize("size", [0, 1, 32, 55, 57, 112])
def test_a_share_of_another_length_is_none_on_curve448(size: int) -> None:
    client_refuses("curve448-sha512", b"\x05" * size)
    server_refuses("curve448-sha512", b"\x05" * size)


def test_an_openssl_without_ml_kem_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> NoReturn:
        raise UnsupportedAlgorithm("ML-KEM-768 is not supported by this backend.")

    assert agreement_hybrid.is_supported()
    monkeypatch.setattr(MLKEM768PrivateKey, "generate", refuse)
    assert not agreement_hybrid.is_supported()
