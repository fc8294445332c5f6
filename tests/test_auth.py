"""Logging in: what is tried, in which order, and what the report says when nothing of it will do."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

import trio_ssh
from tests.keys.tokens import token
from tests.runtime.helpers import HOST_KEY, KNOWN_HOST, USER_KEY, ElsewhereSigner, OpenDoor, serving
from trio_ssh.core.questions import CheckInteractiveResponse, CheckPassword, SignatureWanted
from trio_ssh.credentials import Credentials, Secret
from trio_ssh.errors import AuthOutcome
from trio_ssh.testing import memory_pair, open_memory_client
from trio_ssh.wire.connection import EnvironmentRequest, ExecRequest

ECDSA_KEY = trio_ssh.ECDSAKey.generate()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home directory without keys."""
    directory = tmp_path / "home"
    (directory / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(directory))
    monkeypatch.setattr("trio_ssh.keys.container._ROUNDS", 1)  # a tenth of a second less for each passphrase
    return directory


class Recording(trio_ssh.ServerInterface):
    """Notes every attempt, and lets in whoever comes with what it was told."""

    def __init__(self, *, key: trio_ssh.PKey | None = None, password: str | None = None, allowed: str = "") -> None:
        self._key = key
        self._password = password
        self._allowed = allowed
        self.attempts: list[str] = []

    def get_allowed_auths(self, username: str) -> Sequence[str] | str:
        return self._allowed or super().get_allowed_auths(username)  # type: ignore[return-value]

    def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
        self.attempts.append("none")
        return trio_ssh.AUTH_FAILED

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        self.attempts.append(f"publickey {key.key_type}")
        is_right = self._key is not None and key == self._key.public_key
        return trio_ssh.AUTH_SUCCESSFUL if is_right else trio_ssh.AUTH_FAILED

    def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        self.attempts.append(f"password {password}")
        return trio_ssh.AUTH_SUCCESSFUL if password == self._password else trio_ssh.AUTH_FAILED

    def check_auth_interactive(self, username: str, submethods: str) -> trio_ssh.InteractiveQuery:
        self.attempts.append("keyboard-interactive")
        return trio_ssh.InteractiveQuery("", "", ["Password: "])

    def check_auth_interactive_response(self, responses: Sequence[str]) -> trio_ssh.AuthResult:
        self.attempts.append(f"response {' '.join(responses)}")
        return trio_ssh.AUTH_SUCCESSFUL if responses == (self._password,) else trio_ssh.AUTH_FAILED


async def log_in(server: trio_ssh.ServerInterface, **credentials: object) -> None:
    """Connect with credentials, looking for keys as a user's client does; and disconnect."""
    async with serving(server) as stream:
        refusal: Exception | None = None
        async with trio_ssh.SSHClient() as client:
            try:
                await client.connect("memory", username="user", known_hosts=KNOWN_HOST, sock=stream, **credentials)  # type: ignore[arg-type]
            except (trio_ssh.SSHException, KeyError, TypeError) as error:
                refusal = error
                assert stream.is_closed
    if refusal is not None:
        raise refusal


# -- what is tried


async def test_keys_come_first_and_the_right_one_is_enough() -> None:
    server = Recording(key=USER_KEY, password="x")
    await log_in(server, pkey=[ECDSA_KEY, USER_KEY], password="x")
    assert server.attempts == ["publickey ecdsa-sha2-nistp256", "publickey ssh-ed25519"]


async def test_a_key_that_is_elsewhere_signs_only_what_the_server_wants() -> None:
    server = Recording(key=USER_KEY)
    wrong, right = ElsewhereSigner(ECDSA_KEY), ElsewhereSigner(USER_KEY)
    await log_in(server, pkey=[wrong, right])
    assert server.attempts == ["publickey ecdsa-sha2-nistp256", "publickey ssh-ed25519", "publickey ssh-ed25519"]
    assert (wrong.signatures, right.signatures) == (0, 1)


async def test_the_password_comes_behind_the_keys() -> None:
    server = Recording(password="x")
    await log_in(server, pkey=USER_KEY, password="x")
    assert server.attempts == ["publickey ssh-ed25519", "password x"]


async def test_prompts_come_before_the_password() -> None:
    server = Recording(password="x")
    await log_in(server, prompt_handler=lambda *prompts: ["x"], password="y")
    assert server.attempts == ["keyboard-interactive", "response x"]


class PromptsOnly(Recording):
    """Takes a password as the answer to a prompt, and in no other way."""

    def __init__(self, prompts: Sequence[trio_ssh.Prompt]) -> None:
        super().__init__(password="x", allowed="keyboard-interactive")
        self._prompts = prompts

    def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_FAILED

    def check_auth_interactive(self, username: str, submethods: str) -> trio_ssh.InteractiveQuery:
        return trio_ssh.InteractiveQuery("", "", self._prompts)


async def test_a_password_answers_the_one_hidden_prompt_of_a_server_that_asks_so_only() -> None:
    server = PromptsOnly([trio_ssh.Prompt("Password: ", echo=False)])
    await log_in(server, password="x")
    assert server.attempts == ["response x"]


@pytest.mark.parametrize("shown", [[True], [False, False], []], ids=["shown", "two", "none"])
async def test_a_password_answers_no_prompt_that_would_show_it_and_none_of_two(shown: list[bool]) -> None:
    server = PromptsOnly([trio_ssh.Prompt("Favourite colour: ", echo=echo) for echo in shown])
    with pytest.raises(trio_ssh.AuthenticationException):
        await log_in(server, password="x")
    assert not [attempt for attempt in server.attempts if "x" in attempt]


async def test_without_credentials_the_server_is_asked_what_it_wants() -> None:
    server = Recording()
    with pytest.raises(trio_ssh.AuthenticationException) as raised:
        await log_in(server)
    assert server.attempts == ["none"]
    assert raised.value.allowed == ("publickey", "password", "keyboard-interactive")


async def test_keys_in_the_usual_place_are_found(home: Path) -> None:
    USER_KEY.write_private_key_file(home / ".ssh" / "id_ed25519")
    server = Recording(key=USER_KEY)
    await log_in(server)
    assert server.attempts == ["publickey ssh-ed25519"]
    server = Recording(key=USER_KEY)
    with pytest.raises(trio_ssh.AuthenticationException):
        await log_in(server, look_for_keys=False)
    server = Recording(key=USER_KEY)
    with pytest.raises(trio_ssh.AuthenticationException):
        await log_in(server, pkey=ECDSA_KEY)
    assert server.attempts == ["publickey ecdsa-sha2-nistp256"], "a given key replaces the usual ones"


async def test_a_key_file_opens_with_the_passphrase_or_else_the_password(tmp_path: Path) -> None:
    path = tmp_path / "key"
    USER_KEY.write_private_key_file(path, "open sesame")
    await log_in(Recording(key=USER_KEY), key_filename=path, passphrase="open sesame")
    await log_in(Recording(key=USER_KEY), key_filename=[str(path)], password="open sesame")


# -- what is said


async def test_the_report_tells_every_attempt_and_what_is_still_allowed(home: Path) -> None:
    (home / ".ssh" / "id_rsa").write_text("damaged")
    USER_KEY.write_private_key_file(home / ".ssh" / "id_ed25519", "secret passphrase")
    ECDSA_KEY.write_private_key_file(home / ".ssh" / "id_ecdsa")
    with pytest.raises(trio_ssh.AuthenticationException) as raised:
        await log_in(Recording(), prompt_handler=lambda *prompts: ["wrong"], password="also wrong", passphrase=None)
    error = raised.value
    text = str(error)
    assert text.startswith("could not log in as user. tried: publickey ecdsa-sha2-nistp256 SHA256:")
    assert f"({home / '.ssh' / 'id_ecdsa'}): refused" in text
    assert "keyboard-interactive: refused; password: refused" in text
    assert f"{home / '.ssh' / 'id_rsa'} was not tried" in text
    assert f"{home / '.ssh' / 'id_ed25519'} was not tried" in text
    assert text.endswith("the server still allows: publickey, password, keyboard-interactive")
    assert "wrong" not in text.replace("wrong passphrase", "")
    assert len(error.tried) == 5
    assert error.allowed == ("publickey", "password", "keyboard-interactive")


async def test_an_encrypted_key_in_the_usual_place_is_told_of(home: Path) -> None:
    USER_KEY.write_private_key_file(home / ".ssh" / "id_ed25519", "secret")
    with pytest.raises(
        trio_ssh.AuthenticationException, match="was not tried: it is encrypted, and no passphrase was given"
    ):
        await log_in(Recording())


@pytest.mark.parametrize(
    ("allowed", "hint"),
    [("publickey", "pass pkey= or key_filename="), ("password", "pass password="), ("gssapi-with-mic", "")],
)
async def test_a_hint_says_what_is_missing(allowed: str, hint: str) -> None:
    with pytest.raises(trio_ssh.AuthenticationException) as raised:
        await log_in(Recording(allowed=allowed), look_for_keys=False)
    assert hint in str(raised.value)
    assert f"the server still allows: {allowed}" in str(raised.value)


async def test_a_password_that_was_refused_is_what_is_told_first() -> None:
    with pytest.raises(trio_ssh.AuthenticationException, match="could not log in as user: the password was refused"):
        await log_in(Recording(password="right"), password="wrong", look_for_keys=False)


async def test_a_server_that_hangs_up_after_too_many_attempts_is_part_of_the_report() -> None:
    keys = [trio_ssh.Ed25519Key.generate() for _ in range(8)]
    with pytest.raises(
        trio_ssh.AuthenticationException, match="could not log in as user: the peer disconnected"
    ) as raised:
        await log_in(Recording(), pkey=keys)
    assert "too many authentication failures" in str(raised.value)
    assert "6 keys were offered" in str(raised.value)
    assert "identities_only=True (IdentitiesOnly yes)" in str(raised.value)
    assert len(raised.value.tried) == 6
    assert [attempt.outcome for attempt in raised.value.attempts] == [*[AuthOutcome.REFUSED] * 5, AuthOutcome.LOST]
    assert [attempt.fingerprint for attempt in raised.value.attempts] == [key.fingerprint for key in keys[:6]]
    assert isinstance(raised.value.__cause__, trio_ssh.PeerDisconnected)


async def test_methods_that_a_server_names_are_shown_escaped() -> None:
    with pytest.raises(trio_ssh.AuthenticationException) as raised:
        await log_in(Recording(allowed="\x1b[31mred,password"), look_for_keys=False)
    assert "\x1b" not in str(raised.value)


async def test_a_user_s_name_is_shown_escaped() -> None:
    with pytest.raises(trio_ssh.AuthenticationException) as raised:
        async with open_memory_client(Recording(), username="al\x1b[31mice"):
            raise AssertionError("let in")
    assert r"al\x1b[31mice" in str(raised.value)
    assert "\x1b" not in str(raised.value)


async def test_prompts_are_shown_escaped() -> None:
    class Painting(OpenDoor):
        async def check_auth_interactive(self, username: str, submethods: str) -> trio_ssh.InteractiveQuery:
            await trio.lowlevel.checkpoint()
            return trio_ssh.InteractiveQuery("\x1b[2J", "\x07", ["\u202eterces"])

    shown: list[str] = []

    def answer(title: str, instructions: str, prompts: Sequence[trio_ssh.Prompt]) -> list[str]:
        shown.extend((title, instructions, *(prompt.text for prompt in prompts)))
        return ["x"] * len(prompts)

    await log_in(Painting(), prompt_handler=answer)
    assert shown == [r"\x1b[2J", r"\x07", r"\u202eterces"]


# -- key files that won't do


async def expect_key_error(
    text: str, error: type[Exception] = trio_ssh.KeyFileException, **credentials: object
) -> None:
    with pytest.raises(error, match=text):
        await log_in(OpenDoor(), **credentials)


async def test_a_missing_key_file_is_named(tmp_path: Path) -> None:
    await expect_key_error("nowhere: there is no such file.*ssh-keygen", key_filename=tmp_path / "nowhere")


async def test_a_malformed_key_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("not a key\n")
    (tmp_path / "key").chmod(0o600)
    await expect_key_error(f"{tmp_path}/key: ", key_filename=str(tmp_path / "key"))


async def test_a_public_key_in_the_place_of_a_private_one_is_recognized(tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(USER_KEY.public_key.to_openssh() + "\n")
    await expect_key_error("public", key_filename=tmp_path / "key.pub")


async def test_an_encrypted_key_file_wants_a_passphrase(tmp_path: Path) -> None:
    USER_KEY.write_private_key_file(tmp_path / "key", "secret")
    await expect_key_error("passphrase", trio_ssh.PasswordRequiredException, key_filename=tmp_path / "key")
    await expect_key_error("wrong passphrase", key_filename=tmp_path / "key", passphrase="terces")


async def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    USER_KEY.write_private_key_file(tmp_path / "key")
    (tmp_path / "key").chmod(0o644)
    await expect_key_error("0644 are too open.*chmod 600", key_filename=tmp_path / "key")


# -- secrets


async def test_no_secret_is_shown_or_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "hunter2 hunter2"
    shown: list[str] = []
    for credentials in ({"password": secret}, {"prompt_handler": lambda *prompts: [secret]}):
        try:
            await log_in(Recording(password=None), **credentials)
        except trio_ssh.AuthenticationException as error:
            shown.extend((str(error), repr(error), repr(error.tried), repr(error.__cause__)))
    server = Recording(password=secret)
    await log_in(server, password=secret)
    shown.extend((repr(server.transport), caplog.text))
    assert shown
    assert not [text for text in shown if "hunter2" in text]


def test_what_holds_secrets_does_not_show_them(tmp_path: Path) -> None:
    pem = USER_KEY.to_openssh().decode()
    for value in (
        Credentials(password=Secret("hunter2")),
        Secret("hunter2"),
        CheckPassword("user", "hunter2"),
        CheckInteractiveResponse("user", ("hunter2",)),
        SignatureWanted(USER_KEY, b"hunter2", "ssh-ed25519"),
        USER_KEY,
        HOST_KEY,
        trio_ssh.connect("example.com", password="hunter2", passphrase="hunter2", pkey=USER_KEY),
    ):
        assert "hunter2" not in repr(value)
        assert pem[60:100] not in repr(value)


# -- secrets that are asked for


class Asked:
    """A secret that takes its time, and counts how often it is asked for."""

    def __init__(self, secret: str | None) -> None:
        self.secret = secret
        self.times = 0

    async def __call__(self) -> str | None:
        await trio.lowlevel.checkpoint()
        self.times += 1
        return self.secret


async def test_a_password_is_asked_for_once_and_only_when_the_server_wants_it() -> None:
    asked = Asked("x")
    await log_in(Recording(key=USER_KEY), pkey=USER_KEY, password=asked)
    assert asked.times == 0
    await log_in(Recording(password="x"), pkey=USER_KEY, password=asked)
    assert asked.times == 1
    asked = Asked("wrong")
    with pytest.raises(trio_ssh.AuthenticationException):
        await log_in(Recording(password="x"), password=asked, allow_agent=False)
    assert asked.times == 1
    await log_in(PromptsOnly([trio_ssh.Prompt("Password: ", echo=False)]), password=lambda: "x")


async def test_whoever_is_asked_for_a_password_may_give_up() -> None:
    server = Recording(password="x")
    with pytest.raises(trio_ssh.AuthenticationException, match="whoever was asked for it gave none"):
        await log_in(server, password=Asked(None))
    assert server.attempts == ["none"]


async def test_what_asking_raises_is_raised() -> None:
    def fail() -> str:
        raise KeyError("no terminal")

    with pytest.raises(KeyError, match="no terminal"):
        await log_in(Recording(password="x"), password=fail)


async def test_a_secret_is_a_text() -> None:
    with pytest.raises(TypeError, match="a secret is a str"):
        await log_in(Recording(password="x"), password=lambda: b"x")


def locked_key(path: Path, key: trio_ssh.PKey, passphrase: str = "secret") -> Path:
    key.write_private_key_file(path, passphrase)
    path.with_name(f"{path.name}.pub").write_text(key.public_key.to_openssh() + "\n")
    return path


async def test_a_passphrase_is_asked_for_when_the_server_wants_the_key(home: Path) -> None:
    locked_key(home / ".ssh" / "id_ed25519", USER_KEY)
    asked = Asked("secret")
    await log_in(Recording(password="x"), passphrase=asked, password="x")
    assert asked.times == 0, "the server didn't want the key"
    await log_in(Recording(key=USER_KEY), passphrase=asked)
    assert asked.times == 1
    named = locked_key(home / "named", ECDSA_KEY)
    await log_in(Recording(key=ECDSA_KEY), key_filename=named, passphrase=Asked("secret"))


async def test_a_locked_file_shows_its_public_half_without_another(home: Path) -> None:
    USER_KEY.write_private_key_file(home / ".ssh" / "id_ed25519", "secret")
    asked = Asked("secret")
    await log_in(Recording(password="x"), passphrase=asked, password="x")
    assert asked.times == 0
    await log_in(Recording(key=USER_KEY), passphrase=asked)
    assert asked.times == 1


async def test_a_passphrase_is_asked_for_at_once_where_nothing_tells_which_key_it_is(tmp_path: Path) -> None:
    """PEM shows nothing of what it holds."""
    (tmp_path / "key").write_bytes(ECDSA_KEY.to_pem("secret"))
    (tmp_path / "key").chmod(0o600)
    asked = Asked("secret")
    await log_in(Recording(key=ECDSA_KEY), key_filename=tmp_path / "key", passphrase=asked)
    assert asked.times == 1
    await expect_key_error("wrong passphrase", key_filename=tmp_path / "key", passphrase=Asked("terces"))
    await expect_key_error(
        "passphrase", trio_ssh.PasswordRequiredException, key_filename=tmp_path / "key", passphrase=Asked(None)
    )


@pytest.mark.parametrize(
    ("passphrase", "remark"), [("terces", "wrong passphrase"), (None, "its passphrase was not given")]
)
async def test_a_key_that_stays_locked_is_told_of_and_the_next_is_tried(
    home: Path, passphrase: str | None, remark: str
) -> None:
    locked_key(home / ".ssh" / "id_ed25519", USER_KEY)
    server = Recording(key=USER_KEY)
    with pytest.raises(trio_ssh.AuthenticationException, match=remark) as raised:
        await log_in(server, passphrase=Asked(passphrase), password="x")
    assert [attempt.outcome for attempt in raised.value.attempts] == [AuthOutcome.NOT_SIGNED, AuthOutcome.REFUSED]
    assert server.attempts[-1] == "password x"


async def test_a_locked_file_beside_another_s_public_key_does_not_sign(home: Path) -> None:
    locked_key(home / ".ssh" / "id_ed25519", ECDSA_KEY)
    (home / ".ssh" / "id_ed25519.pub").write_text(USER_KEY.public_key.to_openssh() + "\n")
    with pytest.raises(trio_ssh.AuthenticationException, match="holds another key than the one that was shown"):
        await log_in(Recording(key=USER_KEY), passphrase=Asked("secret"))


# -- the report


async def test_an_attempt_is_a_value(home: Path) -> None:
    USER_KEY.write_private_key_file(home / ".ssh" / "id_ed25519")
    with pytest.raises(trio_ssh.AuthenticationException) as raised:
        await log_in(Recording(), password="wrong")
    key, password = raised.value.attempts
    assert key == trio_ssh.AuthAttempt(
        method="publickey",
        what=key.what,
        outcome=AuthOutcome.REFUSED,
        algorithm="ssh-ed25519",
        fingerprint=USER_KEY.fingerprint,
        source=str(home / ".ssh" / "id_ed25519"),
        allowed=("publickey", "password", "keyboard-interactive"),
    )
    assert (password.method, password.outcome) == ("password", AuthOutcome.REFUSED)
    assert raised.value.tried[:2] == (str(key), str(password))


async def test_what_the_server_does_not_allow_is_told_as_not_tried() -> None:
    with pytest.raises(trio_ssh.AuthenticationException) as raised:
        await log_in(Recording(allowed="publickey"), pkey=USER_KEY, password="x", prompt_handler=lambda *args: [])
    text = str(raised.value)
    assert "password was not tried: the server doesn't allow it" in text
    assert "keyboard-interactive was not tried: the server doesn't allow it" in text
    assert [attempt.method for attempt in raised.value.attempts] == ["publickey"]


class WantsMore(Recording):
    """A key is right, and not enough."""

    def get_allowed_auths(self, username: str) -> Sequence[str] | str:
        return super().get_allowed_auths(username) if self.completed_auths else "publickey"

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        super().check_auth_publickey(username, key)
        return trio_ssh.AUTH_PARTIALLY_SUCCESSFUL


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [("password", "pass password="), ("keyboard-interactive", "pass prompt_handler="), ("hostbased", "")],
)
async def test_a_partial_success_is_told_with_what_is_wanted_besides(wanted: str, hint: str) -> None:
    with pytest.raises(trio_ssh.AuthenticationException) as raised:
        await log_in(WantsMore(allowed=wanted), pkey=USER_KEY)
    text = str(raised.value)
    assert "what it accepted is not enough for this server" in text
    assert hint in text
    assert "accepted, but more is wanted" in text
    assert raised.value.allowed == (wanted,)
    assert raised.value.attempts[0].outcome is AuthOutcome.PARTIAL


async def test_a_server_that_hangs_up_in_mid_list_leaves_the_account_of_what_was_tried() -> None:
    class HangsUp(Recording):
        def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
            self.transport._engine.fail(trio_ssh.ConnectionLost("pulled"))
            return trio_ssh.AUTH_FAILED

    with pytest.raises(trio_ssh.AuthenticationException, match="could not log in as user: the ") as raised:
        await log_in(HangsUp(), pkey=USER_KEY, password="x")
    assert [attempt.outcome for attempt in raised.value.attempts] == [AuthOutcome.REFUSED, AuthOutcome.LOST]
    assert "keys were offered" not in str(raised.value)


# -- passwords that have expired


class Expired(Recording):
    """Every password has expired; ``new`` may take its place."""

    def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        super().check_auth_password(username, password)
        return trio_ssh.AUTH_PASSWORD_EXPIRED

    async def check_auth_password_change(self, username: str, password: str, new_password: str) -> trio_ssh.AuthResult:
        await trio.lowlevel.checkpoint()
        self.attempts.append(f"change {password} {new_password}")
        return trio_ssh.AUTH_SUCCESSFUL if new_password == "new" else trio_ssh.AUTH_PASSWORD_EXPIRED


async def test_an_expired_password_is_changed() -> None:
    prompts: list[str] = []
    answers = ["worse", "new"]

    async def choose(prompt: str) -> str:
        await trio.lowlevel.checkpoint()
        prompts.append(prompt)
        return answers.pop(0)

    server = Expired()
    await log_in(server, password="old", new_password=choose)
    assert server.attempts == ["password old", "change old worse", "change old new"]
    assert prompts == ["Your password has expired. Choose a new one."] * 2


@pytest.mark.parametrize("new_password", [None, lambda prompt: None])
async def test_an_expired_password_that_nobody_changes_is_told(new_password: object) -> None:
    with pytest.raises(trio_ssh.AuthenticationException, match="the password has expired and must be changed"):
        await log_in(Expired(allowed="password"), password="old", new_password=new_password)


async def test_a_transport_changes_a_password_too() -> None:
    async with serving(Expired()) as stream, trio_ssh.Transport(stream) as transport:
        await transport.start_client(check_host_key=lambda key: None)
        await transport.auth_password("user", "old", new_password=lambda prompt: "new")
        assert transport.is_authenticated()


# -- certificates

AUTHORITY = trio_ssh.Ed25519Key.generate()


def certificate_of(key: trio_ssh.PKey, **changed: Any) -> trio_ssh.Certificate:
    arguments: dict[str, Any] = {"key_id": "x", "principals": ["user"], "valid_before": 4_000_000_000}
    return trio_ssh.Certificate.issue_for_user(AUTHORITY, key.public_key, **(arguments | changed))


class Believes(Recording):
    """Lets in whom an authority certifies."""

    def check_auth_certificate(self, username: str, certificate: trio_ssh.Certificate) -> trio_ssh.AuthResult:
        self.attempts.append("certificate")
        certificate.check_for_user(username, authorities=[AUTHORITY.public_key], now=1_000_000_000)
        self.restrict(trio_ssh.KeyRestrictions.of_certificate(certificate))
        return trio_ssh.AUTH_SUCCESSFUL


async def test_a_key_that_has_a_certificate_shows_it_first() -> None:
    key = trio_ssh.Ed25519Key.generate()
    key.load_certificate(certificate_of(key, force_command="true"))
    server = Believes()
    await log_in(server, pkey=key)
    assert server.attempts == ["certificate"]
    assert server.restrictions == trio_ssh.KeyRestrictions(force_command="true")
    server = Believes(key=USER_KEY)
    key = trio_ssh.Ed25519Key.generate()
    key.load_certificate(certificate_of(key, principals=["somebody"]))
    with pytest.raises(trio_ssh.AuthenticationException, match="with its certificate"):
        await log_in(server, pkey=key)
    assert server.attempts == ["certificate", "publickey ssh-ed25519"]
    assert server.restrictions is None


class Careless(trio_ssh.ServerInterface):
    """Looks at the authority of a certificate, and at nothing else."""

    def check_auth_certificate(self, username: str, certificate: trio_ssh.Certificate) -> trio_ssh.AuthResult:
        assert certificate.authority == AUTHORITY.public_key
        return trio_ssh.AUTH_SUCCESSFUL


@pytest.mark.parametrize(
    "wrong",
    [
        {"valid_before": 1_000_000_000},
        {"valid_after": 5_000_000_000, "valid_before": 6_000_000_000},
        {"source_addresses": ["192.0.2.0/24"]},
        {"critical_options": {"wants@example.com": None}},
        None,
    ],
    ids=["expired", "not yet", "elsewhere", "unknown option", "a host's"],
)
async def test_a_certificate_that_lets_nobody_in_is_not_left_to_a_careless_check(
    wrong: dict[str, object] | None,
) -> None:
    key = trio_ssh.Ed25519Key.generate()
    if wrong is None:
        certificate = trio_ssh.Certificate.issue_for_host(
            AUTHORITY, key.public_key, key_id="host", principals=["user"], valid_before=trio_ssh.Certificate.FOREVER
        )
    else:
        certificate = certificate_of(key, **wrong)
    key.load_certificate(certificate)
    with pytest.raises(trio_ssh.AuthenticationException):
        await log_in(Careless(), pkey=key)


async def test_what_a_certificate_forbids_is_not_left_to_a_careless_check() -> None:
    key = trio_ssh.Ed25519Key.generate()
    few = trio_ssh.CertificatePermissions(pty=False)
    key.load_certificate(certificate_of(key, force_command="true", permissions=few))
    server = Careless()
    await log_in(server, pkey=key)
    assert server.restrictions == trio_ssh.KeyRestrictions(force_command="true", pty=False)


@pytest.fixture
def certified_files(home: Path) -> Path:
    path = home / ".ssh" / "id_ed25519"
    USER_KEY.write_private_key_file(path)
    path.with_name("id_ed25519-cert.pub").write_text(certificate_of(USER_KEY).to_openssh() + "\n")
    return path


async def test_a_certificate_beside_a_key_file_is_shown_before_the_key(certified_files: Path) -> None:
    for credentials in ({}, {"key_filename": certified_files}):
        server = Believes()
        await log_in(server, **credentials)
        assert server.attempts == ["certificate"]
    plain = Recording(key=USER_KEY)
    await log_in(plain)
    assert plain.attempts == ["publickey ssh-ed25519"]


async def test_a_certificate_that_is_none_is_told_of(certified_files: Path) -> None:
    certified_files.with_name("id_ed25519-cert.pub").write_text("nonsense\n")
    with pytest.raises(trio_ssh.AuthenticationException, match=r"id_ed25519-cert\.pub was not tried"):
        await log_in(Recording())
    await log_in(Recording(key=USER_KEY))


# -- hosts that vouch for their users


class TakesItsWord(Recording):
    def check_auth_hostbased(
        self, username: str, key: trio_ssh.PublicKey, client_host: str, client_username: str
    ) -> trio_ssh.AuthResult:
        self.attempts.append(f"hostbased {client_host} {client_username}")
        return trio_ssh.AUTH_SUCCESSFUL if key == HOST_KEY.public_key else trio_ssh.AUTH_FAILED


async def test_a_host_vouches_for_its_user(monkeypatch: pytest.MonkeyPatch) -> None:
    server = TakesItsWord()
    await log_in(server, client_host_keys=HOST_KEY, client_host="here.example.com.", client_username="me")
    assert server.attempts == ["hostbased here.example.com me"]
    monkeypatch.setattr("socket.getfqdn", lambda: "found.example.com")
    monkeypatch.setattr("trio_ssh.credentials.local_user", lambda: "found")
    server = TakesItsWord()
    await log_in(server, client_host_keys=[ECDSA_KEY, HOST_KEY], pkey=USER_KEY)
    assert server.attempts == ["hostbased found.example.com found"] * 2
    with pytest.raises(trio_ssh.AuthenticationException, match=r"hostbased .* \(as found at found\.example\.com\)"):
        await log_in(TakesItsWord(), client_host_keys=ECDSA_KEY)


async def test_a_host_s_key_that_signs_with_nothing_enabled_is_told_of_and_passed_over() -> None:
    server = TakesItsWord(password="x")
    disabled = {"pubkeys": ["ssh-ed25519"]}
    await log_in(server, client_host_keys=HOST_KEY, password="x", disabled_algorithms=disabled)
    assert "hostbased" not in " ".join(server.attempts)
    with pytest.raises(trio_ssh.AuthenticationException, match=r"\(of this host\) was not tried"):
        await log_in(TakesItsWord(), client_host_keys=HOST_KEY, disabled_algorithms=disabled)


async def test_a_transport_vouches_too() -> None:
    async with serving(TakesItsWord()) as stream, trio_ssh.Transport(stream) as transport:
        await transport.start_client(check_host_key=lambda key: None)
        with pytest.raises(trio_ssh.AuthenticationException, match="hostbased failed for user"):
            await transport.auth_hostbased("user", ECDSA_KEY, "here", "me")
        await transport.auth_hostbased("user", HOST_KEY, "here", "me")
        assert transport.is_authenticated()


# -- what lets in restricts


class ByList(trio_ssh.ServerInterface):
    """Goes by lines of authorized_keys."""

    def __init__(self, *lines: str) -> None:
        self._keys = trio_ssh.AuthorizedKeys.from_text("\n".join(lines))

    def get_authorized_keys(self, username: str) -> trio_ssh.AuthorizedKeys | None:
        return self._keys if username == "user" else None

    def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_SUCCESSFUL if password == "x" else trio_ssh.AUTH_FAILED

    async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
        await process.stdout.write(f"{process.command} {process.environment}")
        return 0


async def ran(server: trio_ssh.ServerInterface, command: str, **credentials: Any) -> bytes | None:
    async with open_memory_client(server, **credentials) as client:
        done = await client.run_process(command, capture_stdout=True)
        return done.stdout


async def test_a_forced_command_is_what_every_request_runs() -> None:
    line = f'command="forced" {USER_KEY.public_key.to_openssh()}'
    assert await ran(ByList(line), "mine", pkey=USER_KEY) == b"forced {'SSH_ORIGINAL_COMMAND': 'mine'}"
    assert await ran(ByList(line), "mine", password="x") == b"mine {}", "another way in has other restrictions"


async def test_a_probe_restricts_nobody() -> None:
    """Somebody shows a key that is not theirs, and logs in otherwise."""
    line = f'command="forced" {USER_KEY.public_key.to_openssh()}'

    def refuse(data: bytes, algorithm: str | None) -> bytes:
        raise trio_ssh.AgentException("no")

    silent = ElsewhereSigner(USER_KEY, refuse)
    assert await ran(ByList(line), "mine", pkey=silent, password="x") == b"mine {}"


async def test_environment_is_taken_only_from_who_may_set_it() -> None:
    line = f'environment="A=line" {USER_KEY.public_key.to_openssh()}'
    assert await ran(ByList(line), "mine", pkey=USER_KEY) == b"mine {}"
    server = ByList(line)
    server.permit_user_environment = True
    assert await ran(server, "mine", pkey=USER_KEY) == b"mine {'A': 'line'}"


async def test_a_client_s_own_original_command_does_not_count() -> None:
    class TakesAll(ByList):
        def check_channel_env_request(self, channel: trio_ssh.Channel, name: str, value: str) -> bool:
            return True

    server = TakesAll(f'command="forced" {USER_KEY.public_key.to_openssh()}')
    async with open_memory_client(server, pkey=USER_KEY) as client:
        process = await client.open_process(env={"SSH_ORIGINAL_COMMAND": "a lie"})
        async with process:
            assert await process.stdout.read() == b"forced {}"


async def test_what_runs_keeps_the_variables_that_it_began_with() -> None:
    """Those of a forced command are not its client's, at whatever moment it sends them."""

    class TakesAll(ByList):
        permit_user_environment = True

        def check_channel_env_request(self, channel: trio_ssh.Channel, name: str, value: str) -> bool:
            return True

    server = TakesAll(f'command="forced",environment="A=line" {USER_KEY.public_key.to_openssh()}')
    async with open_memory_client(server, pkey=USER_KEY) as client:
        channel = await client.open_session()
        mux = client.transport._engine.core.mux
        mux.request(channel.core, "exec", ExecRequest("asked").encode(), wants_reply=False)
        for name in ("SSH_ORIGINAL_COMMAND", "A", "B"):
            mux.request(channel.core, "env", EnvironmentRequest(name, "a lie").encode(), wants_reply=False)
        channel.flush(now=True)
        assert await channel.read() == b"forced {'A': 'line', 'SSH_ORIGINAL_COMMAND': 'asked'}"


async def test_nobody_signals_what_was_forced_upon_them() -> None:
    class Listens(ByList):
        async def handle_session(self, process: trio_ssh.ServerProcess) -> int:
            signals = process.signals
            await process.stdin.read()
            await process.stdout.write(f"{signals.statistics().current_buffer_used}")
            return 0

    for line, heard in (('command="forced" ', b"0"), ("", b"2")):
        async with open_memory_client(Listens(line + USER_KEY.public_key.to_openssh()), pkey=USER_KEY) as client:
            process = await client.open_process("x")
            process.send_signal("USR1")
            process.kill()
            await process.stdin.aclose()
            assert await process.stdout.read() == heard


async def test_restrictions_of_several_methods_add_up() -> None:
    class Adds(ByList):
        def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
            self.restrict(trio_ssh.KeyRestrictions(pty=False))
            return trio_ssh.AUTH_PARTIALLY_SUCCESSFUL

        def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
            self.restrict(trio_ssh.KeyRestrictions(agent_forwarding=False))
            return trio_ssh.AUTH_SUCCESSFUL

    server = Adds()
    await ran(server, "mine", pkey=USER_KEY, password="x")
    assert server.restrictions == trio_ssh.KeyRestrictions(pty=False, agent_forwarding=False)


async def test_two_forced_commands_let_nobody_in() -> None:
    class Contradicts(ByList):
        def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
            self.restrict(trio_ssh.KeyRestrictions(force_command="one"))
            return trio_ssh.AUTH_PARTIALLY_SUCCESSFUL

        def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
            self.restrict(trio_ssh.KeyRestrictions(force_command="other"))
            return trio_ssh.AUTH_SUCCESSFUL

    with pytest.raises(trio_ssh.AuthenticationException):
        await ran(Contradicts(), "mine", pkey=USER_KEY, password="x")


async def test_an_unknown_user_has_no_keys() -> None:
    server = ByList(USER_KEY.public_key.to_openssh())
    with pytest.raises(trio_ssh.AuthenticationException):
        await ran(server, "mine", pkey=USER_KEY, username="nobody")


async def test_a_method_that_was_passed_is_not_asked_for_again() -> None:
    server = WantsMore()
    with pytest.raises(trio_ssh.AuthenticationException) as raised:
        await log_in(server, pkey=USER_KEY)
    assert raised.value.allowed == ("password", "keyboard-interactive")


async def test_a_server_that_always_wants_more_is_given_each_thing_once() -> None:
    class Insatiable(Recording):
        def get_allowed_auths(self, username: str) -> list[str]:
            return ["publickey", "password", "keyboard-interactive"]

        def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
            super().check_auth_publickey(username, key)
            return trio_ssh.AUTH_PARTIALLY_SUCCESSFUL

        def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
            super().check_auth_password(username, password)
            return trio_ssh.AUTH_PARTIALLY_SUCCESSFUL

    server = Insatiable()
    with pytest.raises(trio_ssh.AuthenticationException, match="is not enough") as raised:
        await log_in(server, pkey=[USER_KEY, ECDSA_KEY], password="x")
    assert [attempt.outcome for attempt in raised.value.attempts] == [AuthOutcome.PARTIAL] * 3
    assert server.attempts.count("password x") == 1


# -- what a token has to attest


class TokenSigner:
    """A key in a token of software, which attests what it is told to."""

    def __init__(self, flags: int) -> None:
        self._token = token("sk-ssh-ed25519@openssh.com")
        self._flags = flags
        self.public_key: trio_ssh.PublicKey = self._token.public_key
        self.comment = "a token's"
        self.algorithms = self.public_key.algorithms[:1]
        self.fingerprint = self.public_key.fingerprint

    def asbytes(self) -> bytes:
        return self.public_key.blob

    def sign(self, data: bytes, algorithm: str | None = None) -> bytes:
        return self._token.sign(data, self._flags)


@pytest.mark.parametrize(
    ("options", "flags", "is_in"),
    [
        ("", 1, True),
        ("", 0, False),
        ("no-touch-required", 0, True),
        ("touch-required", 0, False),
        ("verify-required", 1, False),
        ("verify-required", 5, True),
        ("no-touch-required,verify-required", 4, True),
    ],
)
async def test_a_token_attests_what_its_line_demands(options: str, flags: int, is_in: bool) -> None:
    key = TokenSigner(flags)
    server = ByList(f"{options} {key.public_key.to_openssh()}")
    if is_in:
        assert await ran(server, "mine", pkey=key) == b"mine {}"
    else:
        with pytest.raises(trio_ssh.AuthenticationException):
            await ran(server, "mine", pkey=key)


@pytest.mark.parametrize(
    ("option", "granted", "flags", "is_in"),
    [
        ("no-touch-required", True, 0, True),
        ("no-touch-required", False, 0, False),
        ("touch-required", True, 0, False),
        ("verify-required", False, 1, False),
        ("verify-required", False, 5, True),
    ],
)
async def test_a_token_with_a_certificate_attests_what_line_and_certificate_demand(
    option: str, granted: bool, flags: int, is_in: bool
) -> None:
    key = TokenSigner(flags)
    permissions = trio_ssh.CertificatePermissions(no_touch_required=granted)
    certificate = trio_ssh.Certificate.issue_for_user(
        AUTHORITY,
        key.public_key,
        key_id="x",
        principals=["user"],
        valid_before=4_000_000_000,
        permissions=permissions,
    )
    server = ByList(f"cert-authority,{option} {AUTHORITY.public_key.to_openssh()}")
    credentials = {"pkey": trio_ssh.CertifiedKey(key, certificate)}
    if is_in:
        assert await ran(server, "mine", **credentials) == b"mine {}"
    else:
        with pytest.raises(trio_ssh.AuthenticationException):
            await ran(server, "mine", **credentials)


async def test_a_check_of_one_s_own_may_demand_no_less_than_was_attested(caplog: pytest.LogCaptureFixture) -> None:
    """What a signature had to attest is known before the check: one that wants more then refuses."""

    class Strict(ByList):
        def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
            self.restrict(trio_ssh.KeyRestrictions(require_verification=True))
            return trio_ssh.AUTH_SUCCESSFUL

    with pytest.raises(trio_ssh.AuthenticationException):
        await ran(Strict(), "mine", pkey=TokenSigner(1))
    assert "must be verified" in caplog.text


async def test_an_expired_password_that_nobody_changes_is_not_the_end() -> None:
    """The server has decided nothing: what comes behind the password is tried."""

    class Both(Expired):
        def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
            super().check_auth_publickey(username, key)
            return trio_ssh.AUTH_SUCCESSFUL

    config = await trio_ssh.SSHConfig.from_text("PreferredAuthentications password,publickey")
    server = Both()
    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: trio_ssh.serve_stream(theirs, server, host_keys=[HOST_KEY]))
        async with trio_ssh.connect(
            "host",
            username="user",
            password="old",
            pkey=USER_KEY,
            sock=ours,
            config=config,
            policy=trio_ssh.AutoAddPolicy(),
            known_hosts=trio_ssh.HostKeys(),
            allow_agent=False,
            look_for_keys=False,
        ):
            assert server.attempts[0] == "password old"


async def test_a_token_s_demands_are_not_another_key_s(caplog: pytest.LogCaptureFixture) -> None:
    """Of a plain key on such a line nothing is demanded, whatever failed before."""
    token = TokenSigner(0)  # nobody has touched it
    server = ByList(token.public_key.to_openssh(), f"verify-required {USER_KEY.public_key.to_openssh()}")
    assert await ran(server, "mine", pkey=[token, USER_KEY]) == b"mine {}"
