"""Every way to log in, crossed with real peers: OpenSSH first, asyncssh where OpenSSH has no such thing."""

from __future__ import annotations

import asyncio
import functools
import os
import pwd
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import asyncssh
import attrs
import pytest
import trio

import trio_ssh
from tests.interop.peers import Account, KeyFolder, LetsAnyoneIn, Ssh, Sshd, make_key, run
from tests.interop.test_other_libraries import asyncssh_server, known
from trio_ssh.errors import AuthOutcome

pytestmark = pytest.mark.interop

NEW = "correct horse"


async def says(client: trio_ssh.SSHClient, command: str) -> bytes:
    done = await client.run_process(command, capture_stdout=True, check=False)
    assert done.stdout is not None
    return done.stdout


class Asks(LetsAnyoneIn):
    """Lets nobody in without proof."""

    def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_FAILED


# -- signatures that are bound to the host key


@pytest.mark.parametrize("own_sshd", [("LogLevel DEBUG2",)], indirect=True, ids=["debug"])
@pytest.mark.parametrize("kind", ["ed25519", "ecdsa256", "rsa"])
async def test_our_signatures_are_bound_to_sshd_s_key(own_sshd: Sshd, user_keys: KeyFolder, kind: str) -> None:
    async with own_sshd.connect(pkey=user_keys.load(kind)) as client:
        assert await says(client, "echo in") == b"in\n"
    assert "method publickey-hostbound-v00@openssh.com" in own_sshd.log


class Remembers(Asks):
    """Lets in whom the file lets in."""

    path: Path
    authorities: Sequence[trio_ssh.PublicKey] = ()
    revoked: trio_ssh.KeyRevocationList | None = None

    async def get_authorized_keys(self, username: str) -> trio_ssh.AuthorizedKeys:
        load = functools.partial(
            trio_ssh.AuthorizedKeys.load,
            self.path,
            check_permissions=False,
            authorities=self.authorities,
            revoked=self.revoked,
        )
        return await trio.to_thread.run_sync(load)


def remembering(path: Path, **attributes: Any) -> type[Remembers]:
    return type("Server", (Remembers,), {"path": path, **attributes})


async def test_ssh_binds_its_signatures_to_our_key(ssh: Ssh, nursery: trio.Nursery, user_keys: KeyFolder) -> None:
    await ssh.serve(nursery, remembering(user_keys.authorized_keys))
    done = await ssh.run("-vvv", "-i", str(user_keys.file("ed25519")), "server", "echo in")
    assert (done.stdout, done.returncode) == (b"in\n", 0)
    assert b"sign_and_send_pubkey: using publickey-hostbound-v00@openssh.com" in done.stderr


# -- certificates


@pytest.fixture
def certificate_file(tmp_path: Path) -> Path:
    """A key, and beside it its certificate by the authority ``tmp_path/authority``."""
    make_key(tmp_path / "authority", "ed25519")
    make_key(tmp_path / "id", "ecdsa256")
    return tmp_path / "id"


def certify(authority: Path, key: Path, user: str, *options: str) -> trio_ssh.Certificate:
    arguments = ["ssh-keygen", "-q", "-s", authority, "-I", "test", "-n", user, "-z", "7", "-V", "+1h", *options]
    run(*map(str, arguments), f"{key}.pub")
    return trio_ssh.Certificate.from_path(f"{key}-cert.pub")


async def test_a_certificate_beside_a_key_file_logs_in_to_sshd(
    folder: Path, account: Account, host_keys: KeyFolder, user_keys: KeyFolder, certificate_file: Path
) -> None:
    shutil.copy(certificate_file.with_name("authority.pub"), folder / "authority_of_one.pub")
    certify(certificate_file.with_name("authority"), certificate_file, account.name)
    options = (f"TrustedUserCAKeys {folder / 'authority_of_one.pub'}", "AuthorizedKeysFile none")
    with Sshd(folder, account, host_keys, user_keys, options) as server:
        async with server.connect(pkey=None, key_filename=certificate_file, allow_agent=False) as client:
            assert await says(client, "echo in") == b"in\n"
        certificate_file.with_name("id-cert.pub").unlink()
        with pytest.raises(trio_ssh.AuthenticationException):
            async with server.connect(pkey=None, key_filename=certificate_file, allow_agent=False):
                pass


async def test_ssh_logs_in_with_a_certificate(
    ssh: Ssh, nursery: trio.Nursery, certificate_file: Path, tmp_path: Path
) -> None:
    authority = trio_ssh.load_public_key_file(f"{tmp_path / 'authority'}.pub")[0]
    (tmp_path / "none").touch()
    revoked = trio_ssh.KeyRevocationList()
    server = remembering(tmp_path / "none", authorities=[authority], revoked=revoked)
    await ssh.serve(nursery, server)
    call = functools.partial(ssh.run, "-i", str(certificate_file), "server")

    certify(tmp_path / "authority", certificate_file, "alice")
    done = await call("echo in")
    assert (done.stdout, done.returncode) == (b"in\n", 0)

    certify(tmp_path / "authority", certificate_file, "alice", "-O", "force-command=echo $SSH_ORIGINAL_COMMAND, forced")
    assert (await call("echo in")).stdout == b"echo in, forced\n"

    certify(tmp_path / "authority", certificate_file, "alice", "-O", "source-address=10.0.0.0/8")
    assert (await call("echo in")).returncode == 255

    certify(tmp_path / "authority", certificate_file, "bob")
    assert (await call("echo in")).returncode == 255

    certificate = certify(tmp_path / "authority", certificate_file, "alice")
    assert (await call("echo in")).returncode == 0
    revoked.revoke(certificate)
    assert (await call("echo in")).returncode == 255


async def test_a_certificate_of_an_rsa_key_signs_as_the_server_announces(
    user_keys: KeyFolder, host_keys: KeyFolder
) -> None:
    """What servers announce is what signs, and not what is shown."""
    authority = trio_ssh.Ed25519Key.generate()
    key = user_keys.load("rsa")
    certificate = trio_ssh.Certificate.issue_for_user(
        authority, key.public_key, key_id="x", principals=["alice"], valid_before=time.time() + 60
    )
    trusted = asyncssh.import_authorized_keys(f"cert-authority {authority.public_key.to_openssh()}\n")
    with asyncssh_server(
        asyncssh.SSHServer, host_keys, authorized_client_keys=trusted, signature_algs=["ssh-ed25519", "rsa-sha2-256"]
    ) as port:
        certified = trio_ssh.CertifiedKey(key, certificate)
        async with trio_ssh.connect(
            "127.0.0.1", port, "alice", pkey=certified, known_hosts=known(port, host_keys)
        ) as client:
            done = await client.run_process("echo", stdin=b"in", capture_stdout=True, check=False)
            assert done.stdout == b"in"


# -- several methods, and too many keys


@pytest.mark.parametrize("own_sshd", [("AuthenticationMethods publickey,password",)], indirect=True, ids=["both"])
async def test_sshd_wants_a_key_and_a_password(own_sshd: Sshd, password: str) -> None:
    async with own_sshd.connect(password=password) as client:
        assert await says(client, "echo in") == b"in\n"
    asked: list[str] = []

    async def ask() -> str:
        await trio.lowlevel.checkpoint()
        asked.append("asked")
        return password

    async with own_sshd.connect(password=ask) as client:
        assert await says(client, "echo in") == b"in\n"
    assert asked == ["asked"]
    with pytest.raises(trio_ssh.AuthenticationException, match=r"what it accepted is not enough.*password") as raised:
        async with own_sshd.connect():
            pass
    assert raised.value.attempts[0].outcome is AuthOutcome.PARTIAL
    assert raised.value.allowed == ("password",)


class WantsBoth(Remembers):
    """A key, and a password besides."""

    async def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        decision = await super().check_auth_publickey(username, key)  # type: ignore[misc]
        is_listed = decision is trio_ssh.AUTH_SUCCESSFUL
        return trio_ssh.AUTH_PARTIALLY_SUCCESSFUL if is_listed else trio_ssh.AUTH_FAILED

    def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        is_in = password == "open sesame" and "publickey" in self.completed_auths
        return trio_ssh.AUTH_SUCCESSFUL if is_in else trio_ssh.AUTH_FAILED


async def test_ssh_gives_a_key_and_a_password_and_the_key_s_line_is_obeyed(
    ssh: Ssh, nursery: trio.Nursery, user_keys: KeyFolder, tmp_path: Path
) -> None:
    (tmp_path / "lines").write_text(f'command="echo forced" {user_keys.public("ed25519")}\n')
    ssh = attrs.evolve(ssh, options=("BatchMode=no", "PreferredAuthentications=publickey,password"))
    await ssh.serve(nursery, type("Server", (WantsBoth,), {"path": tmp_path / "lines"}))
    key = str(user_keys.file("ed25519"))
    done = await ssh.run("-i", key, "server", "echo in", askpass="echo 'open sesame'")
    assert (done.stdout, done.returncode) == (b"forced\n", 0)
    done = await ssh.run("server", "echo in", askpass="echo 'open sesame'")
    assert done.returncode == 255


@pytest.mark.parametrize("own_sshd", [("MaxAuthTries 3",)], indirect=True, ids=["impatient"])
async def test_sshd_s_patience_with_keys_has_an_end_that_is_explained(own_sshd: Sshd) -> None:
    keys = [*(trio_ssh.Ed25519Key.generate() for _ in range(6)), own_sshd.user_keys.load("ed25519")]
    with pytest.raises(trio_ssh.AuthenticationException, match="IdentitiesOnly yes") as raised:
        async with own_sshd.connect(pkey=keys):
            pass
    assert "3 keys were offered" in str(raised.value)
    assert raised.value.attempts[-1].outcome is AuthOutcome.LOST


# -- passwords that have expired


class Expires(Asks):
    """Wants another password in the place of ``old``, and not the same again."""

    passwords: dict[str, str]

    def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        if password != self.passwords[username]:
            return trio_ssh.AUTH_FAILED
        return trio_ssh.AUTH_PASSWORD_EXPIRED if password == "old" else trio_ssh.AUTH_SUCCESSFUL

    def check_auth_password_change(self, username: str, password: str, new_password: str) -> trio_ssh.AuthResult:
        if password != self.passwords[username]:
            return trio_ssh.AUTH_FAILED
        if new_password == "old":
            return trio_ssh.AUTH_PASSWORD_EXPIRED
        self.passwords[username] = new_password
        return trio_ssh.AUTH_SUCCESSFUL


async def test_ssh_changes_its_password(ssh: Ssh, nursery: trio.Nursery) -> None:
    passwords = {"alice": "old"}
    ssh = attrs.evolve(ssh, options=("BatchMode=no", "PreferredAuthentications=password"))
    await ssh.serve(nursery, type("Server", (Expires,), {"passwords": passwords}))
    # It asks for the password, then for the old one, and twice for the new one.
    askpass = f'case "$1" in *[Nn]ew*) echo "{NEW}";; *) echo old;; esac'
    done = await ssh.run("server", "echo in", askpass=askpass)
    assert (done.stdout, done.returncode) == (b"in\n", 0)
    assert b"Your password has expired" in done.stderr
    assert passwords == {"alice": NEW}


async def test_asyncssh_changes_its_password(ssh: Ssh, nursery: trio.Nursery) -> None:
    passwords = {"alice": "old"}
    await ssh.serve(nursery, type("Server", (Expires,), {"passwords": passwords}))

    class Client(asyncssh.SSHClient):
        def password_change_requested(self, prompt: str, lang: str) -> tuple[str, str]:
            return "old", NEW

    async def call() -> str:
        connection, _ = await asyncssh.create_connection(
            Client,
            "127.0.0.1",
            ssh.port,
            known_hosts=str(ssh.known_hosts),
            username="alice",
            password="old",
            client_keys=None,
            config=None,
        )
        async with connection:
            done = await connection.run("echo in")
        return str(done.stdout)

    assert await trio.to_thread.run_sync(asyncio.run, call()) == "in\n"
    assert passwords == {"alice": NEW}


class ExpiresAtAsyncssh(asyncssh.SSHServer):
    """The same, of asyncssh's."""

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        raise asyncssh.PasswordChangeRequired("choose\x1b[2J another")

    def change_password(self, username: str, old_password: str, new_password: str) -> bool:
        return (old_password, new_password) == ("old", NEW)


async def test_we_change_a_password_at_asyncssh(host_keys: KeyFolder) -> None:
    prompts: list[str] = []

    async def choose(prompt: str) -> str:
        await trio.lowlevel.checkpoint()
        prompts.append(prompt)
        return NEW

    with asyncssh_server(ExpiresAtAsyncssh, host_keys) as port:
        arguments: dict[str, Any] = {"password": "old", "known_hosts": known(port, host_keys), "look_for_keys": False}
        async with trio_ssh.connect("127.0.0.1", port, "alice", new_password=choose, **arguments) as client:
            assert client.get_transport() is not None
        with pytest.raises(trio_ssh.AuthenticationException, match="the password has expired"):
            async with trio_ssh.connect("127.0.0.1", port, "alice", **arguments):
                pass
    assert prompts == [r"choose\x1b[2J another"]


# -- hosts that vouch for their users

CLIENT_HOST = "client.example.com"


@pytest.fixture
def vouching(folder: Path, account: Account, password: str, user_keys: KeyFolder) -> None:
    """Have sshd's user take the word of a host whose key is one of the user keys."""
    home = Path(pwd.getpwnam(account.name).pw_dir)
    files = {
        home / ".shosts": f"{CLIENT_HOST} robert\n",
        home / ".ssh" / "known_hosts": f"{CLIENT_HOST} {user_keys.public('ed25519')}\n",
    }
    (home / ".ssh").mkdir(mode=0o700, exist_ok=True)
    for path, content in files.items():
        path.write_text(content)
        path.chmod(0o600)
        os.chown(path, account.uid, -1)
    os.chown(home / ".ssh", account.uid, -1)


HOSTBASED = (
    "HostbasedAuthentication yes",
    "HostbasedUsesNameFromPacketOnly yes",
    "IgnoreRhosts no",
    "IgnoreUserKnownHosts no",
    "PubkeyAuthentication no",
    "PasswordAuthentication no",
)


@pytest.mark.usefixtures("vouching")
@pytest.mark.parametrize("own_sshd", [HOSTBASED], indirect=True, ids=["hostbased"])
async def test_sshd_takes_our_host_s_word(own_sshd: Sshd, user_keys: KeyFolder) -> None:
    connect = functools.partial(own_sshd.connect, pkey=None, look_for_keys=False, allow_agent=False)
    right = {"client_host": CLIENT_HOST, "client_username": "robert", "client_host_keys": user_keys.load("ed25519")}
    async with connect(**right) as client:
        assert await says(client, "echo in") == b"in\n"
    wrongs: list[dict[str, Any]] = [
        {"client_host": "other.example.com"},
        {"client_username": "mallory"},
        {"client_host_keys": user_keys.load("ecdsa256")},
    ]
    for wrong in wrongs:
        with pytest.raises(trio_ssh.AuthenticationException) as raised:
            async with connect(**(right | wrong)):
                pass
        assert raised.value.attempts[0].method == "hostbased"


class TakesItsWord(Asks):
    """Believes one host about its users."""

    key: trio_ssh.PublicKey
    told: list[tuple[str, str, str]]

    def check_auth_hostbased(
        self, username: str, key: trio_ssh.PublicKey, client_host: str, client_username: str
    ) -> trio_ssh.AuthResult:
        self.told.append((username, client_host, client_username))
        return trio_ssh.AUTH_SUCCESSFUL if key == self.key else trio_ssh.AUTH_FAILED


async def test_we_take_the_word_of_ssh_s_host(
    ssh: Ssh, nursery: trio.Nursery, user_keys: KeyFolder, as_root: None
) -> None:
    """Through ssh-keysign, in a file system where this machine's ssh_config is another."""
    told: list[tuple[str, str, str]] = []
    key = user_keys.load("ed25519").public_key
    ssh = attrs.evolve(ssh, options=("HostbasedAuthentication=yes", "PreferredAuthentications=hostbased"))
    await ssh.serve(nursery, type("Server", (TakesItsWord,), {"key": key, "told": told}))
    system = ssh.folder / "etc"
    system.mkdir()
    (system / "ssh_config").write_text("EnableSSHKeysign yes\nHostbasedAuthentication yes\n")
    for suffix in ("", ".pub"):
        shutil.copy(f"{user_keys.file('ed25519')}{suffix}", system / f"ssh_host_ed25519_key{suffix}")
    script = f'mount --bind {system} /etc/ssh && exec "$@"'
    done = await ssh.run_command(["unshare", "-m", "sh", "-c", script, "sh", *ssh.command("server", "echo in")])
    assert (done.stdout, done.returncode) == (b"in\n", 0), done.stderr
    [(username, client_host, client_username)] = told
    assert (username, client_username) == ("alice", "root")
    assert client_host
    assert not client_host.endswith(".")


async def test_we_take_the_word_of_asyncssh_s_host(ssh: Ssh, nursery: trio.Nursery, user_keys: KeyFolder) -> None:
    told: list[tuple[str, str, str]] = []
    key = user_keys.load("ed25519").public_key
    await ssh.serve(nursery, type("Server", (TakesItsWord,), {"key": key, "told": told}))

    async def call(kind: str) -> str:
        async with asyncssh.connect(
            "127.0.0.1",
            ssh.port,
            known_hosts=str(ssh.known_hosts),
            username="alice",
            client_keys=None,
            client_host_keysign=False,
            client_host_keys=[str(user_keys.file(kind))],
            client_host=CLIENT_HOST,
            client_username="robert",
            config=None,
        ) as connection:
            done = await connection.run("echo in")
        return str(done.stdout)

    assert await trio.to_thread.run_sync(asyncio.run, call("ed25519")) == "in\n"
    with pytest.raises(asyncssh.PermissionDenied):
        await trio.to_thread.run_sync(asyncio.run, call("ecdsa256"))
    assert told == [("alice", CLIENT_HOST, "robert")] * 2


# -- secrets that are asked for


async def test_the_passphrase_is_asked_for_when_sshd_wants_the_key(sshd: Sshd, tmp_path: Path) -> None:
    locked = tmp_path / "id"
    key = sshd.user_keys.load("ed25519")
    key.write_private_key_file(locked, "geheim")
    (tmp_path / "id.pub").write_text(key.public_key.to_openssh() + "\n")
    stranger = make_key(tmp_path / "stranger", "ed25519", passphrase="anders")
    asked: list[str] = []

    async def ask() -> str:
        await trio.lowlevel.checkpoint()
        asked.append("asked")
        return "geheim"

    async with sshd.connect(pkey=None, key_filename=[stranger, locked], passphrase=ask, allow_agent=False) as client:
        assert await says(client, "echo in") == b"in\n"
    assert asked == ["asked"], "once, and not for the key that sshd doesn't want"
