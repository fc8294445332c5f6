"""Whom a client trusts: what it knows, what it is told, and what it says when a key is not the right one."""

from __future__ import annotations

import logging
import os
import stat
import warnings
from collections.abc import Awaitable, Sequence
from pathlib import Path

import pytest
import trio

import trio_ssh
from tests.runtime.helpers import HOST_KEY, ElsewhereSigner, OpenDoor, serving
from trio_ssh.config.trust import load_known_hosts
from trio_ssh.host_keys import KnowsHosts

OTHER_KEY = trio_ssh.Ed25519Key(b"\3" * 32)
FINGERPRINT = HOST_KEY.public_key.fingerprint


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory that holds nothing, and a system that knows no hosts."""
    directory = tmp_path / "home"
    (directory / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setattr("trio_ssh.config.trust.SYSTEM_KNOWN_HOSTS", (str(tmp_path / "ssh_known_hosts"),))
    return directory


def line(name: str, key: trio_ssh.PKey, marker: str = "") -> str:
    return f"{marker}{name} {key.public_key.to_openssh()}\n"


async def connect(
    client: trio_ssh.SSHClient,
    host: str = "example.com",
    port: int = 22,
    known_hosts: trio_ssh.HostKeys | str | Path | list[str | Path] | None = None,
) -> None:
    """Connect `client` to a server that shows `HOST_KEY`, and disconnect; a refusal closes the stream."""
    async with serving() as stream:
        try:
            await client.connect(
                host, port, "user", known_hosts=known_hosts, sock=stream, look_for_keys=False, config=None
            )
        except trio_ssh.HostKeyException as error:
            assert stream.is_closed
            refusal: Exception | None = error
        else:
            refusal = None
            await client.aclose()
    if refusal is not None:
        raise refusal


async def test_an_unknown_host_is_refused_and_the_text_says_what_to_do() -> None:
    async with trio_ssh.SSHClient() as client:
        with pytest.raises(trio_ssh.UnknownHostKeyException) as raised:
            await connect(client)
    error = raised.value
    assert isinstance(error, trio_ssh.HostKeyException)
    assert not isinstance(error, trio_ssh.BadHostKeyException)
    assert (error.hostname, error.key_type, error.fingerprint) == ("example.com", "ssh-ed25519", FINGERPRINT)
    for word in ("example.com is unknown", FINGERPRINT, "ssh-keygen -lf", "known_hosts", "AutoAddPolicy"):
        assert word in str(error)


async def test_a_changed_key_is_another_exception_with_another_text(home: Path) -> None:
    (home / ".ssh" / "known_hosts").write_text("# mine\n" + line("example.com", OTHER_KEY))
    async with trio_ssh.SSHClient() as client:
        client.set_missing_host_key_policy(trio_ssh.AutoAddPolicy)  # which is not asked
        with pytest.raises(trio_ssh.BadHostKeyException) as raised:
            await connect(client)
    error = raised.value
    assert not isinstance(error, trio_ssh.UnknownHostKeyException)
    assert not error.is_revoked
    known = f"{OTHER_KEY.public_key.fingerprint} ({home / '.ssh' / 'known_hosts'}:2)"
    assert error.expected == (known,)
    for word in ("HAS CHANGED", f"shows ssh-ed25519 {FINGERPRINT}", known, "ssh-keygen -R 'example.com' -f FILE"):
        assert word in str(error)


async def test_a_revoked_key_is_never_trusted(home: Path) -> None:
    (home / ".ssh" / "known_hosts").write_text(line("example.com", HOST_KEY) + line("*", HOST_KEY, "@revoked "))
    async with trio_ssh.SSHClient() as client:
        client.set_missing_host_key_policy(trio_ssh.AutoAddPolicy)
        with pytest.raises(trio_ssh.BadHostKeyException, match=r"was REVOKED.*Do not connect") as raised:
            await connect(client)
    assert raised.value.is_revoked
    assert raised.value.expected == ()


@pytest.mark.parametrize("way", ["usual", "system", "loaded", "given"])
async def test_a_line_that_can_not_be_read_is_told_once_and_the_others_count(
    way: str, home: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = home / ".ssh" / "known_hosts" if way == "usual" else tmp_path / "ssh_known_hosts"
    revoked = f"@revoked * {HOST_KEY.public_key.to_openssh()[:-1]}\n"
    path.write_text(f"garbage\x07\n{revoked}{line('example.com', HOST_KEY)}")
    async with trio_ssh.SSHClient() as client:
        if way == "loaded":
            await client.load_host_keys(path)
        await connect(client, known_hosts=path if way == "given" else None)
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == 2
    assert told[0] == f"a line of known_hosts counts for nothing: {path}:1: the line ends before a key"
    assert f"{path}:2: " in told[1]
    assert told[1].endswith(", so the key that it revokes is not refused")


async def test_the_user_s_and_the_system_s_known_hosts_are_read(home: Path, tmp_path: Path) -> None:
    (home / ".ssh" / "known_hosts").write_text(line("mine.example.com", HOST_KEY))
    (tmp_path / "ssh_known_hosts").write_text(line("*.system.example.com", HOST_KEY))
    async with trio_ssh.SSHClient() as client:
        await connect(client, "mine.example.com")
        await connect(client, "a.system.example.com")
        with pytest.raises(trio_ssh.UnknownHostKeyException):
            await connect(client, "elsewhere.example.com")


async def test_a_port_is_part_of_the_name() -> None:
    known = trio_ssh.HostKeys()
    known.add("[example.com]:2222", None, HOST_KEY.public_key)
    async with trio_ssh.SSHClient() as client:
        await connect(client, port=2222, known_hosts=known)
        with pytest.raises(trio_ssh.UnknownHostKeyException) as raised:
            await connect(client, port=22, known_hosts=known)
        assert raised.value.hostname == "example.com"
        with pytest.raises(trio_ssh.UnknownHostKeyException, match=r"\[example.com\]:2223 is unknown"):
            await connect(client, port=2223, known_hosts=known)


async def test_given_files_replace_the_usual_ones(home: Path, tmp_path: Path) -> None:
    (home / ".ssh" / "known_hosts").write_text(line("example.com", OTHER_KEY))
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text(line("one.example.com", HOST_KEY))
    two.write_text(line("example.com", HOST_KEY))
    async with trio_ssh.SSHClient() as client:
        await connect(client, known_hosts=[one, str(two)])
        await connect(client, "one.example.com", known_hosts=one)
        with pytest.raises(trio_ssh.UnknownHostKeyException):
            await connect(client, known_hosts=str(one))


async def test_a_file_that_was_named_must_be_there(tmp_path: Path) -> None:
    async with trio_ssh.SSHClient() as client, serving() as stream:
        with pytest.raises(OSError, match="nowhere"):
            await client.connect("x", username="user", known_hosts=tmp_path / "nowhere", sock=stream)
        assert stream.is_closed, "the stream is the client's, whatever becomes of the connection"


async def test_keys_are_loaded_and_saved_through_the_client(tmp_path: Path) -> None:
    path = tmp_path / "known_hosts"
    path.write_text("# a comment\nnonsense that nobody understands\n" + line("other.example.com", OTHER_KEY))
    path.chmod(0o640)
    async with trio_ssh.SSHClient() as client:
        await client.load_host_keys(path)
        assert client.host_keys_filename == path
        client.set_missing_host_key_policy(trio_ssh.AutoAddPolicy())
        await connect(client)
        text = path.read_text()
        assert text.startswith("# a comment\nnonsense that nobody understands\n")
        assert text.endswith(line("example.com", HOST_KEY))
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        client.set_missing_host_key_policy(trio_ssh.RejectPolicy)
        await connect(client)
        await client.save_host_keys(tmp_path / "copy")
        assert (tmp_path / "copy").read_text() == text
    async with trio_ssh.SSHClient() as client:
        await client.load_system_host_keys(path)
        assert not list(client.get_host_keys().lookup("example.com"))
        await connect(client)
        with pytest.raises(ValueError, match="load_host_keys first"):
            await client.save_host_keys()


async def test_what_was_loaded_replaces_the_usual_files(home: Path, tmp_path: Path) -> None:
    (home / ".ssh" / "known_hosts").write_text(line("example.com", HOST_KEY))
    (tmp_path / "empty").write_text("")
    async with trio_ssh.SSHClient() as client:
        await client.load_host_keys(tmp_path / "empty")
        with pytest.raises(trio_ssh.UnknownHostKeyException):
            await connect(client)
        await client.load_system_host_keys()
        await connect(client)


async def test_keys_can_be_added_by_hand() -> None:
    async with trio_ssh.SSHClient() as client:
        client.get_host_keys().add("example.com", None, HOST_KEY.public_key)
        await connect(client)


async def test_an_accepted_key_is_remembered_without_a_file(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    async with trio_ssh.SSHClient() as client:
        client.set_missing_host_key_policy(trio_ssh.AutoAddPolicy)
        await connect(client)
        client.set_missing_host_key_policy(trio_ssh.RejectPolicy)
        await connect(client)
    assert f"added the host key of example.com: ssh-ed25519 {FINGERPRINT}" in caplog.text


async def test_a_warning_is_given_and_nothing_remembered() -> None:
    async with trio_ssh.SSHClient() as client:
        client.set_missing_host_key_policy(trio_ssh.WarningPolicy)
        for _ in range(2):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                await connect(client)
            assert [FINGERPRINT in str(warning.message) for warning in caught] == [True]


class Deciding(trio_ssh.MissingHostKeyPolicy):
    """Decides as a test says, sync or async."""

    def __init__(self, error: Exception | None = None, *, is_async: bool = False) -> None:
        self._error = error
        self._is_async = is_async
        self.asked: list[tuple[str, trio_ssh.PublicKey]] = []

    def missing_host_key(self, client: KnowsHosts, hostname: str, key: trio_ssh.PublicKey) -> Awaitable[None] | None:
        self.asked.append((hostname, key))
        if self._is_async:
            return self._decide_later()
        return self._decide()

    async def _decide_later(self) -> None:
        await trio.lowlevel.checkpoint()
        self._decide()

    def _decide(self) -> None:
        if self._error is not None:
            raise self._error


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_policy_of_one_s_own_decides(is_async: bool) -> None:
    policy = Deciding(is_async=is_async)
    async with trio_ssh.SSHClient() as client:
        client.set_missing_host_key_policy(policy)
        await connect(client)
    assert policy.asked == [("example.com", HOST_KEY.public_key)]


@pytest.mark.parametrize("is_async", [False, True])
async def test_what_a_policy_raises_comes_out(is_async: bool, caplog: pytest.LogCaptureFixture) -> None:
    async with trio_ssh.SSHClient() as client, serving() as stream:
        client.set_missing_host_key_policy(Deciding(LookupError("mine"), is_async=is_async))
        with pytest.raises(LookupError, match="mine"):
            await client.connect("example.com", username="user", known_hosts=[], sock=stream, look_for_keys=False)
        assert stream.is_closed
        assert client.get_transport() is None
    assert "please report" not in caplog.text


async def test_a_key_that_is_known_in_another_kind_is_asked_for_first() -> None:
    """A server with several keys must not look unknown because it showed another one."""
    rsa = trio_ssh.ECDSAKey.generate()
    known = trio_ssh.HostKeys()
    known.add("example.com", None, rsa.public_key)
    ours, theirs = trio_ssh.testing.memory_pair()
    async with trio.open_nursery() as nursery, trio_ssh.SSHClient() as client:
        nursery.start_soon(lambda: trio_ssh.serve_stream(theirs, OpenDoor(), host_keys=[HOST_KEY, rsa]))
        await client.connect("example.com", username="user", known_hosts=known, sock=ours, look_for_keys=False)
        assert client.get_transport().get_remote_server_key() == rsa.public_key  # type: ignore[union-attr]


async def test_a_host_s_name_is_escaped_wherever_it_is_shown() -> None:
    async with trio_ssh.SSHClient() as client:
        with pytest.raises(trio_ssh.UnknownHostKeyException) as raised:
            await connect(client, "example\x1b[31m.com")
    assert "\x1b" not in str(raised.value)


async def test_saving_to_a_directory_that_is_not_there_says_so(tmp_path: Path) -> None:
    async with trio_ssh.SSHClient() as client:
        with pytest.raises(OSError, match="nowhere"):
            await client.save_host_keys(tmp_path / "nowhere" / "known_hosts")
    assert os.listdir(tmp_path) == ["home"]


# -- keys that can't be saved


async def test_a_key_that_cannot_be_saved_is_neither_accepted_nor_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "known_hosts"
    path.write_text("# mine\n")
    for policy in (trio_ssh.AutoAddPolicy(), trio_ssh.AcceptNewPolicy(path)):
        async with trio_ssh.SSHClient() as client:
            await client.load_host_keys(path)
            client.set_missing_host_key_policy(policy)
            with monkeypatch.context() as patch:
                patch.setattr(os, "fsync", full)
                async with serving() as stream:
                    with pytest.raises(OSError, match="No space"):
                        await client.connect(
                            "example.com", username="user", sock=stream, look_for_keys=False, config=None
                        )
            assert client.get_host_keys().to_text() == "# mine\n"
            with pytest.raises(trio_ssh.UnknownHostKeyException):
                client.set_missing_host_key_policy(trio_ssh.RejectPolicy)
                await connect(client)


async def test_a_cancelled_policy_has_accepted_nothing() -> None:
    async with trio_ssh.SSHClient() as client:
        with trio.CancelScope() as scope:
            scope.cancel()
            await trio_ssh.AutoAddPolicy().missing_host_key(client, "example.com", HOST_KEY.public_key)
        assert scope.cancelled_caught
        assert client.get_host_keys().keys() == ()


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("answer", [True, False, "yes"])
async def test_a_policy_that_returns_something_has_refused(answer: object, is_async: bool) -> None:
    class Returning(trio_ssh.MissingHostKeyPolicy):
        def missing_host_key(self, client: KnowsHosts, hostname: str, key: trio_ssh.PublicKey) -> Awaitable[None]:
            async def later() -> object:
                await trio.lowlevel.checkpoint()
                return answer

            return later() if is_async else answer  # type: ignore[return-value]  # tests what must not happen

    async with trio_ssh.SSHClient() as client, serving() as stream:
        client.set_missing_host_key_policy(Returning)
        with pytest.raises(TypeError, match="the key is refused"):
            await client.connect("example.com", username="user", known_hosts=[], sock=stream, look_for_keys=False)
        assert stream.is_closed


# -- accept-new


@pytest.mark.parametrize("is_hashed", [False, True])
async def test_accept_new_adds_what_is_unknown_and_refuses_what_has_changed(tmp_path: Path, is_hashed: bool) -> None:
    path = tmp_path / "folder" / "known_hosts"
    async with trio_ssh.SSHClient() as client:
        client.set_missing_host_key_policy(trio_ssh.AcceptNewPolicy(path, is_hashed=is_hashed))
        await connect(client, known_hosts=[])
    assert (path.read_text() == line("example.com", HOST_KEY)) is not is_hashed
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    async with trio_ssh.SSHClient() as client:
        await connect(client, known_hosts=path)
        path.write_text(line("example.com", OTHER_KEY))
        client.set_missing_host_key_policy(trio_ssh.AcceptNewPolicy(path))
        with pytest.raises(trio_ssh.BadHostKeyException, match="HAS CHANGED"):
            await connect(client, known_hosts=path)
    assert path.read_text() == line("example.com", OTHER_KEY)


async def test_accept_new_into_the_null_device_accepts_and_leaves_it_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with ``UserKnownHostsFile /dev/null``, which is in many configurations."""
    monkeypatch.setattr(os, "replace", lambda *paths: pytest.fail("the machine would need a new one"))
    async with trio_ssh.SSHClient() as client:
        client.set_missing_host_key_policy(trio_ssh.AcceptNewPolicy(os.devnull))
        await connect(client, known_hosts=[])


# -- pinned fingerprints


@pytest.mark.parametrize(
    "fingerprints",
    [
        (FINGERPRINT,),
        (f" {FINGERPRINT}=",),
        (OTHER_KEY.fingerprint, FINGERPRINT),
        (HOST_KEY.public_key.fingerprint_by("sha512"),),
    ],
)
async def test_a_pinned_key_is_good_and_nothing_is_remembered(fingerprints: tuple[str, ...]) -> None:
    async with trio_ssh.SSHClient() as client:
        client.set_missing_host_key_policy(trio_ssh.PinnedFingerprintPolicy(*fingerprints))
        await connect(client)
        assert client.get_host_keys().keys() == ()


@pytest.mark.parametrize("is_known", [False, True])
async def test_another_key_than_the_pinned_one_is_refused_even_if_it_is_known(is_known: bool) -> None:
    known = trio_ssh.HostKeys()
    if is_known:
        known.add("example.com", None, HOST_KEY.public_key)
    async with trio_ssh.SSHClient() as client:
        client.set_missing_host_key_policy(trio_ssh.PinnedFingerprintPolicy(OTHER_KEY.fingerprint))
        with pytest.raises(trio_ssh.HostKeyException, match=rf"not {OTHER_KEY.fingerprint[:20]}.* was pinned"):
            await connect(client, known_hosts=known)


@pytest.mark.parametrize(
    ("fingerprints", "complaint"),
    [
        ((), "no fingerprint"),
        (("",), "by a sound hash"),
        (("MD5:00:11",), "by a sound hash"),
        (("sha256:AAAA",), "by a sound hash"),
        (("SHA256:",), "cut short"),
        ((FINGERPRINT[:-1],), "cut short"),
        (("SHA256:!!!",), "not base64"),
    ],
)
def test_what_is_no_fingerprint_cannot_be_pinned(fingerprints: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        trio_ssh.PinnedFingerprintPolicy(*fingerprints)


# -- a person


class Person:
    """Answers one thing after the other."""

    def __init__(self, *answers: bool | str, is_async: bool = False) -> None:
        self._answers = list(answers)
        self._is_async = is_async
        self.prompts: list[trio_ssh.HostKeyPrompt] = []

    def __call__(self, prompt: trio_ssh.HostKeyPrompt) -> bool | str | Awaitable[bool | str]:
        self.prompts.append(prompt)
        answer = self._answers.pop(0)

        async def later() -> bool | str:
            await trio.lowlevel.checkpoint()
            return answer

        return later() if self._is_async else answer


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("answers", [[True], ["yes"], [" YES\n"], [FINGERPRINT], ["perhaps", "", "yes"]], ids=str)
async def test_a_person_says_yes_and_the_key_is_put_on_record(answers: list[bool | str], is_async: bool) -> None:
    person = Person(*answers, is_async=is_async)
    async with trio_ssh.SSHClient() as client:
        client.set_missing_host_key_policy(trio_ssh.PromptPolicy(person))
        await connect(client)
        await connect(client)
    assert len(person.prompts) == len(answers)
    [prompt, *_] = person.prompts
    assert (prompt.hostname, prompt.fingerprint) == ("example.com", FINGERPRINT)
    for part in ("'example.com' can't be established", FINGERPRINT, HOST_KEY.public_key.randomart(), "yes/no"):
        assert part in prompt.text


@pytest.mark.parametrize(
    "answers", [[False], ["no"], [OTHER_KEY.fingerprint, "no"], ["", "y", "perhaps"], [FINGERPRINT[:-2]] * 3], ids=str
)
async def test_a_person_says_no_or_nothing_that_means_yes(answers: list[bool | str]) -> None:
    person = Person(*answers)
    async with trio_ssh.SSHClient() as client:
        client.set_missing_host_key_policy(trio_ssh.PromptPolicy(person))
        with pytest.raises(trio_ssh.UnknownHostKeyException):
            await connect(client)
        assert client.get_host_keys().keys() == ()
    assert len(person.prompts) == len(answers)


# -- the DNS


def records(*keys: trio_ssh.PKey) -> list[trio_ssh.SSHFPRecord]:
    return [record for key in keys for record in trio_ssh.SSHFPRecord.of(key.public_key)]


def dns(found: list[trio_ssh.SSHFPRecord], *, is_validated: bool) -> trio_ssh.host_keys.SSHFPResolver:
    async def resolve(host: str) -> trio_ssh.SSHFPAnswer:
        await trio.lowlevel.checkpoint()
        assert host == "example.com"
        return trio_ssh.SSHFPAnswer(found, is_validated)

    return resolve


ECDSA_KEY = trio_ssh.ECDSAKey.generate()
SHA1, SHA256 = records(HOST_KEY)
OTHER_SHA1, OTHER_SHA256 = records(OTHER_KEY)


@pytest.mark.parametrize(
    "found",
    [[SHA256], [SHA1, SHA256], [SHA1], [OTHER_SHA1, SHA256], [OTHER_SHA256, SHA256], [*records(ECDSA_KEY), SHA256]],
)
async def test_what_dnssec_proves_is_believed(found: list[trio_ssh.SSHFPRecord]) -> None:
    async with trio_ssh.SSHClient() as client:
        client.set_missing_host_key_policy(trio_ssh.SSHFPPolicy(dns(found, is_validated=True)))
        await connect(client, port=2222)
        assert client.get_host_keys().keys() == ()


@pytest.mark.parametrize("is_validated", [False, True])
@pytest.mark.parametrize("found", [[OTHER_SHA256], [OTHER_SHA256, SHA1], [OTHER_SHA1]])
async def test_the_fingerprint_of_another_key_refuses_whoever_else_would_be_asked(
    found: list[trio_ssh.SSHFPRecord], is_validated: bool
) -> None:
    policy = trio_ssh.SSHFPPolicy(dns(found, is_validated=is_validated), trio_ssh.AutoAddPolicy())
    async with trio_ssh.SSHClient() as client:
        client.set_missing_host_key_policy(policy)
        with pytest.raises(trio_ssh.HostKeyException, match="the DNS has the fingerprint of another one"):
            await connect(client)


@pytest.mark.parametrize(
    ("found", "is_validated", "hint"),
    [([SHA256], False, "which nothing proves"), ([], True, ""), (records(ECDSA_KEY), True, "")],
)
async def test_what_the_dns_does_not_prove_is_a_hint_for_whoever_is_asked(
    found: list[trio_ssh.SSHFPRecord], is_validated: bool, hint: str
) -> None:
    resolve = dns(found, is_validated=is_validated)
    person = Person("yes")
    async with trio_ssh.SSHClient() as client:
        client.set_missing_host_key_policy(trio_ssh.SSHFPPolicy(resolve))
        with pytest.raises(trio_ssh.UnknownHostKeyException):
            await connect(client)
        client.set_missing_host_key_policy(trio_ssh.SSHFPPolicy(resolve, trio_ssh.PromptPolicy(person)))
        await connect(client)
    assert hint in person.prompts[0].text
    assert bool(hint) is bool(person.prompts[0].hint)


async def test_a_resolver_that_fails_has_refused() -> None:
    async def resolve(host: str) -> trio_ssh.SSHFPAnswer:
        raise OSError("no answer")

    async with trio_ssh.SSHClient() as client, serving() as stream:
        client.set_missing_host_key_policy(trio_ssh.SSHFPPolicy(resolve, trio_ssh.AutoAddPolicy()))
        with pytest.raises(OSError, match="no answer"):
            await client.connect("example.com", username="user", known_hosts=[], sock=stream, look_for_keys=False)


def test_records_are_read_as_zones_and_the_wire_have_them() -> None:
    assert trio_ssh.SSHFPRecord.from_text(str(SHA256)) == SHA256
    assert (
        trio_ssh.SSHFPRecord.from_text(f" 4 2 {SHA256.fingerprint.hex()[:10]} {SHA256.fingerprint.hex()[10:]}")
        == SHA256
    )
    assert trio_ssh.SSHFPRecord.from_rdata(b"\x04\x02" + SHA256.fingerprint) == SHA256
    for text in ("", "4", "a b c", "4 2 xyz"):
        with pytest.raises(ValueError, match="no SSHFP record"):
            trio_ssh.SSHFPRecord.from_text(text)
    with pytest.raises(ValueError, match="of 2 bytes"):
        trio_ssh.SSHFPRecord.from_rdata(b"\4\2")
    assert trio_ssh.SSHFPRecord.of(trio_ssh.MLDSA44Ed25519Key.generate().public_key) == ()


# -- authorities, and names


def certified(
    authority: trio_ssh.PKey, principals: Sequence[str] = ("example.com",), key: trio_ssh.PKey = HOST_KEY
) -> trio_ssh.CertifiedKey:
    issued = trio_ssh.Certificate.issue_for_host(
        authority, key.public_key, key_id="x", principals=principals, valid_before=trio_ssh.Certificate.FOREVER
    )
    return trio_ssh.CertifiedKey(key, issued)


async def connect_certified(
    key: trio_ssh.CertifiedKey,
    known: str,
    policy: trio_ssh.MissingHostKeyPolicy | None = None,
    port: int = 22,
    *,
    ours_enables: trio_ssh.SecurityOptions | None = None,
    theirs_enables: trio_ssh.SecurityOptions | None = None,
) -> bool:
    """Connect to a server with a certificate; tell whether it was shown."""
    ours, theirs = trio_ssh.testing.memory_pair()
    shown: list[str] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trio_ssh.serve_stream(theirs, OpenDoor(), host_keys=[key], security=theirs_enables))
        async with trio_ssh.connect(
            "example.com",
            port,
            "user",
            known_hosts=trio_ssh.HostKeys.from_text(known),
            policy=policy,
            sock=ours,
            look_for_keys=False,
            config=None,
            security=ours_enables,
        ) as client:
            transport = client.get_transport()
            assert transport is not None
            assert transport.get_remote_server_key() == key.public_key
            negotiated = transport.get_negotiated()
            assert negotiated is not None
            shown.append(negotiated.host_key_algorithm)
    return "cert" in shown[0]


@pytest.mark.parametrize("port", [22, 2222])
async def test_a_certified_host_is_known_by_its_authority(port: int) -> None:
    authority = line("*.com", OTHER_KEY, "@cert-authority ")
    assert await connect_certified(certified(OTHER_KEY), authority, port=port)
    assert not await connect_certified(certified(OTHER_KEY), line("example.com", HOST_KEY), port=port)


@pytest.mark.parametrize(
    ("key", "names", "note"),
    [
        (certified(ECDSA_KEY), "*.com", "no authority here"),
        (certified(OTHER_KEY, ["other.com"]), "*.com", "not for example.com"),
        (certified(OTHER_KEY), "*.org", ""),
    ],
)
async def test_a_certificate_of_no_use_leaves_the_host_unknown(
    key: trio_ssh.CertifiedKey, names: str, note: str
) -> None:
    with pytest.RaisesGroup(trio_ssh.UnknownHostKeyException) as raised:
        await connect_certified(key, line(names, OTHER_KEY, "@cert-authority "))
    notes = getattr(raised.value.exceptions[0], "__notes__", [])
    assert [note in each for each in notes] == [True] * bool(note)


async def test_a_certificate_is_shown_unless_either_side_has_disabled_it() -> None:
    known = line("example.com", OTHER_KEY, "@cert-authority ") + line("example.com", HOST_KEY)
    without = trio_ssh.SecurityOptions(host_key_algorithms="-*-cert-*")
    assert await connect_certified(certified(OTHER_KEY), known)
    assert not await connect_certified(certified(OTHER_KEY), known, ours_enables=without)
    assert not await connect_certified(certified(OTHER_KEY), known, theirs_enables=without)


async def test_a_pinned_fingerprint_counts_for_a_certified_key_too() -> None:
    authority = line("*.com", OTHER_KEY, "@cert-authority ")
    pinned = trio_ssh.PinnedFingerprintPolicy(FINGERPRINT)
    assert await connect_certified(certified(OTHER_KEY), authority, pinned)
    with pytest.RaisesGroup(trio_ssh.HostKeyException):
        await connect_certified(
            certified(OTHER_KEY), authority, trio_ssh.PinnedFingerprintPolicy(OTHER_KEY.fingerprint)
        )


async def test_a_host_key_that_is_elsewhere_cannot_be_served() -> None:
    key = trio_ssh.CertifiedKey(ElsewhereSigner(HOST_KEY), certified(OTHER_KEY).certificate)
    ours, _ = trio_ssh.testing.memory_pair()
    with pytest.raises(TypeError, match="at hand"):
        await trio_ssh.serve_stream(ours, OpenDoor(), host_keys=[key])


async def test_an_alias_stands_for_the_name_and_the_port() -> None:
    known = trio_ssh.HostKeys()
    known.add("database", None, HOST_KEY.public_key)
    async with (
        serving() as stream,
        trio_ssh.connect(
            "example.com",
            2222,
            "user",
            known_hosts=known,
            host_key_alias="DataBase",
            sock=stream,
            look_for_keys=False,
            config=None,
        ),
    ):
        pass


async def test_both_of_the_user_s_files_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "known_hosts2").write_text(f"@revoked * {HOST_KEY.public_key.to_openssh()}\n")
    known = await load_known_hosts(None)
    assert known.check("host", HOST_KEY.public_key) is trio_ssh.HostKeyStatus.REVOKED
