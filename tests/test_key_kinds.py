"""Every kind of key where it is used, a host's and a user's: enabled by default, by name, or not at all."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio

import trio_ssh
from tests.keys.tokens import Token, token
from trio_ssh.keys.security_key import ECDSA, ED25519, WEBAUTHN
from trio_ssh.testing import memory_pair, open_memory_client

RSA = trio_ssh.RSAKey.generate(2048)
DSA = trio_ssh.DSSKey.generate()
BY_NAME: list[tuple[trio_ssh.PKey, str]] = [
    (trio_ssh.Ed448Key.generate(), "ssh-ed448"),
    (trio_ssh.MLDSA44Ed25519Key.generate(), "ssh-mldsa44-ed25519@openssh.com"),
    (RSA, "ssh-rsa"),
    (DSA, "ssh-dss"),
]


class Door(trio_ssh.ServerInterface):
    """Lets one key in."""

    def __init__(self, key: trio_ssh.PublicKey) -> None:
        self._key = key

    def check_auth_publickey(self, username: str, key: trio_ssh.PublicKey) -> trio_ssh.AuthResult:
        return trio_ssh.AUTH_SUCCESSFUL if key == self._key else trio_ssh.AUTH_FAILED


class TokenSigner:
    """A token that is asked without an agent."""

    def __init__(self, made: Token, algorithm: str, *, flags: int = 1) -> None:
        self.public_key: trio_ssh.PublicKey = made.public_key
        self.comment = ""
        self.algorithms = (algorithm,)
        self.fingerprint = made.public_key.fingerprint
        self._token = made
        self._flags = flags

    def asbytes(self) -> bytes:
        return self.public_key.blob

    def sign(self, data: bytes, algorithm: str | None = None) -> bytes:
        made = self._token.sign_webauthn if algorithm == WEBAUTHN else self._token.sign
        return made(data, self._flags)


async def log_in(
    key: trio_ssh.Signer,
    *,
    client_names: Sequence[str] | None = None,
    server_names: Sequence[str] | None = None,
    host_key: trio_ssh.PKey | None = None,
) -> str:
    """Log in over transports in memory; return the host key algorithm."""
    ours, theirs = memory_pair()
    async with trio.open_nursery() as nursery:

        async def serve() -> None:
            async with trio_ssh.Transport(theirs) as server:
                server.add_server_key(host_key or trio_ssh.Ed25519Key.generate())
                if server_names is not None:
                    server.get_security_options().key_types = server_names
                await server.start_server(server=Door(key.public_key))
                await trio.sleep_forever()

        nursery.start_soon(serve)
        async with trio_ssh.Transport(ours) as client:
            if client_names is not None:
                client.get_security_options().key_types = client_names
            await client.start_client(check_host_key=lambda key: None)
            await client.auth_publickey("alice", key)
            assert client.is_authenticated()
            negotiated = client.get_negotiated()
            assert negotiated is not None
        nursery.cancel_scope.cancel()
    return negotiated.host_key_algorithm


@pytest.mark.parametrize("key_type", [ED25519, ECDSA])
async def test_a_token_logs_in_by_default(key_type: str) -> None:
    await log_in(TokenSigner(token(key_type), key_type))


@pytest.mark.parametrize("key_type", [ED25519, ECDSA])
async def test_a_token_that_nobody_touched_does_not_log_in(key_type: str) -> None:
    signer = TokenSigner(token(key_type), key_type, flags=0)
    with pytest.raises(trio_ssh.AuthenticationException):
        async with open_memory_client(Door(signer.public_key), pkey=signer):
            raise AssertionError("logged in")


async def test_a_browser_s_token_logs_in_where_that_is_enabled() -> None:
    signer = TokenSigner(token(ECDSA), WEBAUTHN)
    await log_in(signer, server_names=[WEBAUTHN, "ssh-ed25519"])
    with pytest.raises(trio_ssh.AuthenticationException):
        async with open_memory_client(Door(signer.public_key), pkey=signer):
            raise AssertionError("logged in")


@pytest.mark.parametrize(("key", "name"), BY_NAME)
async def test_a_key_that_is_enabled_by_name_logs_in(key: trio_ssh.PKey, name: str) -> None:
    names = [name, "ssh-ed25519"]
    assert await log_in(key, client_names=names, server_names=names) == "ssh-ed25519"


@pytest.mark.parametrize(("key", "name"), BY_NAME)
async def test_a_host_key_that_is_enabled_by_name_proves_the_host(key: trio_ssh.PKey, name: str) -> None:
    user = trio_ssh.Ed25519Key.generate()
    names = [name, "ssh-ed25519"]
    assert await log_in(user, client_names=names, server_names=names, host_key=key) == name


@pytest.mark.parametrize(("key", "name"), BY_NAME)
async def test_what_only_one_side_enables_is_not_used(key: trio_ssh.PKey, name: str) -> None:
    names = [name, "ssh-ed25519"]
    if key is not RSA:
        async with open_memory_client(Door(RSA.public_key), pkey=RSA):
            pass
        with pytest.raises(trio_ssh.AuthenticationException):
            async with open_memory_client(Door(key.public_key), pkey=key, host_key_algorithms=names):
                raise AssertionError("logged in")
    else:
        await log_in(key, client_names=["rsa-sha2-512", *names])  # by SHA-2, which the server takes


async def test_a_dsa_key_is_not_tried_unless_its_algorithm_is_enabled_and_the_report_says_why() -> None:
    other = trio_ssh.Ed25519Key.generate()
    with pytest.raises(trio_ssh.AuthenticationException, match="was not tried: it signs only with ssh-dss, which is"):
        async with open_memory_client(Door(DSA.public_key), pkey=DSA):
            raise AssertionError("logged in")
    async with open_memory_client(Door(other.public_key), pkey=[DSA, other]):
        pass


async def test_a_security_key_of_a_file_is_passed_over_for_the_next() -> None:
    other = trio_ssh.Ed25519Key.generate()
    made = token(ED25519)
    async with open_memory_client(Door(other.public_key), pkey=[made.key, other]):
        pass
    with pytest.raises(trio_ssh.AuthenticationException, match=r"lives in a token, and only an agent"):
        async with open_memory_client(Door(made.public_key), pkey=made.key):
            raise AssertionError("logged in")


async def test_a_server_needs_a_host_key_that_signs() -> None:
    for key in (token(ED25519).key, DSA):
        _, theirs = memory_pair()
        async with trio_ssh.Transport(theirs) as server:
            server.add_server_key(key)
            with pytest.raises(trio_ssh.LocalProtocolError, match="a server needs a host key"):
                await server.start_server(server=Door(key.public_key))
