"""Dropbear, whose client and server are on every small device, and PuTTY, whose client is on every Windows machine."""

from __future__ import annotations

import os
import pwd
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trio

import trio_ssh
from tests.interop.algorithms import SAMPLE
from tests.interop.peers import KINDS, PATIENCE, Account, KeyFolder, Ssh, run
from tests.interop.test_server_algorithms import Echoes
from trio_ssh.core.negotiation import DirectionChoice, Negotiated

pytestmark = pytest.mark.interop

DROPBEAR_KEX: Final = (
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group14-sha256",
)
DROPBEAR_PROTECTIONS: Final = (
    ("chacha20-poly1305@openssh.com", ""),
    ("aes128-ctr", "hmac-sha2-256"),
    ("aes256-ctr", "hmac-sha1"),
)
PUTTY_KEX: Final = (
    "curve25519-sha256",
    "curve448-sha512",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group-exchange-sha1",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group15-sha512",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group17-sha512",
    "diffie-hellman-group18-sha512",
    # Of group1 it asks its user first, who isn't there.
    "diffie-hellman-group14-sha1",
)
PUTTY_PROTECTIONS: Final = (
    ("aes128-gcm@openssh.com", ""),
    ("aes256-gcm@openssh.com", ""),
    ("chacha20-poly1305@openssh.com", ""),
    ("aes256-ctr", "hmac-sha2-256-etm@openssh.com"),
    ("aes192-ctr", "hmac-sha2-256"),
    ("aes128-cbc", "hmac-sha1"),
    ("aes192-cbc", "hmac-sha1-etm@openssh.com"),
    ("aes256-cbc", "hmac-sha2-256"),
    ("3des-cbc", "hmac-sha1-96"),
)


# -- our client, and Dropbear's server


@pytest.fixture(scope="session")
def dropbear_key(folder: Path) -> Path:
    """A host key in Dropbear's own format, and beside it the public one."""
    path = folder / "dropbear_ed25519"
    said = run("dropbearkey", "-t", "ed25519", "-f", path)
    [line] = [line for line in said.splitlines() if line.startswith("ssh-ed25519 ")]
    path.with_suffix(".pub").write_text(line + "\n")
    return path


def start_dropbear(key: Path, connection: socket.socket) -> subprocess.Popen[bytes]:
    command = ["/usr/sbin/dropbear", "-i", "-m", "-r", str(key)]
    return subprocess.Popen(command, stdin=connection, stdout=connection, stderr=subprocess.DEVNULL)


@asynccontextmanager
async def dropbear(key: Path) -> AsyncIterator[trio.SocketStream]:
    """A stream to a Dropbear that was started as inetd starts it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = await trio.open_tcp_stream("127.0.0.1", listener.getsockname()[1])
        theirs, _ = listener.accept()
    with theirs:
        process = start_dropbear(key, theirs)
    try:
        with trio.fail_after(4 * PATIENCE):
            yield ours
            await trio.aclose_forcefully(ours)
            await trio.to_thread.run_sync(process.wait)
    finally:
        process.kill()
        process.wait()


async def through_dropbear(key: Path, account: Account, password: str | None, **options: Any) -> Negotiated:
    known = trio_ssh.HostKeys.from_text(f"dropbear {key.with_suffix('.pub').read_text()}")
    async with (
        dropbear(key) as stream,
        trio_ssh.connect(
            "dropbear",
            username=account.name,
            password=password,
            known_hosts=known,
            sock=stream,
            look_for_keys=False,
            config=None,
            **options,
        ) as client,
    ):
        done = await client.run_process("cat", stdin=SAMPLE, capture_stdout=True)
        assert done.stdout == SAMPLE
        transport = client.get_transport()
        assert transport is not None
        negotiated = transport.get_negotiated()
        assert negotiated is not None
        return negotiated


async def test_dropbear_serves_us_as_we_are(dropbear_key: Path, account: Account, password: str) -> None:
    assert (await through_dropbear(dropbear_key, account, password)).kex == "curve25519-sha256"


@pytest.mark.parametrize("kex", DROPBEAR_KEX)
async def test_dropbear_serves_each_key_exchange(dropbear_key: Path, account: Account, password: str, kex: str) -> None:
    assert (await through_dropbear(dropbear_key, account, password, kex=[kex])).kex == kex


@pytest.mark.parametrize(("cipher", "mac"), DROPBEAR_PROTECTIONS)
async def test_dropbear_serves_each_cipher(
    dropbear_key: Path, account: Account, password: str, cipher: str, mac: str
) -> None:
    options: dict[str, Sequence[str]] = {"ciphers": [cipher]} | ({"macs": [mac]} if mac else {})
    negotiated = await through_dropbear(dropbear_key, account, password, **options)
    expected = DirectionChoice(cipher, mac, "none")
    assert (negotiated.client_to_server, negotiated.server_to_client) == (expected, expected)


@pytest.fixture
def lets_us_in(account: Account, as_root: None, user_keys: KeyFolder) -> Iterator[None]:
    """The account's own authorized_keys knows our keys: Dropbear looks nowhere else."""
    place = Path(pwd.getpwuid(account.uid).pw_dir, ".ssh")
    place.mkdir(exist_ok=True)
    path = place / "authorized_keys"
    path.write_text(user_keys.authorized_keys.read_text())
    for each, mode in ((place, 0o700), (path, 0o600)):
        os.chown(each, account.uid, -1)
        each.chmod(mode)
    yield
    path.unlink()


@pytest.mark.parametrize("kind", KINDS)
async def test_dropbear_takes_our_keys(
    dropbear_key: Path, account: Account, lets_us_in: None, user_keys: KeyFolder, kind: str
) -> None:
    await through_dropbear(dropbear_key, account, None, pkey=user_keys.load(kind))


# -- their clients, and our server


async def negotiated_by(ssh: Ssh, nursery: trio.Nursery, client: str, **options: Any) -> list[str]:
    """kex, host key algorithm, cipher, mac, compression, as our server tells them to this client."""
    await ssh.serve(nursery, Echoes, **({"security": "legacy"} | options))
    command = {
        "dbclient": ["dbclient", "-T", "-y", "-y", "-p", str(ssh.port), "alice@127.0.0.1", "echo"],
        "plink": [
            *("plink", "-ssh", "-batch", "-noagent", "-T", "-P", str(ssh.port)),
            *("-hostkey", ssh.host_keys.load("ed25519").fingerprint, "alice@127.0.0.1", "echo"),
        ],
    }[client]
    done = await ssh.run_command(command, stdin=SAMPLE)
    assert done.returncode == 0, done.stderr
    assert done.stdout == SAMPLE
    return done.stderr.decode().splitlines()[-1].split(" ")


@pytest.fixture
def one_key(host_keys: KeyFolder) -> dict[str, Any]:
    """PuTTY is told one fingerprint, and would ask for any kind of key that it likes better."""
    return {"host_keys": [host_keys.load("ed25519")]}


@pytest.mark.parametrize("client", ["dbclient", "plink"])
async def test_a_client_as_it_is_reaches_a_server_as_it_is(
    ssh: Ssh, nursery: trio.Nursery, one_key: dict[str, Any], client: str
) -> None:
    kex, host_key, *_ = await negotiated_by(ssh, nursery, client, security="modern", **one_key)
    assert (kex, host_key) == ("curve25519-sha256", "ssh-ed25519")


@pytest.mark.parametrize(
    ("client", "kex"), [*(("dbclient", kex) for kex in DROPBEAR_KEX), *(("plink", kex) for kex in PUTTY_KEX)]
)
async def test_each_key_exchange_of_theirs(
    ssh: Ssh, nursery: trio.Nursery, one_key: dict[str, Any], client: str, kex: str
) -> None:
    assert (await negotiated_by(ssh, nursery, client, kex=[kex], **one_key))[0] == kex


async def test_putty_agrees_in_a_group_of_the_moduli_file(
    ssh: Ssh, nursery: trio.Nursery, one_key: dict[str, Any]
) -> None:
    kex = "diffie-hellman-group-exchange-sha256"
    assert (await negotiated_by(ssh, nursery, "plink", kex=[kex], moduli="/etc/ssh/moduli", **one_key))[0] == kex


@pytest.mark.parametrize(
    ("client", "cipher", "mac"),
    [
        *(("dbclient", *protection) for protection in DROPBEAR_PROTECTIONS),
        *(("plink", *protection) for protection in PUTTY_PROTECTIONS),
    ],
)
async def test_each_cipher_of_theirs(
    ssh: Ssh, nursery: trio.Nursery, one_key: dict[str, Any], client: str, cipher: str, mac: str
) -> None:
    options: dict[str, Sequence[str]] = {"ciphers": [cipher]} | ({"macs": [mac]} if mac else {})
    assert (await negotiated_by(ssh, nursery, client, **options, **one_key))[2:4] == [cipher, mac]


class KnowsOne(trio_ssh.ServerInterface):
    """Lets in whoever has one key."""

    key: trio_ssh.PublicKey

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_SUCCESSFUL if key == self.key else trio_ssh.AUTH_FAILED

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        await process.stdout.write("in\n")
        return 0


@pytest.mark.parametrize("kind", ["ed25519", "ed448", "ecdsa", "rsa"])
async def test_putty_logs_in_with_its_keys(
    ssh: Ssh, nursery: trio.Nursery, one_key: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "key.ppk"
    run(
        *("puttygen", "-t", kind, "-o", path, "-q"),
        *("--new-passphrase", "/dev/null", "--random-device", "/dev/urandom"),
    )

    class Server(KnowsOne):
        key = trio_ssh.load_private_key_file(path).public_key

    await ssh.serve(nursery, Server, security="compatible" if kind == "ed448" else "modern", **one_key)
    done = await ssh.run_command(
        [
            *("plink", "-ssh", "-batch", "-noagent", "-T", "-P", str(ssh.port), "-i", str(path)),
            *("-hostkey", ssh.host_keys.load("ed25519").fingerprint, "alice@127.0.0.1", "x"),
        ]
    )
    assert (done.returncode, done.stdout) == (0, b"in\n"), done.stderr


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
async def test_dropbear_logs_in_with_its_keys(
    ssh: Ssh, nursery: trio.Nursery, one_key: dict[str, Any], tmp_path: Path, kind: str
) -> None:
    said = run("dropbearkey", "-t", kind, "-f", tmp_path / "key")
    [line] = [line for line in said.splitlines() if line.startswith(("ssh-", "ecdsa-"))]

    class Server(KnowsOne):
        key = trio_ssh.load_public_key(line)[0]

    await ssh.serve(nursery, Server, **one_key)
    command = ["dbclient", "-T", "-y", "-y", "-p", str(ssh.port), "-i", str(tmp_path / "key"), "alice@127.0.0.1", "x"]
    done = await ssh.run_command(command)
    assert (done.returncode, done.stdout) == (0, b"in\n"), done.stderr
