"""How real ssh logs in to our server, and how it doesn't."""

from __future__ import annotations

import os
from collections.abc import Sequence

import attrs
import pytest
import trio

import trio_ssh
from tests.interop.peers import KINDS, KeyFolder, LetsAnyoneIn, Ssh, eventually, make_key

pytestmark = pytest.mark.interop


class Asks(LetsAnyoneIn):
    """Lets nobody in without proof."""

    def check_auth_none(self, username: str) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_FAILED


class KnowsPassword(Asks):
    def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        known = (username, password) == ("alice", "open sesame é")
        return trio_ssh.AUTH_SUCCESSFUL if known else trio_ssh.AUTH_FAILED


class KnowsKeys(Asks):
    keys: trio_ssh.AuthorizedKeys

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_SUCCESSFUL if self.keys.lookup(key) else trio_ssh.AUTH_FAILED


@pytest.fixture
def knows_keys(user_keys: KeyFolder) -> type[KnowsKeys]:
    class Server(KnowsKeys):
        keys = trio_ssh.AuthorizedKeys.load(user_keys.authorized_keys)

    return Server


def interactive(ssh: Ssh) -> Ssh:
    """An ssh that may ask its user."""
    return attrs.evolve(ssh, options=("BatchMode=no", "PreferredAuthentications=keyboard-interactive,password"))


# -- passwords


async def test_a_password_logs_in(ssh: Ssh, nursery: trio.Nursery) -> None:
    ssh = interactive(ssh)
    await ssh.serve(nursery, KnowsPassword)
    done = await ssh.run("server", "echo in", askpass="echo 'open sesame é'")
    assert (done.stdout, done.returncode) == (b"in\n", 0)


async def test_a_second_try_at_a_password_logs_in(ssh: Ssh, nursery: trio.Nursery) -> None:
    ssh = interactive(ssh)
    await ssh.serve(nursery, KnowsPassword)
    askpass = "test -e $HOME/tried && echo 'open sesame é'; touch $HOME/tried"
    done = await ssh.run("server", "echo in", askpass=askpass)
    assert (done.stdout, done.returncode) == (b"in\n", 0)
    assert b"Permission denied, please try again." in done.stderr


async def test_wrong_passwords_do_not(ssh: Ssh, nursery: trio.Nursery) -> None:
    ssh = interactive(ssh)
    await ssh.serve(nursery, KnowsPassword)
    done = await ssh.run("-o", "NumberOfPasswordPrompts=2", "server", "echo in", askpass="echo wrong")
    assert (done.stdout, done.returncode) == (b"", 255)
    assert done.stderr.endswith(b"alice@127.0.0.1: Permission denied (password).\r\n")


async def test_too_many_failures_end_the_connection(ssh: Ssh, nursery: trio.Nursery) -> None:
    ssh = interactive(ssh)
    await ssh.serve(nursery, KnowsPassword, limits=trio_ssh.Limits(auth_attempts=3))
    done = await ssh.run("-o", "NumberOfPasswordPrompts=10", "server", "echo in", askpass="echo wrong")
    assert (done.stdout, done.returncode) == (b"", 255)
    assert b"Too many authentication failures".lower() in done.stderr.lower()


async def test_a_login_that_takes_too_long_ends(
    ssh: Ssh, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    ssh = interactive(ssh)
    await ssh.serve(nursery, KnowsPassword, login_timeout=0.5)
    answer = ssh.folder / "answer"
    os.mkfifo(answer)

    async def answer_too_late() -> None:
        await eventually(lambda: "did not log in within 0.5 seconds" in caplog.text)
        answer.write_text("open sesame é")

    nursery.start_soon(answer_too_late)
    done = await ssh.run("server", "echo in", askpass=f"cat {answer}")
    assert (done.stdout, done.returncode) == (b"", 255)


async def test_a_user_who_may_not_at_all_is_told_so(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery, Asks)
    done = await ssh.run("server", "echo in")
    assert (done.stdout, done.returncode) == (b"", 255)
    assert b"Permission denied" in done.stderr


# -- keys


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_of_each_kind_logs_in(
    ssh: Ssh, nursery: trio.Nursery, knows_keys: type[KnowsKeys], user_keys: KeyFolder, kind: str
) -> None:
    await ssh.serve(nursery, knows_keys)
    done = await ssh.run("-v", "-i", str(user_keys.file(kind)), "server", "echo in")
    assert (done.stdout, done.returncode) == (b"in\n", 0)
    assert b'using "publickey"' in done.stderr


@pytest.mark.parametrize("algorithm", ["rsa-sha2-256", "rsa-sha2-512"])
async def test_an_rsa_key_signs_with_either_hash(
    ssh: Ssh, nursery: trio.Nursery, knows_keys: type[KnowsKeys], user_keys: KeyFolder, algorithm: str
) -> None:
    ssh = attrs.evolve(ssh, options=(f"PubkeyAcceptedAlgorithms={algorithm}",))
    await ssh.serve(nursery, knows_keys)
    done = await ssh.run("-vvv", "-i", str(user_keys.file("rsa")), "server", "echo in")
    assert (done.stdout, done.returncode) == (b"in\n", 0)
    assert f"signing using {algorithm} ".encode() in done.stderr


async def test_the_key_that_is_known_logs_in_behind_others_that_are_not(
    ssh: Ssh, nursery: trio.Nursery, knows_keys: type[KnowsKeys], user_keys: KeyFolder
) -> None:
    strangers = [make_key(ssh.folder / f"stranger{number}", "ed25519") for number in range(3)]
    await ssh.serve(nursery, knows_keys)
    keys = [argument for path in [*strangers, user_keys.file("ecdsa256")] for argument in ("-i", str(path))]
    done = await ssh.run(*keys, "server", "echo in")
    assert (done.stdout, done.returncode) == (b"in\n", 0)


async def test_too_many_keys_end_the_connection(
    ssh: Ssh, nursery: trio.Nursery, knows_keys: type[KnowsKeys], user_keys: KeyFolder
) -> None:
    strangers = [make_key(ssh.folder / f"stranger{number}", "ed25519") for number in range(3)]
    await ssh.serve(nursery, knows_keys, limits=trio_ssh.Limits(auth_attempts=3))
    keys = [argument for path in [*strangers, user_keys.file("ecdsa256")] for argument in ("-i", str(path))]
    done = await ssh.run(*keys, "server", "echo in")
    assert (done.stdout, done.returncode) == (b"", 255)
    assert b"too many authentication failures" in done.stderr.lower()


async def test_an_unknown_key_does_not_log_in(ssh: Ssh, nursery: trio.Nursery, knows_keys: type[KnowsKeys]) -> None:
    await ssh.serve(nursery, knows_keys)
    done = await ssh.run("-i", str(make_key(ssh.folder / "stranger", "ed25519")), "server", "echo in")
    assert (done.stdout, done.returncode) == (b"", 255)
    assert done.stderr.endswith(b"alice@127.0.0.1: Permission denied (publickey).\r\n")


# -- questions


class AsksQuestions(Asks):
    """Asks twice, and once more without a prompt, as servers do that only want to tell something."""

    def check_auth_interactive(self, username: str, submethods: str) -> trio_ssh.InteractiveQuery:
        self.answers: list[str] = []
        return trio_ssh.InteractiveQuery("Title", "Read this.", [("Colour? ", True), "Secret? "])

    def check_auth_interactive_response(
        self, responses: Sequence[str]
    ) -> trio_ssh.AuthResult | trio_ssh.InteractiveQuery:
        self.answers.extend(responses)
        match self.answers:
            case ["blue", "é"] if len(responses) == 2:
                return trio_ssh.InteractiveQuery("", "", ["Code? "])
            case ["blue", "é", "123"] if len(responses) == 1:
                return trio_ssh.InteractiveQuery("", "Welcome back.", [])
            case ["blue", "é", "123"]:
                return trio_ssh.AUTH_SUCCESSFUL
            case _:
                return trio_ssh.AUTH_FAILED


ANSWERS = """case "$1" in *Colour*) echo blue;; *Secret*) echo é;; *Code*) echo ${CODE-123};; esac"""


async def test_questions_are_asked_and_their_answers_log_in(ssh: Ssh, nursery: trio.Nursery) -> None:
    ssh = interactive(ssh)
    await ssh.serve(nursery, AsksQuestions)
    done = await ssh.run("server", "echo in", askpass=ANSWERS)
    assert (done.stdout, done.returncode) == (b"in\n", 0)
    for text in (b"Title", b"Read this.", b"Welcome back."):
        assert text in done.stderr


async def test_a_wrong_answer_does_not(ssh: Ssh, nursery: trio.Nursery) -> None:
    ssh = interactive(ssh)
    await ssh.serve(nursery, AsksQuestions)
    done = await ssh.run("server", "echo in", askpass=ANSWERS, env={"CODE": "124"})
    assert (done.stdout, done.returncode) == (b"", 255)
    assert done.stderr.endswith(b"alice@127.0.0.1: Permission denied (keyboard-interactive).\r\n")


# -- several methods, and texts


class WantsBoth(KnowsKeys):
    """A key and a password, in the order that the test names."""

    order: tuple[str, str]

    def get_allowed_auths(self, username: str) -> str:
        return self.order[len(self.completed_auths)]

    def outcome(self, method: str, is_right: bool) -> trio_ssh.AuthResult:
        if not is_right or method != self.order[len(self.completed_auths)]:
            return trio_ssh.AUTH_FAILED
        return trio_ssh.AUTH_SUCCESSFUL if self.completed_auths else trio_ssh.AUTH_PARTIALLY_SUCCESSFUL

    def check_auth_password(self, username: str, password: str) -> trio_ssh.AuthResult:
        return self.outcome("password", password == "open sesame")

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        return self.outcome("publickey", self.keys.lookup(key) is not None)


@pytest.mark.parametrize("methods", [("publickey", "password"), ("password", "publickey")])
async def test_a_server_may_want_two_proofs(
    ssh: Ssh, nursery: trio.Nursery, user_keys: KeyFolder, methods: tuple[str, str]
) -> None:
    class Server(WantsBoth):
        keys = trio_ssh.AuthorizedKeys.load(user_keys.authorized_keys)
        order = methods

    ssh = attrs.evolve(ssh, options=("BatchMode=no", "NumberOfPasswordPrompts=1"))
    await ssh.serve(nursery, Server)
    key = ["-i", str(user_keys.file("ed25519"))]
    done = await ssh.run("-v", *key, "server", "echo in", askpass="echo open sesame")
    assert (done.stdout, done.returncode) == (b"in\n", 0)
    assert f'Authenticated using "{methods[0]}" with partial success'.encode() in done.stderr
    for arguments, secret in ((key, "wrong"), ([], "open sesame")):
        done = await ssh.run(*arguments, "server", "echo in", askpass=f"echo {secret}")
        assert (done.stdout, done.returncode) == (b"", 255)


async def test_a_banner_is_shown_before_the_login(ssh: Ssh, nursery: trio.Nursery) -> None:
    class Server(LetsAnyoneIn):
        async def get_banner(self) -> str:
            return "Authorised users only.\nÜber alles wird Buch geführt.\n"

    await ssh.serve(nursery, Server)
    done = await ssh.run("server", "echo in", env={"LC_ALL": "C.UTF-8"})
    assert (done.stdout, done.returncode) == (b"in\n", 0)
    assert "Authorised users only.\nÜber alles wird Buch geführt.\n" in done.stderr.decode().replace("\r", "")


async def test_a_key_that_is_not_on_record_is_refused_by_ssh(ssh: Ssh, nursery: trio.Nursery) -> None:
    await ssh.serve(nursery, host_keys=[trio_ssh.Ed25519Key.generate()])
    done = await ssh.run("server", "echo in")
    assert (done.stdout, done.returncode) == (b"", 255)
    assert b"Host key verification failed." in done.stderr
