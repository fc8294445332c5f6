"""Kerberos: a realm of our own, real ssh and sshd as peers.

Debian's OpenSSH exchanges keys by it, others may not: that part is left out then.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import trio_ssh
from tests.interop.peers import PATIENCE, Account, KeyFolder, LetsAnyoneIn, Ssh, Sshd, free_port
from trio_ssh.errors import AuthOutcome
from trio_ssh.runtime.gss import GssIdentity

pytestmark = pytest.mark.interop

pytest.importorskip("gssapi", reason="an extra: pip install 'trio_ssh[gssapi]'")

REALM = "TRIO-SSH.EXAMPLE"


@attrs.frozen
class Realm:
    """A key distribution centre, and the folder of its files."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        return {
            "KRB5_CONFIG": str(self.folder / "krb5.conf"),
            "KRB5_KDC_PROFILE": str(self.folder / "kdc.conf"),
            "KRB5_KTNAME": f"FILE:{self.folder / 'keytab'}",
            "KRB5CCNAME": f"FILE:{self.folder / 'tickets'}",
            "KRB5RCACHETYPE": "none",
        }

    def run(self, *command: str, stdin: str = "") -> None:
        environment = os.environ | self.environment | {"PATH": f"/usr/sbin:/sbin:{os.environ['PATH']}"}
        done = subprocess.run(command, input=stdin, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def write(self, port: int) -> None:
        (self.folder / "krb5.conf").write_text(
            f"[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n"
            f" dns_canonicalize_hostname = false\n rdns = false\n forwardable = true\n"
            f"[realms]\n {REALM} = {{\n  kdc = 127.0.0.1:{port}\n }}\n"
            f"[domain_realm]\n localhost = {REALM}\n other.example = {REALM}\n"
        )
        (self.folder / "kdc.conf").write_text(
            f"[kdcdefaults]\n kdc_listen = 127.0.0.1:{port}\n kdc_tcp_listen = 127.0.0.1:{port}\n"
            f"[realms]\n {REALM} = {{\n  database_name = {self.folder / 'principal'}\n"
            f"  key_stash_file = {self.folder / 'stash'}\n  acl_file = {self.folder / 'acl'}\n }}\n"
            f"[logging]\n kdc = FILE:{self.folder / 'kdc.log'}\n"
        )

    def create(self, user: str) -> None:
        """Make the database, a host, and a user who has logged in to the realm."""
        self.run("kdb5_util", "create", "-s", "-r", REALM, "-P", "master")
        for query in (
            f"addprinc -pw secret {user}",
            "addprinc -randkey host/localhost",
            f"ktadd -k {self.folder / 'keytab'} host/localhost",
        ):
            self.run("kadmin.local", "-r", REALM, "-q", query)

    def log_in(self, user: str) -> None:
        self.run("kinit", user, stdin="secret\n")

    def log_out(self) -> None:
        self.run("kdestroy")


@pytest.fixture(scope="module")
def realm(folder: Path, account: Account) -> Iterator[Realm]:
    if shutil.which("krb5kdc", path=f"/usr/sbin:/sbin:{os.environ['PATH']}") is None:
        pytest.skip("a realm needs a key distribution centre: Debian's packages krb5-kdc and krb5-admin-server")
    realm = Realm(folder / "realm")
    realm.folder.mkdir(0o755)
    realm.write(free_port())
    realm.create(account.name)
    environment = os.environ | realm.environment | {"PATH": f"/usr/sbin:/sbin:{os.environ['PATH']}"}
    kdc = subprocess.Popen(["krb5kdc", "-n"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        assert kdc.stdout is not None
        assert b"starting" in kdc.stdout.readline()
        with pytest.MonkeyPatch.context() as patch:
            for name, value in realm.environment.items():
                if name != "KRB5CCNAME":  # sshd would keep its users' tickets there
                    patch.setenv(name, value)
            yield realm
    finally:
        kdc.terminate()
        kdc.communicate()


@pytest.fixture(autouse=True)
def own_tickets(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5CCNAME", realm.environment["KRB5CCNAME"])


@pytest.fixture
def tickets(realm: Realm, account: Account) -> Realm:
    realm.log_in(account.name)
    return realm


@pytest.fixture(scope="module")
def kerberized(
    folder: Path, realm: Realm, account: Account, host_keys: KeyFolder, user_keys: KeyFolder
) -> Iterator[Sshd]:
    options = ("GSSAPIAuthentication yes", "GSSAPIStrictAcceptorCheck no", "PubkeyAuthentication no")
    with Sshd(folder, account, host_keys, user_keys, options) as server:
        yield server


def connect(sshd: Sshd, **options: Any) -> trio_ssh.connect:
    arguments: dict[str, Any] = {"pkey": None, "look_for_keys": False, "allow_agent": False}
    return sshd.connect(**(arguments | {"gss_auth": True, "gss_host": "localhost", "config": None} | options))


async def test_a_ticket_logs_in_to_sshd(kerberized: Sshd, tickets: Realm) -> None:
    async with connect(kerberized) as client:
        done = await client.run_process("id -un", capture_stdout=True)
        assert done.stdout == f"{kerberized.account.name}\n".encode()
    assert "Authorized to" in kerberized.log


async def test_credentials_are_delegated_only_when_asked(kerberized: Sshd, tickets: Realm) -> None:
    for delegates in (False, True):
        async with connect(kerberized, gss_deleg_creds=delegates) as client:
            done = await client.run_process('test -n "$KRB5CCNAME"', check=False)
            assert (done.returncode == 0) is delegates


async def test_without_a_ticket_the_server_is_not_troubled(kerberized: Sshd, realm: Realm) -> None:
    with contextlib.suppress(AssertionError):
        realm.log_out()
    with pytest.raises(trio_ssh.AuthenticationException) as raised:
        async with connect(kerberized):
            pass
    assert raised.value.attempts[0].method == "gssapi-with-mic"
    assert raised.value.attempts[0].outcome is AuthOutcome.GIVEN_UP
    assert raised.value.attempts[0].remark


async def test_a_host_that_the_realm_does_not_know_is_told_of(kerberized: Sshd, tickets: Realm) -> None:
    with pytest.raises(trio_ssh.AuthenticationException, match="not found in Kerberos database"):
        async with connect(kerberized, gss_host="other.example"):
            pass


async def test_another_user_s_ticket_is_refused_by_sshd(kerberized: Sshd, tickets: Realm) -> None:
    with pytest.raises(trio_ssh.AuthenticationException) as raised:
        async with connect(kerberized, username="root"):
            pass
    assert raised.value.attempts[0].outcome is AuthOutcome.REFUSED


class Kerberized(LetsAnyoneIn):
    """Lets in whom the realm knows, as themselves."""

    identities: list[GssIdentity]

    def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_FAILED

    def enable_auth_gssapi(self) -> bool:
        return True

    async def check_auth_gssapi_with_mic(self, username: str, identity: GssIdentity) -> trio_ssh.AuthResult:
        await trio.lowlevel.checkpoint()
        self.identities.append(identity)
        is_self = identity.principal == f"{username}@{REALM}"
        return trio_ssh.AUTH_SUCCESSFUL if is_self else trio_ssh.AUTH_FAILED


def kerberized_by_us(identities: list[GssIdentity]) -> type[Kerberized]:
    return type("Server", (Kerberized,), {"identities": identities})


async def test_ssh_logs_in_by_its_ticket(ssh: Ssh, tickets: Realm, account: Account, nursery: trio.Nursery) -> None:
    identities: list[GssIdentity] = []
    options = (
        f"User={account.name}",
        "GSSAPIAuthentication=yes",
        "GSSAPIServerIdentity=localhost",
        "PreferredAuthentications=gssapi-with-mic",
    )
    ssh = attrs.evolve(ssh, options=options)
    await ssh.serve(nursery, kerberized_by_us(identities))
    done = await ssh.run("server", "echo in", env=tickets.environment)
    assert (done.stdout, done.returncode) == (b"in\n", 0), done.stderr.decode()
    assert [identity.principal for identity in identities] == [f"{account.name}@{REALM}"]
    assert identities[0].credentials is None
    done = await ssh.run("-oGSSAPIDelegateCredentials=yes", "server", "echo in", env=tickets.environment)
    assert done.returncode == 0
    assert identities[1].credentials is not None
    done = await attrs.evolve(ssh, options=("User=root", *options[1:])).run(
        "server", "echo in", env=tickets.environment
    )
    assert done.returncode == 255
    assert b"Permission denied" in done.stderr


async def test_we_log_in_to_ourselves(tickets: Realm, account: Account, ssh: Ssh, nursery: trio.Nursery) -> None:
    identities: list[GssIdentity] = []
    await ssh.serve(nursery, kerberized_by_us(identities))
    with trio.fail_after(PATIENCE):
        async with trio_ssh.connect(
            "127.0.0.1",
            ssh.port,
            account.name,
            known_hosts=ssh.known_hosts,
            look_for_keys=False,
            gss_auth=True,
            gss_host="localhost",
            config=None,
        ) as client:
            done = await client.run_process("echo in", capture_stdout=True)
            assert done.stdout == b"in\n"
    assert repr(identities[0]) == f"GssIdentity(principal='{account.name}@{REALM}')"


async def test_a_server_that_was_not_asked_to_knows_nothing_of_it(
    tickets: Realm, account: Account, ssh: Ssh, nursery: trio.Nursery
) -> None:
    class Refuses(LetsAnyoneIn):
        def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
            return trio_ssh.AUTH_FAILED

    await ssh.serve(nursery, Refuses)
    with pytest.raises(trio_ssh.AuthenticationException) as raised:
        async with trio_ssh.connect(
            "127.0.0.1",
            ssh.port,
            account.name,
            known_hosts=ssh.known_hosts,
            look_for_keys=False,
            gss_auth=True,
            gss_host="localhost",
            config=None,
        ):
            pass
    assert raised.value.attempts[0].outcome is AuthOutcome.REFUSED


# -- key exchange

#: Each method's prefix, and the ordinary one that has its share and its hash.
TWINS = {
    "gss-curve25519-sha256-": "curve25519-sha256",
    "gss-nistp256-sha256-": "ecdh-sha2-nistp256",
    "gss-group14-sha256-": "diffie-hellman-group14-sha256",
    "gss-group16-sha512-": "diffie-hellman-group16-sha512",
}
#: Nobody is known by a key.
NOBODY = trio_ssh.HostKeys()


@functools.cache
def ssh_exchanges_keys() -> bool:
    """Debian's ssh does, Fedora's too, others don't."""
    done = subprocess.run(["ssh", "-Q", "kex-gss"], capture_output=True, text=True, check=False)
    return set(TWINS) <= set(done.stdout.split())


exchanging = pytest.mark.skipif(
    not ssh_exchanges_keys(), reason="this OpenSSH is without the patch for key exchange by GSS-API"
)


@pytest.fixture(scope="module")
def exchanger(
    folder: Path, realm: Realm, account: Account, host_keys: KeyFolder, user_keys: KeyFolder
) -> Iterator[Sshd]:
    options = (
        "GSSAPIAuthentication yes",
        "GSSAPIKeyExchange yes",
        "GSSAPIStrictAcceptorCheck no",
        "RekeyLimit 400K",
    )
    with Sshd(folder, account, host_keys, user_keys, options) as server:
        yield server


@exchanging
@pytest.mark.parametrize("method", TWINS)
async def test_sshd_is_who_the_realm_says_by_each_method(exchanger: Sshd, tickets: Realm, method: str) -> None:
    options = {"gss_auth": False, "gss_kex": True, "known_hosts": NOBODY, "kex": [TWINS[method]]}
    async with connect(exchanger, **options) as client:
        transport = client.get_transport()
        assert transport is not None
        assert transport.gss_kex_used
        done = await client.run_process("id -un", capture_stdout=True)
        assert done.stdout == f"{exchanger.account.name}\n".encode()
        for _ in range(2):
            await transport.renegotiate_keys()
            assert client.explain().choices[0].name.startswith(method)
            done = await client.run_process("echo again", capture_stdout=True)
            assert done.stdout == b"again\n"
    assert "Accepted gssapi-keyex for" in exchanger.log


@exchanging
async def test_sshd_changes_keys_in_the_midst_of_data(exchanger: Sshd, tickets: Realm) -> None:
    async with connect(exchanger, gss_auth=False, gss_kex=True, known_hosts=NOBODY) as client:
        transport = client.get_transport()
        assert transport is not None
        before = transport._engine.exchanges
        done = await client.run_process("cat", stdin=bytes(2_000_000), capture_stdout=True)
        assert done.stdout == bytes(2_000_000)
        assert transport._engine.exchanges > before + 2


@exchanging
async def test_credentials_are_delegated_in_a_key_exchange_only_when_asked(exchanger: Sshd, tickets: Realm) -> None:
    for delegates in (False, True):
        options = {"gss_auth": False, "gss_kex": True, "gss_deleg_creds": delegates, "known_hosts": NOBODY}
        async with connect(exchanger, **options) as client:
            done = await client.run_process('test -n "$KRB5CCNAME"', check=False)
            assert (done.returncode == 0) is delegates


@exchanging
async def test_a_key_logs_in_to_sshd_behind_such_an_exchange(
    exchanger: Sshd, tickets: Realm, user_keys: KeyFolder
) -> None:
    options = {"gss_auth": False, "gss_kex": True, "known_hosts": NOBODY, "pkey": user_keys.load("ed25519")}
    config = await trio_ssh.SSHConfig.from_text("PreferredAuthentications publickey\n")
    async with connect(exchanger, **(options | {"config": config})) as client:
        transport = client.get_transport()
        assert transport is not None
        assert transport.gss_kex_used


@exchanging
async def test_without_a_ticket_the_record_decides_about_sshd(
    exchanger: Sshd, realm: Realm, user_keys: KeyFolder
) -> None:
    with contextlib.suppress(AssertionError):
        realm.log_out()
    options = {"gss_kex": True, "pkey": user_keys.load("ed25519")}
    async with connect(exchanger, **options) as client:
        transport = client.get_transport()
        assert transport is not None
        assert not transport.gss_kex_used
        assert "gss" not in client.explain().choices[0].name
    with pytest.raises(trio_ssh.UnknownHostKeyException):
        async with connect(exchanger, known_hosts=NOBODY, **options):
            pass


async def test_a_host_that_the_realm_does_not_know_is_looked_up_on_record(kerberized: Sshd, tickets: Realm) -> None:
    with pytest.raises(trio_ssh.UnknownHostKeyException):
        async with connect(kerberized, gss_kex=True, gss_host="other.example", known_hosts=NOBODY):
            pass


def exchanging_ssh(ssh: Ssh, account: Account, method: str, *options: str) -> Ssh:
    """One that knows no host by its key."""
    options = (
        *options,
        f"User={account.name}",
        "UserKnownHostsFile=/dev/null",
        "GSSAPIKeyExchange=yes",
        f"GSSAPIKexAlgorithms={method}",
        "GSSAPIServerIdentity=localhost",
        "PreferredAuthentications=gssapi-keyex",
    )
    return attrs.evolve(ssh, options=options)


@exchanging
@pytest.mark.parametrize("has_keys", [True, False])
@pytest.mark.parametrize("method", TWINS)
async def test_ssh_takes_us_for_whom_the_realm_says_by_each_method(
    ssh: Ssh, tickets: Realm, account: Account, nursery: trio.Nursery, method: str, has_keys: bool
) -> None:
    identities: list[GssIdentity] = []
    ssh = exchanging_ssh(ssh, account, method)
    keys: dict[str, Any] = {} if has_keys else {"host_keys": []}
    await ssh.serve(nursery, kerberized_by_us(identities), gss_kex=True, kex=[TWINS[method]], **keys)
    done = await ssh.run("server", "echo in", env=tickets.environment)
    assert (done.stdout, done.returncode) == (b"in\n", 0), done.stderr.decode()
    assert [identity.principal for identity in identities] == [f"{account.name}@{REALM}"]
    assert identities[0].credentials is None
    done = await ssh.run("-oGSSAPIDelegateCredentials=yes", "server", "echo in", env=tickets.environment)
    assert done.returncode == 0
    assert identities[1].credentials is not None


@exchanging
@pytest.mark.parametrize("ours", [True, False])
async def test_either_changes_keys_in_the_midst_of_data(
    ssh: Ssh, tickets: Realm, account: Account, nursery: trio.Nursery, ours: bool
) -> None:
    limits = trio_ssh.Limits(rekey_bytes=400_000) if ours else trio_ssh.Limits()
    ssh = exchanging_ssh(ssh, account, "gss-curve25519-sha256-", *([] if ours else ["RekeyLimit=400K"]))
    await ssh.serve(nursery, kerberized_by_us([]), gss_kex=True, limits=limits)
    data = bytes(2_000_000)
    done = await ssh.run("-v", "server", "cat", stdin=data, env=tickets.environment)
    assert (done.stdout == data, done.returncode) == (True, 0), done.stderr.decode()
    assert done.stderr.count(b"SSH2_MSG_KEXINIT received") > 3
    assert b"kex: algorithm: curve25519" not in done.stderr


@exchanging
async def test_ssh_logs_in_by_a_key_behind_such_an_exchange(
    ssh: Ssh, tickets: Realm, account: Account, nursery: trio.Nursery, user_keys: KeyFolder
) -> None:
    class TakesKeys(LetsAnyoneIn):
        def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
            return trio_ssh.AUTH_FAILED

        def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
            assert self.transport.gss_kex_used
            return trio_ssh.AUTH_SUCCESSFUL

    ssh = exchanging_ssh(ssh, account, "gss-curve25519-sha256-", "PreferredAuthentications=publickey")
    ssh = attrs.evolve(ssh, options=(f"IdentityFile={user_keys.file('ed25519')}", *ssh.options))
    await ssh.serve(nursery, TakesKeys, gss_kex=True)
    done = await ssh.run("server", "echo in", env=tickets.environment)
    assert (done.stdout, done.returncode) == (b"in\n", 0), done.stderr.decode()


@exchanging
async def test_ssh_without_a_ticket_or_for_another_user_is_refused(
    ssh: Ssh, realm: Realm, account: Account, nursery: trio.Nursery
) -> None:
    identities: list[GssIdentity] = []
    ssh = exchanging_ssh(ssh, account, "gss-curve25519-sha256-")
    await ssh.serve(nursery, kerberized_by_us(identities), gss_kex=True)
    with contextlib.suppress(AssertionError):
        realm.log_out()
    done = await ssh.run("server", "echo in", env=realm.environment)
    assert done.returncode == 255
    assert b"Host key verification failed" in done.stderr
    assert identities == []
    realm.log_in(account.name)
    ssh = attrs.evolve(ssh, options=("User=root", *ssh.options))
    done = await ssh.run("server", "echo in", env=realm.environment)
    assert done.returncode == 255
    assert b"Permission denied" in done.stderr
    assert [identity.principal for identity in identities] == [f"{account.name}@{REALM}"]


@pytest.mark.parametrize("has_keys", [True, False])
async def test_we_exchange_keys_with_ourselves(
    tickets: Realm, account: Account, ssh: Ssh, nursery: trio.Nursery, has_keys: bool
) -> None:
    identities: list[GssIdentity] = []
    keys: dict[str, Any] = {} if has_keys else {"host_keys": []}
    await ssh.serve(nursery, kerberized_by_us(identities), gss_kex=True, **keys)
    with trio.fail_after(PATIENCE):
        async with trio_ssh.connect(
            "127.0.0.1",
            ssh.port,
            account.name,
            known_hosts=NOBODY,
            look_for_keys=False,
            gss_kex=True,
            gss_host="localhost",
            config=None,
        ) as client:
            transport = client.get_transport()
            assert transport is not None
            assert transport.gss_kex_used
            await transport.renegotiate_keys()
            done = await client.run_process("echo in", capture_stdout=True)
            assert done.stdout == b"in\n"
    assert [identity.principal for identity in identities] == [f"{account.name}@{REALM}"]


async def test_a_keytab_that_lacks_the_host_is_told_of(
    tickets: Realm, account: Account, ssh: Ssh, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KRB5_KTNAME", f"FILE:{tickets.folder / 'nowhere'}")
    with pytest.raises(trio_ssh.SSHException, match="GSS-API has no key of this host"):
        await ssh.serve(nursery, LetsAnyoneIn, gss_kex=True)


async def test_a_client_whose_token_is_refused_hears_of_it(
    tickets: Realm, account: Account, ssh: Ssh, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has a key, but not the one that the ticket is for."""
    tickets.run("kadmin.local", "-r", REALM, "-q", "addprinc -randkey host/other.example")
    tickets.run("kadmin.local", "-r", REALM, "-q", f"ktadd -k {tickets.folder / 'another'} host/other.example")
    monkeypatch.setenv("KRB5_KTNAME", f"FILE:{tickets.folder / 'another'}")
    await ssh.serve(nursery, LetsAnyoneIn, gss_kex=True)
    # Its GSS-API's own words, if they can be read before the end; else the server's.
    with pytest.raises(trio_ssh.SSHException, match=r"GSS-API refuses the (server|client)'s token"):
        async with trio_ssh.connect(
            "127.0.0.1", ssh.port, account.name, known_hosts=NOBODY, gss_kex=True, gss_host="localhost", config=None
        ):
            pass


@pytest.mark.parametrize("exchanges_keys", [False, True])
async def test_a_ticket_for_another_service_lets_nobody_in(
    tickets: Realm,
    account: Account,
    ssh: Ssh,
    nursery: trio.Nursery,
    monkeypatch: pytest.MonkeyPatch,
    exchanges_keys: bool,
) -> None:
    """A web server of this host has its key in the same keytab, and shows here what it was shown."""
    import gssapi  # noqa: PLC0415 -- an extra

    tickets.run("kadmin.local", "-r", REALM, "-q", "addprinc -randkey HTTP/localhost")
    for name in ("HTTP/localhost", "host/localhost"):
        tickets.run("kadmin.local", "-r", REALM, "-q", f"ktadd -norandkey -k {tickets.folder / 'both'} {name}")
    monkeypatch.setenv("KRB5_KTNAME", f"FILE:{tickets.folder / 'both'}")
    names = gssapi.Name

    def of_the_web(name: str, kind: object) -> object:
        return names(name.replace("host@", "HTTP@"), kind)

    identities: list[GssIdentity] = []
    await ssh.serve(nursery, kerberized_by_us(identities), gss_kex=exchanges_keys)
    monkeypatch.setattr(gssapi, "Name", of_the_web)

    def connecting() -> trio_ssh.connect:
        return trio_ssh.connect(
            "127.0.0.1",
            ssh.port,
            account.name,
            known_hosts=NOBODY if exchanges_keys else ssh.known_hosts,
            look_for_keys=False,
            allow_agent=False,
            gss_auth=True,
            gss_kex=exchanges_keys,
            gss_host="localhost",
            config=None,
        )

    with trio.fail_after(PATIENCE):
        with pytest.raises(trio_ssh.SSHException):
            async with connecting():
                pass
        assert identities == []
        monkeypatch.setattr(gssapi, "Name", names)
        async with connecting():
            pass
    assert len(identities) == 1
