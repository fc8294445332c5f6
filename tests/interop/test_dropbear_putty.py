"""Dropbear, whose client and server are on every small device, and PuTTY, whose client is on every Windows machine."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import trio

import trio_ssh
from tests.interop.algorithms import SAMPLE
from tests.interop.peers import PATIENCE, Account, KeyFolder, Ssh, run
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


async def through_dropbear(key: Path, account: Account, password: str, **options: Any) -> Negotiated:
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
