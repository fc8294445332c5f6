"""How our client logs in to real sshd, and what is said where it can't."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

import trio_ssh
from tests.interop.peers import KINDS, KeyFolder, Sshd, make_key, run

pytestmark = pytest.mark.interop

PASSPHRASE = "open sesame"


async def logs_in(client: trio_ssh.connect) -> bool:
    async with client as connected:
        done = await connected.run_process("id -un", capture_stdout=True)
        transport = connected.get_transport()
        assert transport is not None
        assert done.stdout is not None
        return done.stdout.decode().strip() == transport.get_username()


# -- passwords


async def test_a_password_logs_in(sshd: Sshd, password: str) -> None:
    assert await logs_in(sshd.connect(pkey=None, password=password, look_for_keys=False))


async def test_a_wrong_password_is_told_from_one_that_is_missing(sshd: Sshd, password: str) -> None:
    with pytest.raises(trio_ssh.AuthenticationException) as wrong:
        await logs_in(sshd.connect(pkey=None, password=password + "x", look_for_keys=False))
    assert wrong.value.tried[0] == "password: refused"
    assert set(wrong.value.allowed) == {"publickey", "password", "keyboard-interactive"}
    assert password not in str(wrong.value)
    with pytest.raises(trio_ssh.AuthenticationException, match="no key was given") as missing:
        await logs_in(sshd.connect(pkey=None, look_for_keys=False))
    assert missing.value.tried == ("none: refused",)


@pytest.mark.parametrize("own_sshd", [["PasswordAuthentication no", "KbdInteractiveAuthentication no"]], indirect=True)
async def test_a_server_that_takes_no_passwords_says_what_it_takes(own_sshd: Sshd) -> None:
    with pytest.raises(trio_ssh.AuthenticationException) as raised:
        await logs_in(own_sshd.connect(pkey=None, password="any", look_for_keys=False))
    assert raised.value.allowed == ("publickey",)


@pytest.mark.parametrize("own_sshd", [["UsePAM yes", "PasswordAuthentication no"]], indirect=True)
async def test_prompts_are_answered(own_sshd: Sshd, password: str) -> None:
    asked = []

    async def answer(name: str, instructions: str, prompts: Sequence[trio_ssh.Prompt]) -> list[str]:
        asked.extend(prompts)
        await trio.lowlevel.checkpoint()
        return [password for _ in prompts]

    assert await logs_in(own_sshd.connect(pkey=None, prompt_handler=answer, look_for_keys=False))
    [prompt] = asked
    assert prompt.text.endswith("Password: ")
    assert not prompt.echo


@pytest.mark.parametrize("own_sshd", [["UsePAM yes", "PasswordAuthentication no"]], indirect=True)
async def test_a_password_answers_the_one_prompt_that_asks_for_it(own_sshd: Sshd, password: str) -> None:
    assert await logs_in(own_sshd.connect(pkey=None, password=password, look_for_keys=False))


@pytest.mark.parametrize("own_sshd", [["AuthenticationMethods publickey,password"]], indirect=True)
async def test_a_server_may_want_two_proofs(own_sshd: Sshd, password: str) -> None:
    assert await logs_in(own_sshd.connect(password=password))
    with pytest.raises(trio_ssh.AuthenticationException, match="accepted, but more is wanted") as raised:
        await logs_in(own_sshd.connect())
    assert raised.value.allowed == ("password",)


# -- keys


@pytest.mark.parametrize("kind", KINDS)
async def test_a_key_of_each_kind_logs_in(sshd: Sshd, kind: str) -> None:
    assert await logs_in(sshd.connect(pkey=None, key_filename=sshd.user_keys.file(kind)))


@pytest.mark.parametrize("passphrase", ["", PASSPHRASE], ids=["plain", "encrypted"])
@pytest.mark.parametrize("form", ["PEM", "PKCS8", "RFC4716"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "ed25519"])
async def test_a_key_logs_in_from_each_format_of_ssh_keygen(
    sshd: Sshd, tmp_path: Path, kind: str, form: str, passphrase: str
) -> None:
    path = tmp_path / "id"
    path.write_bytes(sshd.user_keys.file(kind).read_bytes())
    path.chmod(0o600)
    run("ssh-keygen", "-q", "-p", "-m", form, "-P", "", "-N", passphrase, "-f", path)
    assert await logs_in(sshd.connect(pkey=None, key_filename=path, passphrase=passphrase or None))


@pytest.mark.parametrize("options", [(), ("-aes256", "-pass", f"pass:{PASSPHRASE}")], ids=["plain", "encrypted"])
@pytest.mark.parametrize("own_sshd", [[]], indirect=True)
async def test_a_key_that_openssl_made_logs_in(own_sshd: Sshd, tmp_path: Path, options: Sequence[str]) -> None:
    path = tmp_path / "id"
    run("openssl", "genpkey", "-algorithm", "ed25519", *options, "-out", path)
    key = trio_ssh.load_private_key_file(path, PASSPHRASE)
    authorized_keys = own_sshd.user_keys.authorized_keys
    before = authorized_keys.read_text()
    authorized_keys.write_text(before + key.public_key.to_openssh() + "\n")
    try:
        assert await logs_in(own_sshd.connect(pkey=None, key_filename=path, passphrase=PASSPHRASE))
    finally:
        authorized_keys.write_text(before)


@pytest.mark.parametrize(
    ("own_sshd", "algorithm"),
    [
        (["LogLevel DEBUG2", "PubkeyAcceptedAlgorithms rsa-sha2-512"], "rsa-sha2-512"),
        (["LogLevel DEBUG2"], "rsa-sha2-512"),
    ],
    indirect=["own_sshd"],
)
async def test_an_rsa_key_signs_as_the_server_wants_it(own_sshd: Sshd, algorithm: str) -> None:
    assert await logs_in(own_sshd.connect(pkey=own_sshd.user_keys.load("rsa")))
    assert f"pkalg {algorithm} " in own_sshd.log


async def test_keys_are_found_where_ssh_looks_for_them(
    sshd: Sshd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".ssh").mkdir(0o700)
    make_key(tmp_path / ".ssh" / "id_ed25519", "ed25519")  # unknown to the server
    make_key(tmp_path / ".ssh" / "id_ecdsa", "ecdsa256", passphrase=PASSPHRASE)
    with pytest.raises(trio_ssh.AuthenticationException) as raised:
        await logs_in(sshd.connect(pkey=None))
    first, second = raised.value.tried
    assert first.startswith("publickey ssh-ed25519 SHA256:")
    assert first.endswith(f"({tmp_path}/.ssh/id_ed25519): refused")
    assert second == f"{tmp_path}/.ssh/id_ecdsa was not tried: it is encrypted, and no passphrase was given"
    (tmp_path / ".ssh" / "id_rsa").write_bytes(sshd.user_keys.file("rsa").read_bytes())
    (tmp_path / ".ssh" / "id_rsa").chmod(0o600)
    assert await logs_in(sshd.connect(pkey=None))


@pytest.mark.parametrize("own_sshd", [["MaxAuthTries 3"]], indirect=True)
async def test_too_many_attempts_are_all_listed(own_sshd: Sshd) -> None:
    strangers = [trio_ssh.Ed25519Key.generate() for _ in range(5)]
    with pytest.raises(trio_ssh.AuthenticationException, match=r"(?i)too many authentication failures") as raised:
        await logs_in(own_sshd.connect(pkey=[*strangers, own_sshd.user_keys.load("ed25519")]))
    tried = [key.fingerprint for key in strangers if any(key.fingerprint in line for line in raised.value.tried)]
    assert tried == [key.fingerprint for key in strangers[:3]] or tried == [key.fingerprint for key in strangers[:2]]


# -- Transport, step by step


async def test_a_transport_logs_in_step_by_step(sshd: Sshd, user_keys: KeyFolder, password: str) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", sshd.port)
    async with trio_ssh.Transport(stream) as transport:
        seen: list[trio_ssh.PublicKey] = []
        await transport.start_client(check_host_key=seen.append)
        assert seen[0].to_openssh() == sshd.host_keys.load("ed25519").public_key.to_openssh()
        assert transport.get_remote_server_key() == seen[0]
        name = sshd.account.name
        with pytest.raises(trio_ssh.BadAuthenticationType) as none:
            await transport.auth_none(name)
        assert "publickey" in none.value.allowed
        with pytest.raises(trio_ssh.AuthenticationException, match="publickey failed"):
            await transport.auth_publickey(name, trio_ssh.Ed25519Key.generate())
        with pytest.raises(trio_ssh.AuthenticationException, match="password failed"):
            await transport.auth_password(name, "wrong")
        assert not transport.is_authenticated()
        await transport.auth_publickey(name, user_keys.load("ecdsa521"))
        assert transport.is_authenticated()
        channel = await transport.open_session()
        await channel.exec_command("echo $0")
        assert await channel.read() == b"bash\n"
        assert await channel.recv_exit_status() == 0


@pytest.mark.parametrize("own_sshd", [[]], indirect=True)
async def test_a_banner_is_kept_and_escaped(own_sshd: Sshd, tmp_path: Path) -> None:
    banner = own_sshd.host_keys.path / "banner"
    banner.write_bytes("Grüße\n\x1b[31mred\n".encode())
    # sshd reads its file of options anew for no one: the banner's has to be there before it starts.
    with Sshd(tmp_path, own_sshd.account, own_sshd.host_keys, own_sshd.user_keys, [f"Banner {banner}"]) as server:
        async with server.connect() as client:
            transport = client.get_transport()
            assert transport is not None
            assert transport.get_banner() == "Grüße\n\\x1b[31mred\n"
