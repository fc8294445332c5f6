"""Our agent's two ends, each with OpenSSH's other: `Agent` with ssh-agent, `AgentServer` with ssh-add and ssh."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
import pytest
import trio

import trio_ssh
from tests.interop.peers import KINDS, PATIENCE, Account, KeyFolder, LetsAnyoneIn, Ssh, Sshd, make_key, run

pytestmark = pytest.mark.interop


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder with a short name: a socket's must not have more than some hundred bytes."""
    path = Path(tempfile.mkdtemp(prefix="a-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def ssh_agent(request: pytest.FixtureRequest, place: Path) -> Iterator[Path]:
    """OpenSSH's agent; ``indirect`` is the status of the program that asks its user."""
    path, askpass = place / "openssh", place / "askpass"
    askpass.write_text(f"#!/bin/sh\nexit {getattr(request, 'param', 1)}\n")
    askpass.chmod(0o755)
    environment = os.environ | {"SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force", "DISPLAY": ":0"}
    output = subprocess.DEVNULL
    process = subprocess.Popen(["ssh-agent", "-D", "-a", str(path)], stdout=output, stderr=output, env=environment)
    deadline = time.monotonic() + PATIENCE
    # The path is there before somebody listens.
    while not is_listening(path):
        assert time.monotonic() < deadline, "ssh-agent does not listen"
        time.sleep(0.005)
    yield path
    process.kill()
    process.wait()


def is_listening(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


# -- our client, OpenSSH's agent


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_of_each_kind_is_taken_and_signs(ssh_agent: Path, user_keys: KeyFolder, kind: str) -> None:
    key = user_keys.load(kind)
    async with trio_ssh.Agent(ssh_agent) as agent:
        await agent.add(key, comment="Grüße")
        [held] = await agent.get_keys()
        assert (held.asbytes(), held.comment) == (key.asbytes(), "Grüße")
        assert (held.get_name(), held.get_bits(), held.fingerprint) == (key.key_type, key.get_bits(), key.fingerprint)
        for algorithm in held.algorithms:
            key.verify(b"data", await held.sign(b"data", algorithm), algorithm)
        await agent.remove(held)
        assert await agent.get_keys() == ()
        with pytest.raises(trio_ssh.AgentException, match="does not sign"):
            await held.sign(b"data")


async def test_all_keys_are_forgotten_at_once(ssh_agent: Path, user_keys: KeyFolder) -> None:
    async with trio_ssh.Agent(ssh_agent) as agent:
        for kind in KINDS:
            await agent.add(user_keys.load(kind))
        assert [key.comment for key in await agent.get_keys()] == list(KINDS)
        await agent.remove_all()
        assert await agent.get_keys() == ()


async def test_it_locks_and_unlocks(ssh_agent: Path, user_keys: KeyFolder) -> None:
    async with trio_ssh.Agent(ssh_agent) as agent:
        await agent.add(user_keys.load("ed25519"))
        await agent.lock("open sesame é")
        assert await agent.get_keys() == ()
        with pytest.raises(trio_ssh.AgentException, match="the passphrase is wrong"):
            await agent.unlock("friend")
        await agent.unlock("open sesame é")
        assert len(await agent.get_keys()) == 1


@pytest.mark.parametrize(("ssh_agent", "is_allowed"), [("0", True), ("1", False)], indirect=["ssh_agent"])
async def test_its_user_is_asked(ssh_agent: Path, user_keys: KeyFolder, is_allowed: bool) -> None:
    async with trio_ssh.Agent(ssh_agent) as agent:
        await agent.add(user_keys.load("ed25519"), confirm=True, lifetime=3600)
        [held] = await agent.get_keys()
        if is_allowed:
            held.public_key.verify(b"data", await held.sign(b"data"), "ssh-ed25519")
        else:
            with pytest.raises(trio_ssh.AgentException, match="its user said no"):
                await held.sign(b"data")


async def test_what_it_does_not_know_is_refused_in_words(ssh_agent: Path, user_keys: KeyFolder) -> None:
    async with trio_ssh.Agent(ssh_agent) as agent:
        with pytest.raises(trio_ssh.AgentException, match="Not every agent knows every constraint"):
            await agent.add(user_keys.load("ed25519"), max_signatures=3)
        with pytest.raises(trio_ssh.AgentException, match="'query'"):
            await agent.query_extensions()
        with pytest.raises(trio_ssh.AgentException, match=r"locked"):
            await agent.remove_all()
            await agent.remove(user_keys.load("rsa"))
        assert await agent.get_keys() == ()


# -- logging in with it


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_of_an_agent_logs_in(sshd: Sshd, ssh_agent: Path, kind: str) -> None:
    run_with_agent(ssh_agent, "ssh-add", "-q", str(sshd.user_keys.file(kind)))
    async with sshd.connect(pkey=None, allow_agent=ssh_agent, look_for_keys=False) as client:
        done = await client.run_process("id -un", capture_stdout=True)
        assert done.stdout == f"{sshd.account.name}\n".encode()


async def test_the_users_agent_is_asked_unless_it_is_told_not_to(
    sshd: Sshd, ssh_agent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSH_AUTH_SOCK", str(ssh_agent))
    run_with_agent(ssh_agent, "ssh-add", "-q", str(sshd.user_keys.file("ed25519")))
    async with sshd.connect(pkey=None, look_for_keys=False):
        pass
    with pytest.raises(trio_ssh.AuthenticationException, match="no key was given"):
        async with sshd.connect(pkey=None, look_for_keys=False, allow_agent=False):
            pass


async def test_an_encrypted_file_is_left_to_the_agent(sshd: Sshd, ssh_agent: Path, place: Path) -> None:
    path = place / "id"
    shutil.copy(sshd.user_keys.file("ed25519"), path)
    shutil.copy(sshd.user_keys.file("ed25519.pub"), place / "id.pub")
    path.chmod(0o600)
    run("ssh-keygen", "-q", "-p", "-P", "", "-N", "open sesame", "-a", "1", "-f", path)
    with pytest.raises(trio_ssh.PasswordRequiredException):
        async with sshd.connect(pkey=None, key_filename=path, allow_agent=ssh_agent):
            pass
    run_with_agent(ssh_agent, "ssh-add", "-q", *(str(sshd.user_keys.file(kind)) for kind in ("rsa", "ed25519")))
    for name in (path, place / "id.pub"):
        async with sshd.connect(pkey=None, key_filename=name, allow_agent=ssh_agent, identities_only=True):
            pass


async def test_a_key_for_one_host_logs_in_there_and_nowhere_else(
    sshd: Sshd, ssh_agent: Path, host_keys: KeyFolder
) -> None:
    ours = [host_keys.load(kind).public_key for kind in KINDS]
    theirs = [trio_ssh.Ed25519Key.generate().public_key]
    key = sshd.user_keys.load("ed25519")
    async with trio_ssh.Agent(ssh_agent) as agent:
        for keys, is_permitted in ((ours, True), (theirs, False)):
            hop = trio_ssh.AgentHop("host", keys, username=sshd.account.name)
            await agent.add(key, destinations=[trio_ssh.AgentDestination(hop)])
            client = sshd.connect(pkey=None, allow_agent=ssh_agent, look_for_keys=False)
            if is_permitted:
                async with client:
                    pass
            else:
                with pytest.raises(trio_ssh.AuthenticationException, match="no key was given"):
                    async with client:
                        pass


def run_with_agent(agent: Path, *command: str) -> str:
    """Run a tool that asks an agent, while nothing else has to go on."""
    environment = os.environ | {"SSH_AUTH_SOCK": str(agent)}
    return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout


@pytest.mark.parametrize("kind", KINDS)
async def test_a_certificate_of_an_agent_logs_in(
    folder: Path, account: Account, host_keys: KeyFolder, user_keys: KeyFolder, ssh_agent: Path, place: Path, kind: str
) -> None:
    authority = make_key(folder / f"authority_{kind}", "ed25519")
    shutil.copy(user_keys.file(kind), place / "id")
    shutil.copy(user_keys.file(f"{kind}.pub"), place / "id.pub")
    run("ssh-keygen", "-q", "-s", authority, "-I", "test", "-n", account.name, place / "id.pub")
    key = trio_ssh.load_private_key_file(place / "id")
    certified = trio_ssh.CertifiedKey(key, trio_ssh.Certificate.from_path(place / "id-cert.pub"))
    options = [f"TrustedUserCAKeys {authority}.pub", "AuthorizedKeysFile none"]
    ours = trio_ssh.AgentServer([certified])
    with Sshd(place, account, host_keys, user_keys, options) as server:
        async with trio_ssh.Agent(ssh_agent) as agent, trio.open_nursery() as nursery:
            await agent.add(certified)
            [held] = await agent.get_keys()
            assert held.asbytes() == certified.certificate.blob
            await nursery.start(ours.serve_unix, place / "ours")
            for path in (ssh_agent, place / "ours"):
                async with server.connect(
                    pkey=None, allow_agent=path, key_filename=place / "id.pub", identities_only=True
                ):
                    pass
            await agent.remove(certified)
            assert await agent.get_keys() == ()
            nursery.cancel_scope.cancel()


# -- OpenSSH's clients, our agent


@attrs.define
class SshAdd:
    """ssh-add, and the agent of ours that it asks."""

    server: trio_ssh.AgentServer
    path: Path
    answer: str = "open sesame"

    async def __call__(self, *arguments: str) -> tuple[int, str]:
        """Run it; return its status and what it said."""
        askpass = self.path.with_name("askpass")
        askpass.write_text(f"#!/bin/sh\necho '{self.answer}'\n")
        askpass.chmod(0o755)
        environment = {"SSH_AUTH_SOCK": str(self.path), "SSH_ASKPASS": str(askpass), "SSH_ASKPASS_REQUIRE": "force"}
        with trio.fail_after(PATIENCE):
            done = await trio.run_process(
                ["ssh-add", *arguments],
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                env={"PATH": os.environ["PATH"], "HOME": str(self.path.parent), "LC_ALL": "C"} | environment,
            )
        return done.returncode, (done.stdout + done.stderr).decode()


@pytest.fixture
async def ssh_add(place: Path, nursery: trio.Nursery) -> SshAdd:
    """An agent of ours that asks nobody and is content."""
    server = trio_ssh.AgentServer(confirm=lambda key, comment: True)
    await nursery.start(server.serve_unix, place / "ours")
    return SshAdd(server, place / "ours")


@pytest.mark.parametrize("kind", KINDS)
async def test_ssh_add_adds_lists_tests_and_deletes(ssh_add: SshAdd, user_keys: KeyFolder, kind: str) -> None:
    file, key = str(user_keys.file(kind)), user_keys.load(kind)
    assert await ssh_add("-l") == (1, "The agent has no identities.\n")
    assert (await ssh_add(file))[0] == 0
    status, listed = await ssh_add("-l")
    assert (status, listed.split()[:3]) == (0, [str(key.get_bits()), key.fingerprint, kind])
    assert await ssh_add("-L") == (0, user_keys.public(kind) + "\n")
    # Without a flag for it RSA means SHA-1, by which nothing is signed here.
    assert (await ssh_add("-T", f"{file}.pub"))[0] == (1 if kind == "rsa" else 0)
    assert (await ssh_add("-d", file))[0] == 0
    assert ssh_add.server.get_keys() == ()


@pytest.mark.parametrize("kind", KINDS)
async def test_ssh_add_adds_a_certificate(ssh_add: SshAdd, user_keys: KeyFolder, place: Path, kind: str) -> None:
    shutil.copy(user_keys.file(kind), place / "id")
    shutil.copy(user_keys.file(f"{kind}.pub"), place / "id.pub")
    run("ssh-keygen", "-q", "-s", user_keys.file("ed25519"), "-I", "test", "-n", "alice", place / "id.pub")
    status, said = await ssh_add(str(place / "id"))
    assert (status, "Certificate added" in said) == (0, True), said
    listed = (await ssh_add("-L"))[1]
    assert (place / "id-cert.pub").read_text().split()[1] in listed
    if kind != "rsa":
        assert (await ssh_add("-T", str(place / "id-cert.pub")))[0] == 0


async def test_ssh_add_deletes_all(ssh_add: SshAdd, user_keys: KeyFolder) -> None:
    await ssh_add(*(str(user_keys.file(kind)) for kind in KINDS))
    assert len(ssh_add.server.get_keys()) == len(KINDS)
    assert (await ssh_add("-D"))[0] == 0
    assert ssh_add.server.get_keys() == ()


async def test_ssh_add_sets_constraints(ssh_add: SshAdd, user_keys: KeyFolder) -> None:
    status, said = await ssh_add("-t", "3600", "-c", str(user_keys.file("ed25519")))
    assert status == 0, said
    assert (await ssh_add("-T", str(user_keys.file("ed25519.pub"))))[0] == 0
    ssh_add.server._confirm = lambda key, comment: False
    assert (await ssh_add("-T", str(user_keys.file("ed25519.pub"))))[0] == 1


async def test_ssh_add_names_destinations_by_key_and_by_authority(
    ssh_add: SshAdd, user_keys: KeyFolder, host_keys: KeyFolder
) -> None:
    known_hosts = ssh_add.path.with_name("known_hosts")
    known_hosts.write_text(f"a {host_keys.public('ed25519')}\n@cert-authority b {host_keys.public('rsa')}\n")
    way = ("-h", "a", "-h", "a>alice@b", "-H", str(known_hosts))
    status, said = await ssh_add(*way, str(user_keys.file("ed25519")))
    assert status == 0, said
    first = trio_ssh.AgentHop("a", (host_keys.load("ed25519").public_key,))
    second = trio_ssh.AgentHop("b", authorities=(host_keys.load("rsa").public_key,), username="alice")
    [held] = ssh_add.server._held.values()
    expected = (trio_ssh.AgentDestination(first), trio_ssh.AgentDestination(second, first))
    assert held.constraints.destinations == expected


async def test_ssh_add_locks_and_unlocks(ssh_add: SshAdd, user_keys: KeyFolder) -> None:
    await ssh_add(str(user_keys.file("ed25519")))
    assert await ssh_add("-x") == (0, "Agent locked.\n")
    assert await ssh_add("-l") == (1, "The agent has no identities.\n")
    assert ssh_add.server.is_locked
    assert await ssh_add("-X") == (0, "Agent unlocked.\n")
    assert (await ssh_add("-l"))[0] == 0


async def test_nobody_else_can_connect(ssh_add: SshAdd) -> None:
    assert ssh_add.path.stat().st_mode & 0o777 == 0o600


def knows(keys: Sequence[trio_ssh.PublicKey]) -> type[trio_ssh.ServerInterface]:
    class Server(LetsAnyoneIn):
        def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
            return trio_ssh.AUTH_FAILED

        def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
            return trio_ssh.AUTH_SUCCESSFUL if key in keys else trio_ssh.AUTH_FAILED

        def check_channel_forward_agent_request(self, channel: trio_ssh.Channel) -> bool:
            return True

    return Server


@pytest.mark.parametrize("kind", KINDS)
async def test_ssh_logs_in_by_our_agent(
    ssh: Ssh, ssh_add: SshAdd, nursery: trio.Nursery, user_keys: KeyFolder, kind: str
) -> None:
    ssh_add.server.add(user_keys.load(kind))
    await ssh.serve(nursery, knows([user_keys.load(kind).public_key]))
    ssh = attrs.evolve(ssh, options=(f"IdentityAgent={ssh_add.path}", "IdentitiesOnly=no"))
    done = await ssh.run("server", "echo in")
    assert (done.stdout, done.returncode) == (b"in\n", 0), done.stderr


async def test_ssh_logs_in_only_where_a_key_may_be_used(
    ssh: Ssh, ssh_add: SshAdd, nursery: trio.Nursery, user_keys: KeyFolder
) -> None:
    file = str(user_keys.file("ed25519"))
    await ssh.serve(nursery, knows([user_keys.load("ed25519").public_key]))
    with_agent = attrs.evolve(ssh, options=(f"IdentityAgent={ssh_add.path}", "IdentitiesOnly=no"))
    elsewhere = ssh_add.path.with_name("known_hosts")
    elsewhere.write_text(f"elsewhere {trio_ssh.Ed25519Key.generate().public_key.to_openssh()}\n")
    for destination, hosts, status in (
        (f"alice@[127.0.0.1]:{ssh.port}", ssh.known_hosts, 0),
        (f"bob@[127.0.0.1]:{ssh.port}", ssh.known_hosts, 255),
        ("elsewhere", elsewhere, 255),
    ):
        added, said = await ssh_add("-h", destination, "-H", str(hosts), file)
        assert added == 0, said
        done = await with_agent.run("server", "true")
        assert done.returncode == status, (destination, done.stderr)


# -- forwarding


@pytest.mark.parametrize("is_ours", [True, False], ids=["ours", "openssh"])
async def test_an_agent_is_forwarded_to_sshd(sshd: Sshd, ssh_agent: Path, user_keys: KeyFolder, is_ours: bool) -> None:
    key = user_keys.load("ecdsa256")
    server = trio_ssh.AgentServer([key])
    run_with_agent(ssh_agent, "ssh-add", "-q", str(user_keys.file("ecdsa256")))
    async with sshd.connect() as client:
        channel = await client.open_session()
        await channel.request_forward_agent(server.serve_stream if is_ours else trio_ssh.forwarded_agent(ssh_agent))
        await channel.exec_command("ssh-add -l && ssh-add -L > key && ssh-add -T key; rm key")
        assert key.fingerprint in (await channel.read()).decode()
        assert await channel.recv_exit_status() == 0


async def test_ssh_forwards_an_agent_to_our_server(
    ssh: Ssh, ssh_add: SshAdd, nursery: trio.Nursery, user_keys: KeyFolder
) -> None:
    key = user_keys.load("ed25519")
    ssh_add.server.add(key)
    await ssh.serve(nursery, knows([key.public_key]))
    ssh = attrs.evolve(ssh, options=(f"IdentityAgent={ssh_add.path}", "IdentitiesOnly=no"))
    done = await ssh.run("-A", "server", "echo $SSH_AUTH_SOCK; ssh-add -l")
    path, listed = done.stdout.decode().splitlines()
    assert key.fingerprint in listed
    assert not Path(path).parent.exists()
    done = await ssh.run("-a", "server", "echo $SSH_AUTH_SOCK")
    assert done.stdout == b"\n"
