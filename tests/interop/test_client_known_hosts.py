"""What our client makes of real sshd's keys."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_ssh
from tests.interop.peers import KINDS, Account, KeyFolder, Ssh, Sshd, run

pytestmark = pytest.mark.interop


@pytest.fixture
def file(sshd: Sshd, tmp_path: Path) -> Path:
    """known_hosts as ssh-keyscan writes it."""
    path = tmp_path / "known_hosts"
    path.write_text(run("ssh-keyscan", "-p", str(sshd.port), "127.0.0.1"))
    return path


async def connects(sshd: Sshd, known_hosts: Path | trio_ssh.HostKeys, **options: object) -> bool:
    async with sshd.connect(known_hosts=known_hosts, **options) as client:
        return (await client.run_process("true")).returncode == 0


def name_of(sshd: Sshd) -> str:
    return f"[127.0.0.1]:{sshd.port}"


async def test_a_scanned_host_is_known(sshd: Sshd, file: Path) -> None:
    assert await connects(sshd, file)


async def test_a_hashed_name_is_known(sshd: Sshd, file: Path) -> None:
    run("ssh-keygen", "-H", "-f", file)
    assert "127.0.0.1" not in await trio.Path(file).read_text()
    assert await connects(sshd, file)


@pytest.mark.parametrize("kind", KINDS)
async def test_one_key_of_any_kind_is_enough(sshd: Sshd, kind: str) -> None:
    known = trio_ssh.HostKeys.from_text(f"{name_of(sshd)} {sshd.host_keys.public(kind)}\n")
    async with sshd.connect(known_hosts=known) as client:
        transport = client.get_transport()
        assert transport is not None
        assert transport.get_remote_server_key() == sshd.host_keys.load(kind).public_key


async def test_an_unknown_host_is_refused_and_told_how_to_trust_it(sshd: Sshd) -> None:
    with pytest.raises(trio_ssh.UnknownHostKeyException) as raised:
        await connects(sshd, trio_ssh.HostKeys())
    assert raised.value.hostname == name_of(sshd)
    assert raised.value.fingerprint == sshd.host_keys.load("ed25519").fingerprint


async def test_a_changed_key_is_refused_and_its_line_named(sshd: Sshd, tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    old = trio_ssh.Ed25519Key.generate().public_key
    path.write_text(f"# comment\n{name_of(sshd)} {old.to_openssh()}\n")
    with pytest.raises(trio_ssh.BadHostKeyException) as raised:
        await connects(sshd, path, policy=trio_ssh.AutoAddPolicy)
    assert raised.value.expected == (f"{old.fingerprint} ({path}:2)",)
    assert path.read_text().count("\n") == 2


async def test_a_revoked_key_is_refused(sshd: Sshd, file: Path) -> None:
    revoked = "".join(f"@revoked * {sshd.host_keys.public(kind)}\n" for kind in KINDS)
    await trio.Path(file).write_text(await trio.Path(file).read_text() + revoked)
    with pytest.raises(trio_ssh.BadHostKeyException, match="REVOKED"):
        await connects(sshd, file, policy=trio_ssh.AutoAddPolicy)


async def test_what_auto_add_saves_is_what_ssh_keygen_finds_and_the_next_client_trusts(
    sshd: Sshd, tmp_path: Path
) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("# mine\n")
    client = trio_ssh.SSHClient()
    client.set_missing_host_key_policy(trio_ssh.AutoAddPolicy())
    await client.load_host_keys(path)
    async with client:
        await client.connect("127.0.0.1", sshd.port, sshd.account.name, pkey=sshd.user_keys.load("ed25519"))
    assert path.read_text().startswith("# mine\n")
    found = run("ssh-keygen", "-F", name_of(sshd), "-l", "-f", path)
    assert sshd.host_keys.load("ed25519").fingerprint in found
    assert await connects(sshd, path)


async def test_a_warning_policy_warns_and_forgets(sshd: Sshd) -> None:
    for _ in range(2):
        with pytest.warns(UserWarning, match="is unknown: ssh-ed25519 SHA256:"):
            assert await connects(sshd, trio_ssh.HostKeys(), policy=trio_ssh.WarningPolicy)


async def test_a_policy_of_ones_own_is_asked_once_the_key_is_proven(sshd: Sshd) -> None:
    class Fingerprint(trio_ssh.MissingHostKeyPolicy):
        async def missing_host_key(self, client: object, hostname: str, key: trio_ssh.PublicKey) -> None:
            if key.fingerprint != sshd.host_keys.load("ed25519").fingerprint:
                raise AssertionError("not the key")

    assert await connects(sshd, trio_ssh.HostKeys(), policy=Fingerprint)


# -- host certificates


@pytest.fixture(scope="module")
def authority() -> trio_ssh.Ed25519Key:
    return trio_ssh.Ed25519Key.generate("authority")


def certificate(authority: trio_ssh.PKey, key: trio_ssh.PublicKey, **changed: Any) -> trio_ssh.Certificate:
    arguments: dict[str, Any] = {"key_id": "test", "principals": ["127.0.0.1"], "valid_before": time.time() + 600}
    return trio_ssh.Certificate.issue_for_host(authority, key, **(arguments | changed))


@pytest.fixture(scope="module")
def certified_sshd(
    folder: Path, account: Account, host_keys: KeyFolder, user_keys: KeyFolder, authority: trio_ssh.Ed25519Key
) -> Iterator[Sshd]:
    """Has certificates of two of its keys, one of which has expired."""
    lines = []
    for kind, changed in (("ed25519", {}), ("rsa", {}), ("ecdsa256", {"valid_before": 1_000_000_000})):
        path = folder / f"{kind}-cert.pub"
        issued = certificate(authority, host_keys.load(kind).public_key, **changed)
        path.write_text(issued.to_openssh() + "\n")
        lines.append(f"HostCertificate {path}")
    with Sshd(folder, account, host_keys, user_keys, lines) as server:
        yield server


def authority_line(authority: trio_ssh.PKey, names: str = "*") -> str:
    return f"@cert-authority {names} {authority.public_key.to_openssh()}\n"


@pytest.mark.parametrize("algorithm", ["ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256"])
async def test_a_host_that_an_authority_certifies_is_known(
    certified_sshd: Sshd, authority: trio_ssh.Ed25519Key, algorithm: str
) -> None:
    known = trio_ssh.HostKeys.from_text(authority_line(authority))
    async with certified_sshd.connect(known_hosts=known, host_key_algorithms=[algorithm]) as client:
        assert (await client.run_process("true")).returncode == 0
        transport = client.get_transport()
        assert transport is not None
        negotiated = transport.get_negotiated()
        assert negotiated is not None
        assert negotiated.host_key_algorithm == f"{algorithm}-cert-v01@openssh.com"
        await transport.renegotiate_keys()
        assert (await client.run_process("true")).returncode == 0


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa256"])
async def test_a_certificate_of_no_use_leaves_the_bare_key_to_be_looked_up(
    certified_sshd: Sshd, authority: trio_ssh.Ed25519Key, kind: str
) -> None:
    stranger = trio_ssh.Ed25519Key.generate()
    lines = authority_line(stranger if kind == "ed25519" else authority)
    algorithms = {"ed25519": ["ssh-ed25519"], "ecdsa256": ["ecdsa-sha2-nistp256"]}[kind]
    known = trio_ssh.HostKeys.from_text(lines)
    with pytest.raises(trio_ssh.UnknownHostKeyException) as raised:
        await connects(certified_sshd, known, host_key_algorithms=algorithms)
    [note] = raised.value.__notes__
    assert "no authority here" in note or "expired" in note
    known = trio_ssh.HostKeys.from_text(lines + f"{name_of(certified_sshd)} {certified_sshd.host_keys.public(kind)}\n")
    assert await connects(certified_sshd, known, host_key_algorithms=algorithms)


async def test_no_certificate_is_asked_for_where_no_authority_is_known(certified_sshd: Sshd) -> None:
    async with certified_sshd.connect() as client:
        transport = client.get_transport()
        assert transport is not None
        negotiated = transport.get_negotiated()
        assert negotiated is not None
        assert "cert" not in negotiated.host_key_algorithm


@pytest.mark.parametrize("is_authority", [True, False])
async def test_what_is_revoked_is_refused_whoever_certifies_it(
    certified_sshd: Sshd, authority: trio_ssh.Ed25519Key, is_authority: bool
) -> None:
    revoked = authority.public_key.to_openssh() if is_authority else certified_sshd.host_keys.public("ed25519")
    known = trio_ssh.HostKeys.from_text(authority_line(authority) + f"@revoked * {revoked}\n")
    with pytest.raises(trio_ssh.BadHostKeyException, match="REVOKED"):
        await connects(certified_sshd, known, host_key_algorithms=["ssh-ed25519"], policy=trio_ssh.AutoAddPolicy)


@pytest.mark.parametrize("marker", ["@revoked ", ""])
async def test_a_certificate_on_record_says_of_its_key_what_it_says_to_ssh(
    ssh: Ssh, authority: trio_ssh.Ed25519Key, marker: str
) -> None:
    key = ssh.host_keys.load("ed25519")
    async with trio.open_nursery() as nursery:
        await ssh.serve(nursery, host_keys=[key])
        name = f"[127.0.0.1]:{ssh.port}"
        text = f"{marker}{name} {certificate(authority, key.public_key).to_openssh()}\n"
        if marker:
            text += f"{name} {key.public_key.to_openssh()}\n"
        await trio.Path(ssh.known_hosts).write_text(text)
        warning = b"REVOKED HOST KEY" if marker else b"IDENTIFICATION HAS CHANGED"
        assert warning in (await ssh.run("server", "true")).stderr
        with pytest.raises(trio_ssh.BadHostKeyException, match="REVOKED" if marker else "a certificate of SHA256"):
            async with trio_ssh.connect(
                "127.0.0.1", ssh.port, config=None, known_hosts=ssh.known_hosts, policy=trio_ssh.AutoAddPolicy
            ):
                raise AssertionError("it was believed")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa384", "rsa"])
async def test_ssh_believes_our_certificate(ssh: Ssh, authority: trio_ssh.Ed25519Key, kind: str) -> None:
    key = ssh.host_keys.load(kind)
    async with trio.open_nursery() as nursery:
        certified = trio_ssh.CertifiedKey(key, certificate(authority, key.public_key))
        await ssh.serve(nursery, host_keys=[certified])
        await trio.Path(ssh.known_hosts).write_text(authority_line(authority))
        done = await ssh.run("-v", "server", "echo", "hello")
        assert done.stdout == b"hello\n", done.stderr
        assert b"cert-v01@openssh.com" in done.stderr
        # And one who knows no authority is shown the bare key.
        line = f"[127.0.0.1]:{ssh.port} {ssh.host_keys.public(kind)}\n"
        await trio.Path(ssh.known_hosts).write_text(line)
        ssh.options = ("HostKeyAlgorithms=ssh-ed25519,ecdsa-sha2-nistp384,rsa-sha2-512",)
        assert (await ssh.run("server", "true")).returncode == 0
        nursery.cancel_scope.cancel()


async def test_a_host_is_looked_up_by_its_alias(sshd: Sshd) -> None:
    known = trio_ssh.HostKeys.from_text(f"database {sshd.host_keys.public('ed25519')}\n")
    assert await connects(sshd, known, host_key_alias="Database")
    with pytest.raises(trio_ssh.UnknownHostKeyException):
        await connects(sshd, known)


async def test_the_records_that_ssh_keygen_makes_are_those_that_we_compare(sshd: Sshd) -> None:
    async def resolve(host: str) -> trio_ssh.SSHFPAnswer:
        assert host == "127.0.0.1"
        made = [run("ssh-keygen", "-r", host, "-f", f"{sshd.host_keys.file(kind)}.pub") for kind in KINDS]
        records = [line.split("SSHFP")[1] for text in made for line in text.splitlines()]
        return trio_ssh.SSHFPAnswer(list(map(trio_ssh.SSHFPRecord.from_text, records)), is_validated=True)

    for kind, algorithm in (("ed25519", "ssh-ed25519"), ("rsa", "rsa-sha2-512"), ("ecdsa256", "ecdsa-sha2-nistp256")):
        records = (await resolve("127.0.0.1")).records
        assert set(trio_ssh.SSHFPRecord.of(sshd.host_keys.load(kind).public_key)) <= set(records)
        assert await connects(
            sshd, trio_ssh.HostKeys(), policy=trio_ssh.SSHFPPolicy(resolve), host_key_algorithms=[algorithm]
        )
