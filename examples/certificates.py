"""An authority in thirty lines: it certifies users and hosts, and takes back what was lost.

With certificates nobody keeps lists of keys: servers know the authority that certifies users, users know the one that
certifies hosts, and what either believes has an end.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import trio_ssh

DAY = 86_400


def certify_a_user(authority: trio_ssh.PKey, key: trio_ssh.PKey) -> trio_ssh.Certificate:
    """Let alice log in for a day, from the office only."""
    return trio_ssh.Certificate.issue_for_user(
        authority,
        key.public_key,
        key_id="alice, laptop",
        principals=["alice"],
        serial=1,
        valid_before=time.time() + DAY,
        source_addresses=["192.0.2.0/24"],
        permissions=trio_ssh.CertificatePermissions(agent_forwarding=False, x11_forwarding=False),
    )


def certify_a_host(authority: trio_ssh.PKey, key: trio_ssh.PKey) -> trio_ssh.Certificate:
    """Certify a host for a year, under two names."""
    return trio_ssh.Certificate.issue_for_host(
        authority,
        key.public_key,
        key_id="web 1",
        principals=["web.example.com", "*.web.example.com"],
        serial=2,
        valid_before=time.time() + 365 * DAY,
    )


def main() -> None:
    """Issue, check, revoke."""
    authority = trio_ssh.Ed25519Key.generate("authority")
    alice, web = trio_ssh.Ed25519Key.generate("alice"), trio_ssh.ECDSAKey.generate()
    authorities = [authority.public_key]

    certificate = certify_a_user(authority, alice)
    print("issued:", certificate)
    certificate.check_for_user("alice", authorities=authorities, now=time.time(), address="192.0.2.7")
    print("alice may come in from 192.0.2.7")
    for username, address, later in (
        ("root", "192.0.2.7", 0),
        ("alice", "203.0.113.9", 0),
        ("alice", "192.0.2.7", DAY),
    ):
        try:
            certificate.check_for_user(username, authorities=authorities, now=time.time() + later, address=address)
        except trio_ssh.CertificateException as error:
            print("refused:", error)

    host = certify_a_host(authority, web)
    host.check_for_host("static.web.example.com", authorities=authorities, now=time.time())
    print("believed:", host)

    revoked = trio_ssh.KeyRevocationList(comment="lost laptops")
    revoked.revoke(certificate)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "revoked_keys"
        revoked.save(path, generated=time.time())  # sshd reads it as its RevokedKeys
        read = trio_ssh.KeyRevocationList.load(path)
        print("alice's is revoked:", read.is_revoked(certificate), "- the host's:", read.is_revoked(host))

        # What a login shows is a private key with its certificate.
        (Path(folder) / "id-cert.pub").write_text(certificate.to_openssh() + "\n")
        alice.load_certificate(Path(folder) / "id-cert.pub")
        print("to log in with:", trio_ssh.CertifiedKey(alice, certificate))


if __name__ == "__main__":
    main()
