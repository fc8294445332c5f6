"""What the user's configuration makes of connections to real sshd."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import trio

import trio_ssh
from tests.interop.peers import KeyFolder, Sshd, make_key, run

pytestmark = pytest.mark.interop


@pytest.fixture
def path(sshd: Sshd, tmp_path: Path) -> Path:
    """A configuration that knows sshd as ``server``, and as ``bastion``."""
    key = tmp_path / "key"
    shutil.copy(sshd.user_keys.file("ed25519"), key)
    key.chmod(0o600)
    (tmp_path / "known_hosts").write_text(sshd.known_hosts.to_text())
    path = tmp_path / "config"
    path.write_text(
        f"""
        Host server bastion
            HostName 127.0.0.1
            Port {sshd.port}
            User {sshd.account.name}
            IdentityFile {key}
            IdentityAgent none
            UserKnownHostsFile {tmp_path}/known_hosts
            GlobalKnownHostsFile none
        """
    )
    return path


def prepend(path: Path, text: str) -> None:
    path.write_text(f"{text}\n{path.read_text()}")


def replace(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


async def says(host: str, config: Path) -> str:
    async with trio_ssh.connect(host, config=config) as client:
        done = await client.run_process("echo $SSH_CONNECTION; env", capture_stdout=True)
        return done.stdout.decode()


async def test_an_alias_is_enough(path: Path, sshd: Sshd) -> None:
    assert f" 127.0.0.1 {sshd.port}\n" in await says("server", path)


async def test_sshd_is_a_jump_host(path: Path, sshd: Sshd) -> None:
    prepend(path, "Host server\nProxyJump bastion")
    before = sshd.log.count("Accepted publickey")
    await says("server", path)
    assert sshd.log.count("Accepted publickey") - before == 2


async def test_and_behind_it_is_another(path: Path, sshd: Sshd) -> None:
    prepend(path, "Host server\nProxyJump bastion,bastion")
    before = sshd.log.count("Accepted publickey")
    await says("server", path)
    assert sshd.log.count("Accepted publickey") - before == 3


@pytest.mark.parametrize("own_sshd", [["AllowTcpForwarding no"]], indirect=True)
async def test_one_that_does_not_forward_is_named(path: Path, own_sshd: Sshd) -> None:
    prepend(
        path,
        f"Host closed\nPort {own_sshd.port}\nHostKeyAlias sshd\nHost server\nProxyJump {own_sshd.account.name}@closed",
    )
    replace(path, "Host server bastion", "Host server bastion closed")
    keys = own_sshd.known_hosts.to_text().replace(f"[127.0.0.1]:{own_sshd.port}", "sshd")
    prepend(path.parent / "known_hosts", keys)
    with pytest.raises(trio_ssh.ProxyJumpFailure, match=r"through \S+@closed: the peer refused the channel"):
        await says("server", path)


async def test_ssh_is_a_proxy_command(path: Path, sshd: Sshd) -> None:
    """The real client in the place of a jump host of ours, by the same configuration."""
    prepend(path, f"Host server\nProxyCommand ssh -F {path} -oBatchMode=yes -W %h:%p bastion")
    before = sshd.log.count("Accepted publickey")
    await says("server", path)
    assert sshd.log.count("Accepted publickey") - before == 2


async def test_ssh_reads_the_same_file_the_same_way(path: Path) -> None:
    prepend(path, "Host server\nProxyJump bastion\nSetEnv TEST_ONE=1")
    with trio.fail_after(60):
        done = await trio.run_process(["ssh", "-F", str(path), "-oBatchMode=yes", "server", "env"], capture_stdout=True)
    assert b"TEST_ONE=1\n" in done.stdout
    assert "TEST_ONE=1\n" in await says("server", path)


async def test_variables_are_sent_and_those_that_sshd_does_not_take_are_no_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_SENT", "from here")
    prepend(path, 'SendEnv TEST_S* NOT_TAKEN\nSetEnv TEST_SET="two words" NOT_TAKEN_EITHER=1')
    environment = (await says("server", path)).splitlines()
    assert {"TEST_SENT=from here", "TEST_SET=two words"} <= set(environment)
    assert not any("NOT_TAKEN" in line for line in environment)


async def test_algorithms_are_those_of_the_configuration(path: Path) -> None:
    prepend(
        path, "Ciphers made-up,aes256-ctr\nMACs -*-etm@*\nKexAlgorithms ^curve25519-sha256@libssh.org\nCompression yes"
    )
    async with trio_ssh.connect("server", config=path) as client:
        transport = client.get_transport()
        assert transport is not None
        negotiated = transport.get_negotiated()
        assert negotiated is not None
        choice = negotiated.client_to_server
        assert (choice.cipher, choice.compression) == ("aes256-ctr", "zlib@openssh.com")
        assert "etm" not in choice.mac
        assert negotiated.kex == "curve25519-sha256@libssh.org"


async def test_a_certificate_file_is_shown(
    own_sshd_with_authority: Sshd, path: Path, user_keys: KeyFolder, tmp_path: Path
) -> None:
    sshd = own_sshd_with_authority
    key = make_key(tmp_path / "certified", "ecdsa256")
    run("ssh-keygen", "-q", "-s", user_keys.file("ed25519"), "-I", "me", "-n", sshd.account.name, f"{key}.pub")
    replace(path, "Port ", f"Port {sshd.port} # ")
    replace(path, str(tmp_path / "key"), f"{key}\nCertificateFile {key}-cert.pub")
    (tmp_path / "known_hosts").write_text(sshd.known_hosts.to_text())
    await says("server", path)
    assert "ID me (serial 0) CA ED25519" in sshd.log


@pytest.fixture
def own_sshd_with_authority(folder: Path, account: object, host_keys: KeyFolder, user_keys: KeyFolder) -> object:
    options = [f"TrustedUserCAKeys {user_keys.file('ed25519')}.pub", "AuthorizedKeysFile none"]
    with Sshd(folder, account, host_keys, user_keys, options) as server:  # type: ignore[arg-type]
        yield server


async def test_accept_new_saves_what_the_next_one_trusts(path: Path, sshd: Sshd) -> None:
    known = path.parent / "known_hosts"
    known.unlink()
    with pytest.raises(trio_ssh.UnknownHostKeyException):
        await says("server", path)
    prepend(path, "StrictHostKeyChecking accept-new\nHashKnownHosts yes")
    await says("server", path)
    assert known.read_text().startswith("|1|")
    assert run("ssh-keygen", "-F", f"[127.0.0.1]:{sshd.port}", "-f", known)
    prepend(path, "StrictHostKeyChecking yes")
    await says("server", path)


async def test_a_revoked_host_is_refused(path: Path, sshd: Sshd, tmp_path: Path) -> None:
    keys = tmp_path / "revoked"
    run("ssh-keygen", "-q", "-k", "-f", keys, *(f"{sshd.host_keys.file(kind)}.pub" for kind in ("ed25519", "rsa")))
    prepend(path, f"RevokedHostKeys {keys}")
    with pytest.raises(trio_ssh.BadHostKeyException, match="REVOKED"):
        await says("server", path)
    keys.unlink()
    with pytest.raises(trio_ssh.ConfigParseError, match=r"RevokedHostKeys .*:1\): .* can't be read"):
        await says("server", path)
