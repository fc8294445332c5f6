"""What a line of authorized_keys allows is what sshd allows: the same file before both, and the same client."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import tempfile
import time
from collections.abc import AsyncGenerator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

import trio_ssh
from tests.interop.conftest import account, as_root, folder, host_keys, password, user_keys
from tests.interop.peers import KINDS, Account, KeyFolder, Sshd
from trio_ssh.errors import RequestRefused

__all__ = ["account", "as_root", "folder", "host_keys", "password", "user_keys"]

pytestmark = pytest.mark.interop


class Generous(trio_ssh.ServerInterface):
    """Lets in whom the file lets in, and grants everything that is asked for."""

    permit_user_environment = True
    path: Path

    async def get_authorized_keys(self, username: str) -> trio_ssh.AuthorizedKeys:
        return await trio.to_thread.run_sync(trio_ssh.AuthorizedKeys.load, self.path)

    def check_channel_pty_request(self, *arguments: object) -> bool:
        return True

    def check_channel_env_request(self, channel: trio_ssh.Channel, name: str, value: str) -> bool:
        return True

    def check_channel_x11_request(self, *arguments: object) -> bool:
        return True

    def check_channel_forward_agent_request(self, channel: trio_ssh.Channel) -> bool:
        return True

    def check_channel_request(self, kind: str, chanid: int) -> trio_ssh.OpenResult:
        return trio_ssh.OPEN_SUCCEEDED

    def check_channel_direct_tcpip_request(
        self, chanid: int, origin: tuple[str, int], destination: tuple[str, int]
    ) -> trio_ssh.OpenResult:
        return trio_ssh.OPEN_SUCCEEDED

    def check_port_forward_request(self, address: str, port: int) -> int:
        return port or 40_000

    def check_global_request(self, kind: str, details: trio_ssh.Message) -> bool:
        return kind in ("streamlocal-forward@openssh.com", "cancel-streamlocal-forward@openssh.com")

    def check_channel_subsystem_request(self, channel: trio_ssh.Channel, name: str) -> bool:
        return name == "sftp"

    async def handle_subsystem(self, process: trio_ssh.ServerProcess) -> int:
        await process.stdout.write("sftp\n")
        return 0

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        return await trio_ssh.run_local_session(process, shell="/bin/bash")


@pytest.fixture(scope="module")
def lines(folder: Path) -> Path:
    """The file that both servers go by."""
    path = folder / "authorized_lines"
    path.touch(0o644)
    return path


@pytest.fixture(scope="module")
def authority() -> trio_ssh.Ed25519Key:
    return trio_ssh.Ed25519Key.generate("authority")


@pytest.fixture(scope="module")
def trusted() -> trio_ssh.Ed25519Key:
    return trio_ssh.Ed25519Key.generate("trusted")


@pytest.fixture(scope="module")
def openssh(
    folder: Path,
    account: Account,
    host_keys: KeyFolder,
    user_keys: KeyFolder,
    lines: Path,
    trusted: trio_ssh.Ed25519Key,
) -> Iterator[Sshd]:
    (folder / "trusted.pub").write_text(trusted.public_key.to_openssh() + "\n")
    options = (
        f"AuthorizedKeysFile {lines}",
        f"TrustedUserCAKeys {folder / 'trusted.pub'}",
        "PermitUserEnvironment yes",
        "X11Forwarding yes",
        "XAuthLocation /bin/true",
        "AcceptEnv *",
        "Subsystem sftp /bin/echo sftp",
    )
    with Sshd(folder, account, host_keys, user_keys, options) as server:
        yield server


@attrs.frozen
class Both:
    """The two servers, which go by the same file.

    Attributes:
        listener, socket: what they can connect to; beside the socket they can make others.
    """

    lines: Path
    sshd: Sshd
    port: int
    listener: int
    socket: str

    def connect(self, which: str, **options: Any) -> trio_ssh.connect:
        if which == "sshd":
            return self.sshd.connect(**options)
        known = trio_ssh.HostKeys.from_text(f"[127.0.0.1]:{self.port} {self.sshd.host_keys.public('ed25519')}\n")
        arguments: dict[str, Any] = {"username": self.sshd.account.name, "known_hosts": known}
        arguments["pkey"] = self.sshd.user_keys.load("ed25519")
        return trio_ssh.connect("127.0.0.1", self.port, **(arguments | options))

    async def allow(self, which: str, **options: Any) -> dict[str, Any] | None:
        """Try everything; None where there is no login."""
        try:
            async with self.connect(which, **options) as client:
                return await self._tried(client)
        except trio_ssh.AuthenticationException:
            return None

    async def _tried(self, client: trio_ssh.SSHClient) -> dict[str, Any]:
        done = await client.run_process(
            "echo $A-$SSH_ORIGINAL_COMMAND-", capture_stdout=True, capture_stderr=True, check=False, env=None
        )
        found: dict[str, Any] = {"output": done.stdout, "status": done.returncode}
        channel = await client.open_session()
        found["pty"] = await is_granted(channel.get_pty("xterm", 80, 24))
        found["agent"] = await is_granted(channel.request_forward_agent(ignore))
        found["x11"] = await is_granted(channel.request_x11(auth_cookie=b"00" * 16))
        await channel.aclose()
        transport = client.get_transport()
        assert transport is not None
        found["opens"] = []
        for host in ("127.0.0.1", "localhost"):
            try:
                stream = await transport.open_tcp_stream(host, self.listener)
                await stream.aclose()
                found["opens"].append(host)
            except trio_ssh.ChannelException as error:
                found["opens"].append((host, error.code))
        found["listens"] = []
        for address, port in (("localhost", 40_001), ("127.0.0.1", 40_001), ("localhost", 40_002)):
            with contextlib.suppress(RequestRefused):
                await transport.request_port_forward(address, port)
                found["listens"].append((address, port))
                await transport.cancel_port_forward(address, port)
        found["unix opens"] = True
        try:
            stream = await client.open_unix_stream(self.socket)
            await stream.aclose()
        except trio_ssh.ChannelException:
            found["unix opens"] = False
        found["unix listens"] = True
        try:
            [listener] = await client.open_unix_listeners(f"{self.socket}-{secrets.token_hex(8)}")
            await listener.aclose()
        except RequestRefused:
            found["unix listens"] = False
        session = await client.open_session()
        try:
            await session.invoke_subsystem("sftp")
            # What a forced command is told of: for sshd the command that serves the subsystem, for us its name.
            found["sftp"] = (await session.receive_some()).replace(b"/bin/echo sftp", b"sftp")
        except RequestRefused:
            found["sftp"] = None
        await session.aclose()
        return found


async def ignore(channel: trio_ssh.Channel) -> None:
    await channel.aclose()


async def is_granted(request: Any) -> bool:
    try:
        await request
    except RequestRefused:
        return False
    return True


@pytest.fixture
async def both(
    openssh: Sshd, lines: Path, trusted: trio_ssh.Ed25519Key, nursery: trio.Nursery
) -> AsyncGenerator[Both, None]:
    class Server(Generous):
        path = lines

        async def get_authorized_keys(self, username: str) -> trio_ssh.AuthorizedKeys:
            load = partial(trio_ssh.AuthorizedKeys.load, lines, authorities=[trusted.public_key])
            return await trio.to_thread.run_sync(load)

    keys = [openssh.host_keys.load(kind) for kind in KINDS]
    serve = partial(trio_ssh.serve_tcp, Server, 0, host="127.0.0.1", host_keys=keys)
    [ours] = await nursery.start(serve)
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    with tempfile.TemporaryDirectory(prefix="a-") as place, socket.socket(socket.AF_UNIX) as unix:
        os.chmod(place, 0o777)
        path = os.path.join(place, "s")
        unix.bind(path)
        os.chmod(path, 0o777)
        unix.listen(100)
        async with listener:
            yield Both(lines, openssh, ours.socket.getsockname()[1], listener.socket.getsockname()[1], path)
    nursery.cancel_scope.cancel()


OPTIONS = [
    "",
    "restrict",
    "restrict,pty",
    "pty,restrict",
    "no-pty",
    "no-port-forwarding",
    "no-agent-forwarding",
    "no-X11-forwarding",
    "NO-PTY,no-user-rc",
    "restrict,port-forwarding,agent-forwarding,x11-forwarding,pty,user-rc",
    r'command="echo \"forced\" $SSH_ORIGINAL_COMMAND"',
    'command="exit 3",no-pty',
    'command=""',
    'environment="A=line"',
    'environment="A=line",environment="A=other"',
    'environment="SSH_ORIGINAL_COMMAND=x"',
    'permitopen="127.0.0.1:{port}"',
    'permitopen="127.0.0.1:1"',
    'permitopen="*:{port}"',
    'permitopen="localhost:*"',
    'restrict,permitopen="127.0.0.1:{port}"',
    'restrict,port-forwarding,permitopen="127.0.0.1:{port}"',
    'permitlisten="40001"',
    'permitlisten="localhost:*"',
    'permitlisten="LOCALHOST:40001"',
    'permitlisten="127.*:40001"',
    'from="127.0.0.1"',
    'from="127.0.0.*"',
    'from="10.0.0.0/8"',
    'from="127.0.0.0/8,!127.0.0.1"',
    'from="!127.0.0.1,*"',
    'from="127.0.0.1/8"',
    'from="!10.0.0.0/8"',
    'from="*.example.com"',
    'expiry-time="20200101"',
    'expiry-time="20990101Z"',
    'expiry-time="20990101",expiry-time="20200101"',
    'expiry-time="tomorrow"',
    "no-touch-required",
    "touch-required",
    "verify-required",
    "no-verify-required",
    'principals="x"',
    "cert-authority",
    'tunnel="0"',
    'tunnel="x"',
    "unheard-of",
    'unheard-of="x"',
    "command",
    'command="a",command="b"',
    'permitopen="nowhere"',
    'environment="1 2=3"',
    "no-restrict",
    'command="unterminated',
]


@pytest.mark.parametrize("options", OPTIONS)
async def test_a_line_allows_what_sshd_allows(both: Both, options: str) -> None:
    public = both.sshd.user_keys.public("ed25519")
    both.lines.write_text(f"{options.format(port=both.listener)} {public}\n")
    theirs, ours = await both.allow("sshd"), await both.allow("ours")
    if "permitlisten" in options and theirs is not None:
        # It says which ports; for sshd that leaves all sockets in the file system, and here none.
        assert theirs.pop("unix listens")
        assert ours is not None
        assert not ours.pop("unix listens")
    assert ours == theirs


@pytest.mark.parametrize("options", ["no-pty,", ",no-pty"])
async def test_a_line_with_an_option_too_few_is_refused_where_sshd_guesses(both: Both, options: str) -> None:
    both.lines.write_text(f"{options} {both.sshd.user_keys.public('ed25519')}\n")
    assert await both.allow("sshd") is not None
    assert await both.allow("ours") is None


SECOND = [
    ['from="10.0.0.0/8"', "no-pty"],
    ["unheard-of", "no-pty"],
    ["no-pty", "unheard-of"],
    ['command="echo first"', 'command="echo second"'],
    ["", 'command="echo second"'],
    ["cert-authority", "no-pty"],
    ['expiry-time="20200101"', ""],
]


@pytest.mark.parametrize("options", SECOND, ids=str)
async def test_of_several_lines_the_one_counts_that_counts_for_sshd(both: Both, options: list[str]) -> None:
    public = both.sshd.user_keys.public("ed25519")
    both.lines.write_text("".join(f"{each} {public}\n" for each in options))
    theirs, ours = await both.allow("sshd"), await both.allow("ours")
    assert ours == theirs


def certified(
    both: Both, authority: trio_ssh.Ed25519Key, *, principals: list[str] | None = None, **changed: Any
) -> trio_ssh.CertifiedKey:
    key = both.sshd.user_keys.load("ed25519")
    arguments: dict[str, Any] = {"key_id": "test", "valid_before": time.time() + 3600} | changed
    names = [name.format(user=both.sshd.account.name) for name in principals or ["{user}"]]
    certificate = trio_ssh.Certificate.issue_for_user(authority, key.public_key, principals=names, **arguments)
    return trio_ssh.CertifiedKey(key, certificate)


NONE = trio_ssh.CertificatePermissions(
    x11_forwarding=False, agent_forwarding=False, port_forwarding=False, pty=False, user_rc=False
)
CERTIFICATES: list[tuple[str | None, dict[str, Any]]] = [
    ("cert-authority", {}),
    ("", {}),
    ("cert-authority", {"principals": ["somebody"]}),
    ('cert-authority,principals="somebody,else"', {"principals": ["else"]}),
    ('cert-authority,principals="somebody"', {}),
    ('cert-authority,principals="some*"', {"principals": ["somebody"]}),
    ("cert-authority", {"permissions": NONE}),
    ("cert-authority,no-pty", {}),
    ("cert-authority,pty", {"permissions": NONE}),
    ("cert-authority,restrict", {}),
    ("cert-authority", {"force_command": "echo certified $SSH_ORIGINAL_COMMAND"}),
    ('cert-authority,command="echo line"', {}),
    ('cert-authority,command="echo same"', {"force_command": "echo same"}),
    ('cert-authority,command="echo line"', {"force_command": "echo certified"}),
    ("cert-authority", {"source_addresses": ["127.0.0.0/8"]}),
    ("cert-authority", {"source_addresses": ["10.0.0.0/8"]}),
    ('cert-authority,from="10.0.0.0/8"', {"source_addresses": ["127.0.0.0/8"]}),
    ("cert-authority", {"valid_before": 1_000_000_000}),
    ("cert-authority", {"valid_after": 3_000_000_000, "valid_before": 4_000_000_000}),
    ("cert-authority", {"critical_options": {"unknown@example.com": None}}),
    ("cert-authority", {"extensions": {"unknown@example.com": None}}),
    ('cert-authority,expiry-time="20200101"', {}),
    (None, {}),
    (None, {"principals": ["somebody"]}),
    (None, {"permissions": NONE}),
    (None, {"force_command": "echo certified"}),
    (None, {"source_addresses": ["10.0.0.0/8"]}),
]


@pytest.mark.parametrize(("options", "changed"), CERTIFICATES, ids=str)
async def test_a_certificate_allows_what_sshd_allows(
    both: Both,
    authority: trio_ssh.Ed25519Key,
    trusted: trio_ssh.Ed25519Key,
    options: str | None,
    changed: dict[str, Any],
) -> None:
    """With None for options, the authority stands in no line: the servers trust it by themselves."""
    if options is None:
        both.lines.write_text("")
        key = certified(both, trusted, **changed)
    else:
        both.lines.write_text(f"{options} {authority.public_key.to_openssh()}\n")
        key = certified(both, authority, **changed)
    theirs, ours = await both.allow("sshd", pkey=key), await both.allow("ours", pkey=key)
    assert ours == theirs


async def test_internal_sftp_is_the_one_forced_command_that_is_a_subsystem(both: Both) -> None:
    public = both.sshd.user_keys.public("ed25519")
    for command, works in (("internal-sftp", True), ("internal-sftp -R", False)):
        both.lines.write_text(f'command="{command}" {public}\n')
        async with both.connect("ours") as client:
            session = await client.open_session()
            assert await is_granted(session.invoke_subsystem("sftp")) is works
            for refused in ("id", None):
                other = await client.open_session()
                request = other.exec_command(refused) if refused else other.invoke_shell()
                assert not await is_granted(request)
                await other.aclose()
            await session.aclose()


async def test_a_part_of_a_forced_command_can_not_be_killed(both: Both) -> None:
    """This one lets everything pass that its child doesn't forbid."""
    gate = r"trap : USR1; if sh -c \"echo; sleep 1\"; then echo denied; else echo passed; fi"
    both.lines.write_text(f'command="{gate}" {both.sshd.user_keys.public("ed25519")}\n')
    for which in ("sshd", "ours"):
        async with both.connect(which) as client:
            channel = await client.open_session()
            await channel.exec_command("rm -rf /")
            assert await channel.receive_some() == b"\n"
            channel.send_signal("USR1")
            assert await channel.read() == b"denied\n", which
