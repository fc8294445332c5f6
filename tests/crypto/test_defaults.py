from __future__ import annotations

from trio_ssh.crypto import defaults


def test_the_order_that_a_peer_sees() -> None:
    """Changing this is a decision: it says what is spoken with whom."""
    assert defaults.KEX == (
        "mlkem768x25519-sha256",
        "curve25519-sha256",
        "curve25519-sha256@libssh.org",
        "ecdh-sha2-nistp256",
        "ecdh-sha2-nistp384",
        "ecdh-sha2-nistp521",
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
