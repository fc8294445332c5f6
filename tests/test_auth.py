"""Logging in: what is tried, in which order, and what the report says when nothing of it will do."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

import trio_ssh
from tests.runtime.helpers import HOST_KEY, KNOWN_HOST, USER_KEY, OpenDoor, serving
from trio_ssh.core.questions import CheckInteractiveResponse, CheckPassword, SignatureWanted
from trio_ssh.credentials import Credentials, Secret
from trio_ssh.errors import AuthOutcome
from trio_ssh.testing import open_memory_client

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
            except trio_ssh.SSHException as error:
                refusal = error
                assert stream.is_closed
    if refusal is not None:
        raise refusal


# -- what is tried


async def test_keys_come_first_and_the_right_one_is_enough() -> None:
    server = Recording(key=USER_KEY, password="x")
    await log_in(server, pkey=[ECDSA_KEY, USER_KEY], password="x")
    assert server.attempts == ["publickey ecdsa-sha2-nistp256", "publickey ssh-ed25519", "publickey ssh-ed25519"]


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
    assert server.attempts == ["publickey ssh-ed25519"] * 2
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
    server = Recording(password=None)
    for credentials in ({"password": secret}, {"prompt_handler": lambda *prompts: [secret]}):
        try:
            await log_in(server, **credentials)
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
