"""What a configuration makes of a connection, and what it has no say in."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

import trio_ssh
from tests.conftest import load_default
from tests.keys.samples import load
from trio_ssh.config import SSHOptions, ssh_config, trust
from trio_ssh.config.applied import Applied, apply, apply_limits
from trio_ssh.config.trust import AcceptNewPolicy, load_known_hosts, load_revoked, name_on_record, policy_of
from trio_ssh.core import auth_client
from trio_ssh.runtime import client_authentication

HOST_KEY = trio_ssh.Ed25519Key.generate()
USER_KEY = trio_ssh.Ed25519Key.generate()
OTHER_KEY = trio_ssh.ECDSAKey.generate()


class Server(trio_ssh.ServerInterface):
    """Takes one key or one password, and remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        self.told.append(f"key {key.fingerprint}")
        return trio_ssh.AUTH_SUCCESSFUL if key == USER_KEY.public_key else trio_ssh.AUTH_FAILED

    def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        self.told.append(f"password {password}")
        return trio_ssh.AUTH_SUCCESSFUL if password == "right" else trio_ssh.AUTH_FAILED

    def check_channel_env_request(self, channel: trio_ssh.Channel, name: str, value: str) -> bool:
        self.told.append(f"{name}={value}")
        return name != "REFUSED"

    def check_channel_pty_request(self, *arguments: object) -> bool:
        return True

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        await process.stdout.write(process.command or "shell")
        return 0


@contextlib.asynccontextmanager
async def serving(server: Server) -> AsyncIterator[trio.abc.Stream]:
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve_one, theirs, server)
        yield ours
        nursery.cancel_scope.cancel()


async def serve_one(stream: trio.abc.Stream, server: Server) -> None:
    with contextlib.suppress(trio_ssh.ConnectionLost):
        await trio_ssh.serve_stream(stream, server, host_keys=[HOST_KEY])


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    (folder / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setattr(trust, "SYSTEM_KNOWN_HOSTS", (str(tmp_path / "ssh_known_hosts"),))
    USER_KEY.write_private_key_file(folder / "key")
    OTHER_KEY.write_private_key_file(folder / "other")
    (folder / ".ssh" / "known_hosts").write_text(f"real.example {HOST_KEY.public_key.to_openssh()}\n")
    return folder


async def options_of(text: str, host: str = "real.example") -> SSHOptions:
    return await (await trio_ssh.SSHConfig.from_text(text)).lookup(host)


COMMON = "Host *\nIdentityAgent none\nIdentityFile ~/key\nUser joe\nHost alias\nHostName real.example\n"


# -- who and where


async def test_an_alias_leads_to_its_host_user_and_key() -> None:
    config = await trio_ssh.SSHConfig.from_text(COMMON)
    async with serving(Server()) as stream, trio_ssh.connect("alias", sock=stream, config=config) as client:
        assert repr(client).startswith("<SSHClient joe@real.example:22 ")
        options = client.get_options()
        assert options is not None
        assert options.original_hostname == "alias"


async def test_what_is_given_wins(home: Path) -> None:
    config = await trio_ssh.SSHConfig.from_text(COMMON + "Port 3\nCiphers aes256-ctr\nCompression yes\n")
    server = Server()
    known = trio_ssh.HostKeys()
    known.add("[real.example]:4", None, HOST_KEY.public_key)
    async with (
        serving(server) as stream,
        trio_ssh.connect(
            "alias",
            4,
            "jim",
            "right",
            key_filename=home / "other",
            sock=stream,
            config=config,
            known_hosts=known,
            ciphers=["aes128-ctr"],
            compress=False,
        ) as client,
    ):
        transport = client.get_transport()
        assert transport is not None
        negotiated = transport.get_negotiated()
        assert negotiated is not None
        assert negotiated.client_to_server.cipher == "aes128-ctr"
        assert negotiated.client_to_server.compression == "none"
        assert repr(client).startswith("<SSHClient jim@real.example:4 ")
    assert f"key {USER_KEY.fingerprint}" not in server.told


async def test_a_file_may_be_named(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(COMMON)
    for config in (tmp_path / "config", str(tmp_path / "config")):
        async with serving(Server()) as stream, trio_ssh.connect("alias", sock=stream, config=config):
            pass


async def test_none_is_none() -> None:
    known = trio_ssh.HostKeys()
    known.add("alias", None, HOST_KEY.public_key)
    async with (
        serving(Server()) as stream,
        trio_ssh.connect("alias", sock=stream, config=None, known_hosts=known, pkey=USER_KEY) as client,
    ):
        assert client.get_options() is None


async def test_by_default_it_is_the_user_s(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(trio_ssh.SSHConfig, "load_default", load_default)
    monkeypatch.setattr(ssh_config, "SYSTEM_CONFIG", tmp_path / "none")
    (home / ".ssh" / "config").write_text(COMMON)
    async with serving(Server()) as stream, trio_ssh.connect("alias", sock=stream) as client:
        assert repr(client).startswith("<SSHClient joe@real.example:22 ")


async def test_a_mistake_closes_the_stream_that_was_given() -> None:
    config = await trio_ssh.SSHConfig.from_text("Ciphers 3des-made-up\n")
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio_ssh.SSHClient() as client:
        with pytest.raises(trio_ssh.ConfigParseError, match=r"Ciphers \(ssh_config:1\): nothing is left of '3des-made"):
            await client.connect("x", sock=ours, config=config)
        assert await theirs.receive_some() == b""
        with pytest.raises(FileNotFoundError):
            await client.connect("x", config="/no/such/file")


async def test_a_host_that_the_configuration_refuses_is_not_connected_to() -> None:
    config = await trio_ssh.SSHConfig.from_text('RefuseConnection "gone since\x07May"\n' + COMMON)
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio_ssh.SSHClient() as client:
        with pytest.raises(trio_ssh.ConfigParseError, match=r"RefuseConnection \(ssh_config:1\): .*gone since\\x07May"):
            await client.connect("alias", sock=ours, config=config)
        assert await theirs.receive_some() == b""


@pytest.mark.parametrize("is_certified", [False, True])
async def test_a_host_s_rsa_key_that_is_shorter_than_required_is_not_believed(is_certified: bool) -> None:
    key = load("rsa2048.openssh").public_key
    known = trio_ssh.HostKeys()
    known.add("host", None, key)
    applied = apply(SSHOptions(hostname="host", original_hostname="host", required_rsa_size=2049))
    for bits, is_believed in ((applied.smallest_rsa_bits, False), (2048, True), (0, True)):
        check = trust.HostCheck(
            trio_ssh.SSHClient(), known, "host", trio_ssh.RejectPolicy(), None, smallest_rsa_bits=bits
        )
        refusal = (
            contextlib.nullcontext()
            if is_believed
            else pytest.raises(trio_ssh.HostKeyException, match="RSA key of 2048 bits, and RequiredRSASize wants 2049")
        )
        with refusal:
            if is_certified:
                certificate = trio_ssh.Certificate.issue_for_host(
                    HOST_KEY, key, key_id="", principals=["host"], valid_before=trio_ssh.Certificate.FOREVER
                )
                await check.check_certificate(certificate)
            else:
                await check(key)


# -- logging in


async def test_an_rsa_key_that_is_shorter_than_required_is_not_tried() -> None:
    server = Server()
    config = await trio_ssh.SSHConfig.from_text("RequiredRSASize 3072\nPasswordAuthentication no\n" + COMMON)
    key = load("rsa2048.openssh")
    async with serving(server) as stream:
        with pytest.raises(trio_ssh.AuthenticationException, match="was not tried: RequiredRSASize wants 3072 bits"):
            async with trio_ssh.connect(
                "alias", pkey=key, sock=stream, config=config, look_for_keys=False, allow_agent=False
            ):
                raise AssertionError("somebody was let in")
    assert not server.told


async def test_files_that_are_not_there_are_passed_over() -> None:
    config = await trio_ssh.SSHConfig.from_text("IdentityFile ~/nothing\n" + COMMON)
    async with serving(Server()) as stream, trio_ssh.connect("alias", sock=stream, config=config):
        pass


async def test_no_key_is_looked_for_where_none_shall_be() -> None:
    server = Server()
    config = await trio_ssh.SSHConfig.from_text(COMMON)
    async with (
        serving(server) as stream,
        trio_ssh.connect("alias", password="right", sock=stream, config=config, look_for_keys=False),
    ):
        pass
    assert server.told == ["password right"]


async def test_methods_are_tried_in_the_order_that_is_preferred() -> None:
    server = Server()
    config = await trio_ssh.SSHConfig.from_text("PreferredAuthentications password,publickey\n" + COMMON)
    async with serving(server) as stream, trio_ssh.connect("alias", password="wrong", sock=stream, config=config):
        pass
    assert server.told[0] == "password wrong"
    assert server.told[1].startswith("key ")


@pytest.mark.parametrize(
    ("text", "note"),
    [
        (
            "PasswordAuthentication no\nPubkeyAuthentication no",
            r"password was not tried: PasswordAuthentication \(ssh_c",
        ),
        ("PreferredAuthentications hostbased", r"publickey was not tried: PreferredAuthentications \(ssh_config:1\)"),
        (
            "PubkeyAcceptedAlgorithms ecdsa-*\nPasswordAuthentication no",
            r"only with what PubkeyAcceptedAlgorithms \(ssh_config:1\) accepts",
        ),
        (
            "PubkeyAcceptedAlgorithms -ssh-ed*\nPasswordAuthentication no",
            r"only with what PubkeyAcceptedAlgorithms \(ssh_config:1\) accepts",
        ),
    ],
)
async def test_what_is_turned_off_is_not_tried_and_the_error_says_so(text: str, note: str) -> None:
    server = Server()
    config = await trio_ssh.SSHConfig.from_text(f"{text}\n{COMMON}")
    with pytest.raises(trio_ssh.AuthenticationException, match=note):
        async with serving(server) as stream:
            try:
                async with trio_ssh.connect("alias", password="right", sock=stream, config=config):
                    raise AssertionError("connected")
            except trio_ssh.AuthenticationException as error:
                found = error
        raise found
    assert server.told == []


RSA_KEY = trio_ssh.RSAKey.generate(2048)
RSA_CERTIFICATE = trio_ssh.Certificate.issue_for_user(
    OTHER_KEY, RSA_KEY.public_key, key_id="", principals=["joe"], valid_before=trio_ssh.Certificate.FOREVER
)


@pytest.mark.parametrize(
    ("text", "signs_by"),
    [
        ("", "rsa-sha2-512"),
        ("PubkeyAcceptedAlgorithms rsa-sha2-256", "rsa-sha2-256"),
        ("PubkeyAcceptedAlgorithms -*512", "rsa-sha2-256"),
        ("PubkeyAcceptedAlgorithms ^rsa-sha2-256", "rsa-sha2-512"),
        ("PubkeyAcceptedAlgorithms ssh-ed25519", None),
        ("HostKeyAlgorithms ssh-ed25519", "rsa-sha2-512"),
    ],
)
async def test_a_key_signs_by_what_is_accepted(text: str, signs_by: str | None) -> None:
    class Known(Server):
        def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
            return trio_ssh.AUTH_FAILED

    config = await trio_ssh.SSHConfig.from_text(f"{text}\n{COMMON}")
    async with serving(Known()) as stream, trio_ssh.SSHClient() as client:
        with pytest.raises(trio_ssh.AuthenticationException) as raised:
            await client.connect("alias", sock=stream, config=config, pkey=RSA_KEY)
    tried = [line for line in raised.value.tried if line.startswith("publickey")]
    assert [line.split()[1] for line in tried] == ([signs_by] if signs_by is not None else [])


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ["rsa-sha2-512-cert-v01@openssh.com", "rsa-sha2-512"]),
        ("PubkeyAcceptedAlgorithms rsa-sha2-256-cert-v01@openssh.com", ["rsa-sha2-256-cert-v01@openssh.com"]),
        ("PubkeyAcceptedAlgorithms rsa-sha2-512", ["rsa-sha2-512"]),
        ("PubkeyAcceptedAlgorithms -*cert*", ["rsa-sha2-512"]),
        ("PubkeyAcceptedAlgorithms -rsa-sha2-512", ["rsa-sha2-512-cert-v01@openssh.com", "rsa-sha2-256"]),
        ("PubkeyAcceptedAlgorithms +ssh-ed448", ["rsa-sha2-512-cert-v01@openssh.com", "rsa-sha2-512"]),
    ],
)
async def test_a_certificate_is_shown_where_its_algorithm_is_accepted(text: str, shown: list[str], home: Path) -> None:
    RSA_KEY.write_private_key_file(home / "rsa")
    (home / "rsa-cert.pub").write_text(RSA_CERTIFICATE.to_openssh() + "\n")
    config = await trio_ssh.SSHConfig.from_text(f"{text}\n{COMMON.replace('~/key', '~/rsa')}")
    async with serving(Server()) as stream, trio_ssh.SSHClient() as client:
        with pytest.raises(trio_ssh.AuthenticationException) as raised:
            await client.connect("alias", sock=stream, config=config)
    assert [attempt.algorithm for attempt in raised.value.attempts if attempt.algorithm] == shown


async def test_a_certificate_that_is_none_is_a_remark(home: Path) -> None:
    (home / "cert").write_text("nonsense\n")
    config = await trio_ssh.SSHConfig.from_text(
        "CertificateFile ~/cert\nIdentityFile ~/other\nHost x\n" + COMMON.replace("IdentityFile", "#")
    )
    async with serving(Server()) as stream, trio_ssh.SSHClient() as client:
        with pytest.raises(trio_ssh.AuthenticationException, match="home/cert was not tried"):
            await client.connect("alias", sock=stream, config=config)


@pytest.mark.parametrize(
    ("text", "agent"),
    [
        ("", True),
        ("IdentityAgent none", False),
        ("IdentityAgent SSH_AUTH_SOCK", True),
        ("IdentityAgent $OTHER_SOCK", "/tmp/other"),
        ("IdentityAgent ${OTHER_SOCK}", "/tmp/other"),
        ("IdentityAgent $NO_SUCH_VARIABLE", False),
        ("IdentityAgent ~/agent", "agent"),
    ],
)
async def test_the_agent_is_where_it_is_said_to_be(
    text: str, agent: bool | str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_SOCK", "/tmp/other")
    found = apply(await options_of(text + "\nIdentitiesOnly yes\n"))
    assert found.allow_agent == agent or str(found.allow_agent).endswith(f"/home/{agent}")
    assert found.identities_only


# -- trust


async def connects(text: str, host: str = "new.example", **given: object) -> trio_ssh.SSHClient:
    config = await trio_ssh.SSHConfig.from_text(text + "\n" + COMMON)
    failure: Exception | None = None
    async with serving(Server()) as stream:
        try:
            async with trio_ssh.connect(host, sock=stream, config=config, **given) as client:  # type: ignore[arg-type]
                pass
        except trio_ssh.HostKeyException as error:
            failure = error
    if failure is not None:
        raise failure
    return client


@pytest.mark.parametrize("checking", ["", "StrictHostKeyChecking yes", "StrictHostKeyChecking ask"])
async def test_an_unknown_host_is_refused(checking: str) -> None:
    with pytest.raises(trio_ssh.UnknownHostKeyException):
        await connects(checking)


@pytest.mark.parametrize("checking", ["no", "off", "accept-new"])
async def test_or_accepted_and_put_on_record(checking: str, home: Path) -> None:
    await connects(f"StrictHostKeyChecking {checking}")
    known = home / ".ssh" / "known_hosts"
    assert known.read_text().splitlines()[1] == f"new.example {HOST_KEY.public_key.to_openssh()}"
    await connects("StrictHostKeyChecking yes")


async def test_where_the_configuration_says(home: Path) -> None:
    said = f"StrictHostKeyChecking no\nUserKnownHostsFile {home}/new/mine other\n"
    await connects(said + "HashKnownHosts yes")
    assert (home / "new" / "mine").read_text().startswith("|1|")
    assert (home / "new").stat().st_mode & 0o777 == 0o700
    await connects(f"GlobalKnownHostsFile {home}/new/mine\n")
    await connects("StrictHostKeyChecking no\nUserKnownHostsFile none\n")


@pytest.mark.parametrize("checking", ["no", "accept-new", "yes"])
async def test_a_changed_key_is_refused_always(checking: str, home: Path) -> None:
    (home / ".ssh" / "known_hosts").write_text(f"real.example {OTHER_KEY.public_key.to_openssh()}\n")
    with pytest.raises(trio_ssh.BadHostKeyException, match="HAS CHANGED"):
        await connects(f"StrictHostKeyChecking {checking}", "alias")


async def test_who_says_which_hosts_are_known_has_the_last_word() -> None:
    with pytest.raises(trio_ssh.UnknownHostKeyException):
        await connects("StrictHostKeyChecking no", known_hosts=trio_ssh.HostKeys())
    with pytest.raises(trio_ssh.UnknownHostKeyException):
        await connects("StrictHostKeyChecking no", policy=trio_ssh.RejectPolicy)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        await connects("StrictHostKeyChecking yes", policy=trio_ssh.WarningPolicy)


@pytest.mark.parametrize(("value", "is_bound"), [("yes", True), ("host-bound", True), ("unbound", False)])
async def test_signatures_are_bound_to_the_host_s_key_unless_they_shall_not_be(
    value: str, is_bound: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    named: list[bytes] = []

    def publickey_as_client(*arguments: Any, host_key: bytes, probe: bool) -> Any:
        named.append(host_key)
        return auth_client.publickey_as_client(*arguments, host_key=host_key, probe=probe)

    monkeypatch.setattr(client_authentication, "publickey_as_client", publickey_as_client)
    config = await trio_ssh.SSHConfig.from_text(f"PubkeyAuthentication {value}\n{COMMON}")
    async with serving(Server()) as stream, trio_ssh.connect("alias", sock=stream, config=config):
        pass
    assert named == [HOST_KEY.public_key.blob if is_bound else b""]


CERTIFICATE = "ssh-ed25519-cert-v01@openssh.com"


@pytest.mark.parametrize(
    ("text", "agreed"),
    [
        ("", CERTIFICATE),
        (f"HostKeyAlgorithms {CERTIFICATE}", CERTIFICATE),
        ("HostKeyAlgorithms -ssh-ed25519", CERTIFICATE),
        ("HostKeyAlgorithms +ssh-ed448", CERTIFICATE),
        (f"HostKeyAlgorithms ^{CERTIFICATE}", CERTIFICATE),
        (f"HostKeyAlgorithms ssh-ed25519,{CERTIFICATE}", "ssh-ed25519"),
        ("HostKeyAlgorithms ^ssh-ed25519", "ssh-ed25519"),
        ("HostKeyAlgorithms ssh-ed25519", "ssh-ed25519"),
        ("HostKeyAlgorithms -*cert*", "ssh-ed25519"),
    ],
)
@pytest.mark.parametrize("is_authority_known", [True, False])
async def test_a_host_s_certificate_is_asked_for_where_the_list_has_it(
    text: str, agreed: str, is_authority_known: bool, home: Path
) -> None:
    issued = trio_ssh.Certificate.issue_for_host(
        OTHER_KEY, HOST_KEY.public_key, key_id="", principals=["real.example"], valid_before=2**63
    )
    known = f"real.example {HOST_KEY.public_key.to_openssh()}\n"
    if is_authority_known:
        known += f"@cert-authority real.example {OTHER_KEY.public_key.to_openssh()}\n"
    elif not text:
        agreed = "ssh-ed25519"
    (home / ".ssh" / "known_hosts").write_text(known)
    config = await trio_ssh.SSHConfig.from_text(f"{text}\n{COMMON}")
    ours, theirs = trio.testing.memory_stream_pair()
    async with trio.open_nursery() as nursery:
        key = trio_ssh.CertifiedKey(HOST_KEY, issued)
        nursery.start_soon(lambda: trio_ssh.serve_stream(theirs, Server(), host_keys=[key]))
        async with trio_ssh.connect("alias", sock=ours, config=config) as client:
            transport = client.get_transport()
            assert transport is not None
            negotiated = transport.get_negotiated()
            assert negotiated is not None
            assert negotiated.host_key_algorithm == agreed


async def test_what_is_disabled_is_not_offered_whatever_else_says_so() -> None:
    config = await trio_ssh.SSHConfig.from_text(
        f"Ciphers aes128-ctr,aes256-ctr\nHostKeyAlgorithms +ssh-ed448\n{COMMON}"
    )
    disabled = {"ciphers": ["aes128-ctr"], "macs": ["hmac-sha2-256-etm@openssh.com"], "keys": ["ssh-ed448"]}
    async with (
        serving(Server()) as stream,
        trio_ssh.connect(
            "alias", sock=stream, config=config, macs="^hmac-sha2-256-etm@openssh.com", disabled_algorithms=disabled
        ) as client,
    ):
        transport = client.get_transport()
        assert transport is not None
        negotiated = transport.get_negotiated()
        assert negotiated is not None
        direction = negotiated.client_to_server
        assert (direction.cipher, direction.mac) == ("aes256-ctr", "hmac-sha2-512-etm@openssh.com")


async def test_an_alias_is_the_name_on_record() -> None:
    await connects("HostKeyAlias real.example\nPort 3")
    options = await options_of("HostKeyAlias K\nPort 3\n")
    assert name_on_record(options, "x", 3) == "k"
    assert name_on_record(None, "X", 3) == "[x]:3"


async def test_a_revoked_key_is_refused(home: Path) -> None:
    (home / "revoked").write_text(f"{HOST_KEY.public_key.to_openssh()}\n")
    with pytest.raises(trio_ssh.BadHostKeyException, match="REVOKED"):
        await connects(f"RevokedHostKeys {home}/revoked", "alias")
    assert await load_revoked(await options_of("RevokedHostKeys none")) is None
    (home / "revoked").write_bytes(b"SSHKRL\n\0broken")
    with pytest.raises(trio_ssh.ConfigParseError, match=r"RevokedHostKeys \(ssh_config:1\): .* can't be read"):
        await load_revoked(await options_of(f"RevokedHostKeys {home}/revoked"))


async def test_files_that_are_not_there_know_nobody(home: Path) -> None:
    (home / ".ssh" / "known_hosts").unlink()
    assert (await load_known_hosts(None)).to_text() == ""
    assert isinstance(policy_of(None), trio_ssh.RejectPolicy)
    assert isinstance(policy_of(await options_of("StrictHostKeyChecking no")), AcceptNewPolicy)


# -- algorithms, life, environment


@pytest.mark.parametrize(
    ("text", "attribute", "expected"),
    [
        ("Ciphers made-up,aes256-ctr", "ciphers", ("aes256-ctr",)),
        ("MACs hmac-sha2-512", "macs", ("hmac-sha2-512",)),
        ("KexAlgorithms sntrup761x25519-sha512,curve25519-sha256", "kex", ("curve25519-sha256",)),
        ("HostKeyAlgorithms ssh-*", "host_key_algorithms", ("ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com")),
        ("Compression yes", "compress", True),
        ("ServerAliveInterval 2m", "keepalive", 120),
        ("ServerAliveCountMax 5", "keepalive_count", 5),
        ("ServerAliveCountMax 0", "keepalive_count", 0),
        ("ConnectTimeout 7", "connect_timeout", 7),
        ("IdentityFile none", "key_files", ()),
    ],
)
async def test_values_for_arguments(text: str, attribute: str, expected: object) -> None:
    assert getattr(apply(await options_of(text)), attribute) == expected


async def test_the_default_changes_by_its_signs() -> None:
    first = apply(await options_of("Ciphers ^aes256-ctr\nMACs -*-etm@*\nHostKeyAlgorithms +ssh-ed25519\n"))
    assert first.ciphers is not None
    assert first.macs is not None
    assert first.ciphers[0] == "aes256-ctr"
    assert len(first.ciphers) > 3
    assert not any("etm" in name for name in first.macs)
    assert not first.keeps_host_key_order
    assert apply(await options_of("HostKeyAlgorithms ^ssh-ed25519\n")).keeps_host_key_order


async def test_what_is_not_sound_is_enabled_by_its_name_and_by_no_pattern() -> None:
    everything = apply(await options_of("HostKeyAlgorithms *\n")).host_key_algorithms
    assert everything is not None
    assert "ssh-rsa" not in everything
    named = apply(await options_of("HostKeyAlgorithms +ssh-rsa\n")).host_key_algorithms
    assert named is not None
    assert named[-1] == "ssh-rsa"


def test_nothing_is_what_nobody_has_configured() -> None:
    assert apply(None) == Applied()
    assert apply_limits(None, trio_ssh.Limits()) == trio_ssh.Limits()


async def test_keys_are_renewed_as_often_as_wanted() -> None:
    limits = apply_limits(await options_of("RekeyLimit 1M 10m"), trio_ssh.Limits())
    assert (limits.rekey_bytes, limits.rekey_seconds) == (1 << 20, 600)
    limits = apply_limits(await options_of("RekeyLimit default none"), trio_ssh.Limits())
    assert limits == trio_ssh.Limits()


async def test_variables_go_along_and_a_refusal_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ:
        monkeypatch.delenv(name) if name.startswith("LC_") else None
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("SECRET", "x")
    server = Server()
    config = await trio_ssh.SSHConfig.from_text(
        f'SendEnv LC_* SECRET -SEC*\nSendEnv NOT_SET\nSetEnv REFUSED=1 MINE="a b"\n{COMMON}'
    )
    async with serving(server) as stream, trio_ssh.connect("alias", sock=stream, config=config) as client:
        await client.run_process("x", env={"MINE": "c"}, capture_stdout=True)
    assert [line for line in server.told if "=" in line] == ["LC_ALL=C", "REFUSED=1", "MINE=c"]


async def test_a_process_without_a_command_runs_the_configured_one() -> None:
    config = await trio_ssh.SSHConfig.from_text(f"RemoteCommand show %h\n{COMMON}")
    async with serving(Server()) as stream, trio_ssh.connect("alias", sock=stream, config=config) as client:
        async with await client.open_process() as process:
            assert await process.stdout.read() == b"show real.example"
        async with await client.open_process("mine") as process:
            assert await process.stdout.read() == b"mine"
