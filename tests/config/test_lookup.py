"""What a configuration comes to for one host."""

from __future__ import annotations

import hashlib
import io
import ipaddress
import os
import pwd
import subprocess
from pathlib import Path

import paramiko
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

import trio_ssh
from tests.conftest import load_default
from trio_ssh.config import evaluation, match, ssh_config
from trio_ssh.config.tokens import LocalFacts, local_user

FACTS = LocalFacts(
    "joe", "1000", "/home/joe", "here.example", {"HOME": "/home/joe", "SHELL": "/bin/sh", "PATH": os.environ["PATH"]}
)


REALLY_GATHER = LocalFacts.gather


@pytest.fixture(autouse=True)
def facts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalFacts, "gather", lambda: FACTS)


async def lookup(text: str, host: str = "host", **asked: object) -> trio_ssh.SSHOptions:
    config = await trio_ssh.SSHConfig.from_text(text)
    return await config.lookup(host, **asked)  # type: ignore[arg-type]


async def refused(text: str, host: str = "host") -> str:
    with pytest.raises(trio_ssh.ConfigParseError) as raised:
        await lookup(text, host)
    return str(raised.value)


# -- the answer


async def test_every_keyword_is_an_attribute_with_its_type() -> None:
    options = await lookup("Port 22\nUser x\nCompression yes\nConnectTimeout 1m\nIdentityFile a\nSetEnv A=b\n")
    assert (options.port, options.user, options.compression, options.connect_timeout) == (22, "x", True, 60)
    assert (options.identity_file, options.set_env) == (("a",), (("A", "b"),))
    assert options.server_alive_interval is None
    assert options.local_forward == ()


async def test_an_answer_does_not_change() -> None:
    options = await lookup("")
    with pytest.raises(AttributeError):
        options.port = 3  # type: ignore[misc]


async def test_an_answer_says_where_things_were_said() -> None:
    options = await lookup("User x\n\nPort 3\n")
    assert options.place("port") == "Port (ssh_config:3)"
    assert options.place("ciphers") == "Ciphers"
    assert repr(options) == "<SSHOptions of host: hostname='host', port='3', user='x'>"


async def test_commands_and_variables_are_not_shown() -> None:
    secret = "hunter2"
    options = await lookup(
        f"SetEnv TOKEN={secret}\nProxyCommand nc -p {secret} %h\nRemoteCommand x {secret}\nLocalCommand y {secret}\n"
        f"KnownHostsCommand z {secret}\nPort 3\n"
    )
    assert secret not in repr(options)
    assert "proxycommand=..., " in repr(options)
    assert "port='3'" in repr(options)
    assert options.set_env == (("TOKEN", secret),)


PARAMIKO_CASES = [
    "Host host\n HostName real\n User joe\n Port 2222\n IdentityFile a\n IdentityFile b\n",
    "Host *\n ProxyCommand nc %h %p\n ForwardAgent yes\n LocalForward 80 a:90\n",
    "Host other\n User x\nHost h*\n User y\n Compression no\n",
    "Host * !host\n User x\n",
    "Match host host\n ServerAliveInterval 30\n",
    "HostName %h.example\nPreferredAuthentications password,publickey\n",
]


@pytest.mark.parametrize("text", PARAMIKO_CASES)
async def test_as_a_dictionary_it_is_what_paramiko_says(text: str) -> None:
    theirs = dict(paramiko.SSHConfig.from_text(text).lookup("host"))
    ours = (await lookup(text)).as_dict()
    if "localforward" in theirs:
        assert theirs.pop("localforward") == ["80 a:90"]
        assert ours.pop("localforward") == ["80 [a]:90"]
    assert ours == theirs


@pytest.mark.parametrize("text", [text for text in PARAMIKO_CASES if "Match" not in text])  # which it fails at
async def test_the_hosts_are_those_that_paramiko_finds(text: str) -> None:
    ours = (await trio_ssh.SSHConfig.from_text(text)).get_hostnames()
    # Paramiko adds the pattern of a block that nobody wrote.
    assert ours | {"*"} == paramiko.SSHConfig.from_text(text).get_hostnames() | {"*"}


async def test_every_value_has_a_text() -> None:
    options = await lookup(
        "ProxyJump u@a:3,b\nRekeyLimit 1K 1m\nStreamLocalBindMask 077\nSetEnv A=1 B=2\nUserKnownHostsFile none\n"
        "CanonicalizePermittedCNAMEs a:b\nGlobalKnownHostsFile /a /b\nCiphers +x\nBatchMode no\n"
    )
    assert options.as_dict() == {
        "hostname": "host",
        "proxyjump": "u@a:3,b",
        "rekeylimit": "1024 60",
        "streamlocalbindmask": "0077",
        "setenv": "A=1 B=2",
        "userknownhostsfile": "none",
        "canonicalizepermittedcnames": "a:b",
        "globalknownhostsfile": "/a /b",
        "ciphers": "+x",
        "batchmode": "no",
    }


# -- where it comes from


async def test_a_file_may_be_open(tmp_path: Path) -> None:
    path = tmp_path / "config"
    path.write_text("Port x\n")
    with path.open() as file, pytest.raises(trio_ssh.ConfigParseError, match=f"{path}:1"):
        await trio_ssh.SSHConfig.from_file(file)
    config = await trio_ssh.SSHConfig.from_file(io.StringIO("Host a\nPort 3"))
    assert config.get_hostnames() == {"a"}
    assert repr(config) == "<SSHConfig of 1 host patterns>"


async def test_a_file_that_is_named_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await trio_ssh.SSHConfig.from_path(tmp_path / "config")


async def test_by_default_it_is_the_user_s_and_then_the_system_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssh_config, "USER_CONFIG", tmp_path / "user")
    monkeypatch.setattr(ssh_config, "SYSTEM_CONFIG", tmp_path / "system")
    assert (await (await load_default()).lookup("host")).as_dict() == {"hostname": "host"}
    (tmp_path / "system").write_text("Port 4\nUser system\nInclude system.d/*\nMine yes\n")
    (tmp_path / "user").write_text("IgnoreUnknown Mine\nUser user\nHost other\n")
    (tmp_path / "system.d").mkdir()
    (tmp_path / "system.d" / "x").write_text("Compression yes\nHost nobody\n")
    options = await (await load_default()).lookup("host")
    assert (options.user, options.port, options.compression) == ("user", 4, True)
    assert options.places["port"] == f"{tmp_path}/system:1"


async def test_the_user_s_must_be_the_user_s_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh_config, "USER_CONFIG", tmp_path / "user")
    monkeypatch.setattr(ssh_config, "SYSTEM_CONFIG", tmp_path / "system")
    (tmp_path / "system").write_text("Port 4\n")
    (tmp_path / "system").chmod(0o666)  # whoever may write there may do anything
    (tmp_path / "user").write_text("Port 4\n")
    await load_default()
    (tmp_path / "user").chmod(0o620)
    with pytest.raises(trio_ssh.ConfigParseError, match="could run commands as you"):
        await load_default()


@pytest.mark.interop
async def test_a_named_file_may_be_anybody_s_and_what_it_includes_may_not_as_for_ssh(tmp_path: Path) -> None:
    open_to_all, including = tmp_path / "open", tmp_path / "including"
    open_to_all.write_text("Port 4\n")
    open_to_all.chmod(0o666)
    including.write_text(f"Include {open_to_all}\n")
    for path, is_read in ((open_to_all, True), (including, False)):
        command = ["ssh", "-G", "-F", str(path), "host"]
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
        assert (b"port 4\n" in done.stdout) == is_read
        if is_read:
            config = await trio_ssh.SSHConfig.from_path(path)
            assert (await config.lookup("host")).port == 4
        else:
            with pytest.raises(trio_ssh.ConfigParseError, match="could run commands as you"):
                await trio_ssh.SSHConfig.from_path(path)


async def test_an_included_block_does_not_go_on(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("Host other\nPort 3\n")
    options = await lookup(f"Include {tmp_path}/x\nUser joe\n")
    assert (options.user, options.port) == ("joe", None)
    options = await lookup(f"Host other\nInclude {tmp_path}/x\nHost host\nUser joe\n", "other")
    assert options.port == 3
    options = await lookup(f"Host another\nInclude {tmp_path}/x\n", "other")
    assert options.port is None


# -- tokens


async def test_every_token_is_filled_in() -> None:
    options = await lookup(
        "HostName %h.example\nUser me\nPort 3\nHostKeyAlias k\nProxyJump u@j:9\n"
        "IdentityFile %%-%d-%h-%i-%j-%k-%L-%l-%n-%p-%r-%T-%u\nControlPath ~/%C\n"
    )
    assert options.identity_file == ("%-/home/joe-host.example-1000-j-k-here-here.example-host-3-me-NONE-joe",)
    digest = hashlib.sha1(b"here.example" + b"host.example" + b"3" + b"me" + b"j").hexdigest()
    assert options.control_path == f"/home/joe/{digest}"


async def test_what_is_filled_in_is_not_looked_through_again() -> None:
    options = await lookup("User %h${HOME}~\nIdentityFile %r\n")
    assert options.identity_file == ("%h${HOME}~",)


async def test_variables_and_homes_are_for_files() -> None:
    options = await lookup("IdentityFile ${HOME}/a\nRemoteCommand ${HOME} ~ %h\nUser ${HOME}\n")
    assert options.identity_file == ("/home/joe/a",)
    assert (options.remote_command, options.user) == ("${HOME} ~ host", "${HOME}")


async def test_sockets_and_hosts_of_forwardings_are_filled_in() -> None:
    options = await lookup("LocalForward ${HOME}/%h /%p\nRemoteForward %h:9 %h:80\nRemoteForward 3\n")
    assert [*map(str, options.local_forward)] == ["/home/joe/host /22"]
    assert [*map(str, options.remote_forward)] == ["[host]:9 [host]:80", "3"]


@pytest.mark.parametrize("token", "hnkrj")
async def test_no_name_reaches_the_server_s_shell_as_more_than_a_name(token: str) -> None:
    lines = {"k": "HostKeyAlias web1;id\n", "j": "ProxyJump web1#id\n"}.get(token, "")
    host, user = ("host", "joe;id") if token == "r" else ("host" if lines else "web1;id", "joe")
    with pytest.raises(ValueError, match=rf"a shell interprets.* RemoteCommand .* leave %{token} out of that line"):
        await lookup(f"{lines}RemoteCommand echo '%{token}'\n", host, user=user)
    options = await lookup(f"{lines}RemoteCommand echo %%{token} %l %u %d %p %i\n", host, user=user)
    assert options.remote_command == f"echo %{token} here.example joe /home/joe 22 1000"


async def test_jump_hosts_are_filled_in() -> None:
    options = await lookup("ProxyJump %r@jump-%h\nUser me\n")
    assert [*map(str, options.proxy_jump or ())] == ["me@jump-host"]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("IdentityFile %x", "IdentityFile (ssh_config:1): %x stands for nothing here. There are: %% %C %d"),
        ("HostName %p", "HostName (ssh_config:1): %p stands for nothing here. There are: %% %h;"),
        ("ProxyCommand %u", "ProxyCommand (ssh_config:1): %u stands for nothing here. There are: %% %h %n %p %r"),
        ("IdentityFile a%", "stands for nothing here"),
        ("IdentityFile ${NOPE}", "${NOPE} is not a variable that is set"),
        ("IdentityFile ${HOME", "${HOME is not a variable that is set"),
        ("IdentityFile ~nobody-here/x", "is nobody's home"),
        ("Match exec %x", "Match exec (ssh_config:1): %x stands for nothing"),
        ("ProxyJump host", "the way to host leads through itself"),
    ],
)
async def test_what_can_not_be_filled_in_is_told_with_its_place(text: str, error: str) -> None:
    assert error in await refused(text)


@pytest.mark.interop
async def test_ssh_finds_the_same_identity(tmp_path: Path) -> None:
    """`ssh -G` shows IdentityFile as it was written; where it looks, it says in passing."""
    path = tmp_path / "config"
    path.write_text("IdentityFile /x/%C-%d-%h-%i-%k-%L-%l-%n-%p-%r-%u-%%\nProxyCommand false\nUser me\nPort 33\n")
    done = await trio.run_process(
        ["ssh", "-v", "-F", str(path), "host"], capture_stderr=True, check=False, stdin=subprocess.DEVNULL
    )
    config = await trio_ssh.SSHConfig.from_path(path)
    config._local = await trio.to_thread.run_sync(REALLY_GATHER)
    [identity] = (await config.lookup("host")).identity_file
    assert f"identity file {identity} type" in done.stderr.decode()


# -- Match


async def test_a_command_decides() -> None:
    text = 'Match exec "test %h = host"\nPort 3\n'
    assert (await lookup(text)).port == 3
    assert (await lookup(text, "other")).port is None


async def test_no_command_runs_behind_what_is_not_so(tmp_path: Path) -> None:
    touch = f'exec "touch {tmp_path}/x"'
    await lookup(f"Match host other {touch}\nPort 3\nMatch !host host {touch}\nPort 4\n")
    assert not (tmp_path / "x").exists()


async def test_a_command_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(match, "EXEC_SECONDS", 0.05)
    assert "the command did not end within 0.05 seconds: it was killed" in await refused("Match exec 'sleep 1000'\n")


async def test_a_shell_that_does_not_exist_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FACTS.environment, "SHELL", "/no/such/shell")  # type: ignore[arg-type]
    assert "/no/such/shell can't be run: No such file" in await refused("Match exec true\n")


async def test_a_tag_is_matched_once_it_is_set() -> None:
    text = "Match tagged x\nPort 3\nHost *\nTag x\nMatch tagged y,x*\nUser joe\n"
    options = await lookup(text)
    assert (options.port, options.user) == (None, "joe")
    assert (await lookup('Match tagged ""\nPort 3\n')).port == 3


async def test_this_program_has_a_version_and_runs_commands() -> None:
    assert (await lookup("Match version OpenSSH*\nPort 3\n")).port is None
    assert (await lookup("Match version trio_ssh*\nPort 3\n")).port == 3
    assert (await lookup("Match sessiontype exec\nPort 3\n")).port == 3
    assert (await lookup("Match sessiontype shell\nPort 3\n")).port is None


@pytest.mark.parametrize(
    ("networks", "is_in"),
    [
        ("192.0.2.0/24", True),
        ("198.51.100.0/24", False),
        ("2001:db8::/32", True),
        ("*,!192.0.2.0/24", None),
        ("!192.0.2.7/32,0.0.0.0/0", False),
        ("192.0.2.7", True),
    ],
)
async def test_networks_of_this_machine(networks: str, is_in: bool | None, monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = [ipaddress.ip_address("192.0.2.7"), ipaddress.ip_address("2001:db8::7")]
    monkeypatch.setattr(match, "local_addresses", lambda: iter(addresses))
    text = f"Match localnetwork {networks}\nPort 3\n"
    if is_in is None:
        assert "is not a network" in await refused(text)
    else:
        assert (await lookup(text)).port == (3 if is_in else None)


def test_the_addresses_of_this_machine_are_found_without_loopback() -> None:
    assert not any(address.is_loopback for address in match.local_addresses())


# -- canonical names


class Names(trio.abc.HostnameResolver):
    """DNS, as far as these tests need it: name -> canonical name."""

    def __init__(self, **names: str) -> None:
        self.asked: list[str] = []
        self._names = {name.replace("_", "."): canonical for name, canonical in names.items()}

    async def getaddrinfo(self, host, port, family=0, type=0, proto=0, flags=0):  # type: ignore[no-untyped-def] # noqa: A002 -- trio's
        await trio.lowlevel.checkpoint()
        name = host.decode() if isinstance(host, bytes) else host
        self.asked.append(name)
        if name.rstrip(".") not in self._names:
            raise OSError("no such host")
        return [(2, 1, 6, self._names[name.rstrip(".")], ("192.0.2.1", 0))]

    async def getnameinfo(self, sockaddr, flags):  # type: ignore[no-untyped-def]
        raise AssertionError("nobody asks")


CANONICAL = "CanonicalizeHostname yes\nCanonicalDomains a.example b.example\n"


async def test_a_short_name_becomes_a_whole_one_and_the_lines_are_read_again() -> None:
    names = Names(web_b_example="")
    trio.socket.set_custom_hostname_resolver(names)
    options = await lookup(CANONICAL + "Host web.b.example\nPort 3\nMatch canonical host *.b.example\nUser x\n", "web")
    assert (options.hostname, options.port, options.user) == ("web.b.example", 3, "x")
    assert names.asked == ["web.a.example.", "web.b.example."]


@pytest.mark.parametrize("host", ["a.b.c", "192.0.2.1", "::1"])
async def test_a_name_that_is_whole_stays(host: str) -> None:
    trio.socket.set_custom_hostname_resolver(Names())
    assert (await lookup(CANONICAL, host)).hostname == host


async def test_an_alias_in_dns_is_followed_where_it_may_be() -> None:
    trio.socket.set_custom_hostname_resolver(Names(web_a_example="real.cdn.example."))
    rules = "CanonicalizePermittedCNAMEs *.a.example:*.cdn.example\n"
    assert (await lookup(CANONICAL + rules, "web")).hostname == "real.cdn.example"
    assert (await lookup(CANONICAL + rules.replace("cdn", "other"), "web")).hostname == "web.a.example"
    assert (await lookup(rules, "web.a.example")).hostname == "real.cdn.example"


async def test_a_name_with_a_dot_at_its_end_is_whole() -> None:
    trio.socket.set_custom_hostname_resolver(Names(web=""))
    assert (await lookup(CANONICAL, "web.")).hostname == "web"


async def test_who_is_found_nowhere_stays_unless_that_is_an_error() -> None:
    trio.socket.set_custom_hostname_resolver(Names())
    assert (await lookup(CANONICAL, "web")).hostname == "web"
    with pytest.raises(trio_ssh.CouldNotCanonicalize, match=r"no canonical domain knows 'web'.*a\.example, b\.example"):
        await lookup(CANONICAL + "CanonicalizeFallbackLocal no\n", "web")


async def test_what_a_proxy_resolves_is_left_to_it() -> None:
    names = Names(web_a_example="")
    trio.socket.set_custom_hostname_resolver(names)
    assert (await lookup(CANONICAL + "ProxyJump x\n", "web")).hostname == "web"
    assert names.asked == []
    always = CANONICAL.replace("yes", "always") + "ProxyCommand nc\n"
    assert (await lookup(always, "web")).hostname == "web.a.example"


# -- limits and fuzz


async def test_more_keys_than_a_server_would_look_at_are_too_many() -> None:
    lines = "".join(f"IdentityFile {number}\n" for number in range(101))
    assert "ssh_config:101: more than 100 IdentityFiles" in await refused(lines)


KEYWORDS = ["Host", "Match", "Port", "User", "HostName", "IdentityFile", "ProxyJump", "SendEnv", "Tag", "LocalForward"]


@given(
    st.lists(st.tuples(st.sampled_from(KEYWORDS), st.text("abh019*!%hn-:@/[]= ,.${}~", max_size=12)), max_size=8),
    st.text(max_size=10),
)
def test_any_configuration_has_an_answer_or_a_located_error(lines: list[tuple[str, str]], host: str) -> None:
    text = "\n".join(f"{keyword} {value}" for keyword, value in lines if "exec" not in value)

    async def ask() -> None:
        try:
            (await lookup(text, host)).as_dict()
        except (trio_ssh.ConfigParseError, ValueError):
            await trio.lowlevel.checkpoint()

    trio.run(ask)


async def test_a_name_is_filled_in_once_more_in_the_second_pass() -> None:
    options = await lookup("Host a\nHostName %h.example\nMatch final\nUser x\nHostName %h.other\n", "a")
    assert options.hostname == "a.example"
    assert evaluation.DEFAULT_PORT == 22


async def test_a_guard_that_crashes_has_not_said_no() -> None:
    for condition in ("exec", "!exec"):
        told = await refused(f'Match {condition} "kill -9 $$"\nUser x\n')
        assert "the command was ended by the signal 9" in told


async def test_values_that_ssh_takes() -> None:
    options = await lookup("LogLevel SILENT\nRekeyLimit 0 1h\nServerAliveInterval none\n")
    assert (options.log_level, options.server_alive_interval) == ("QUIET", None)
    assert options.rekey_limit is not None
    assert (options.rekey_limit.data_bytes, options.rekey_limit.seconds) == (0, 3600)


def test_the_user_is_the_account_s_and_not_the_environment_s(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "mallory")
    assert local_user() == pwd.getpwuid(os.getuid()).pw_name

    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert local_user() == str(os.getuid())


async def test_a_guard_that_is_not_waited_for_leaves_nothing_behind(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lookup, f'Match exec "exec 3>{fifo}; echo x >&3; sleep 1000; true"\nUser x\n')
            with trio.fail_after(20):
                await trio.lowlevel.wait_readable(reading)
            assert os.read(reading, 10) == b"x\n"
            nursery.cancel_scope.cancel()
        with trio.fail_after(20):
            await trio.lowlevel.wait_readable(reading)
        assert os.read(reading, 10) == b"", "whoever could write to it is gone"
    finally:
        os.close(reading)


async def test_an_answer_can_be_looked_up_as_in_paramiko() -> None:
    options = await lookup("Port 2222\nIdentityFile /key\n")
    assert options["port"] == "2222"
    assert options["identityfile"] == ["/key"]
    assert options.get("user") is None
    assert options.get("user", "nobody") == "nobody"
    assert ("port" in options, "user" in options) == (True, False)
    with pytest.raises(KeyError, match="user"):
        options["user"]
