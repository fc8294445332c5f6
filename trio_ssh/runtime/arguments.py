"""What callers give, looked at where it is given: else a mistake is an error deep inside, and late."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Iterable
from typing import cast

import trio

from trio_ssh.keys.public_key import PublicKey
from trio_ssh.keys.signer import Signer
from trio_ssh.wire.connection import check_port

Data = bytes | bytearray | memoryview


def checked_text(value: str, what: str) -> str:
    """Return a str that is one, and can be sent.

    Raises:
        TypeError: it is something else.
        ValueError: it has half a character, which UTF-8 can't spell.
    """
    given: object = value
    if not isinstance(given, str):
        remedy = ": decode it" if isinstance(given, bytes | bytearray | memoryview) else ""
        raise TypeError(f"{what} is a str, not {type(given).__name__}{remedy}")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{what} has a lone surrogate in it, which can't be sent") from None  # it may be a secret
    return value


def checked_bytes(data: Data, what: str) -> Data:
    """Return bytes, in whatever they are, that are some.

    Raises:
        TypeError: it is something else.
    """
    given: object = data
    if not isinstance(given, bytes | bytearray | memoryview):
        remedy = ": encode it" if isinstance(given, str) else ""
        raise TypeError(f"{what} is bytes, not {type(given).__name__}{remedy}")
    return data


def checked_signer(key: Signer) -> Signer:
    """Return what signs, which does.

    Raises:
        TypeError: it is a public key, a path, or something else.
    """
    given: object = key
    if isinstance(given, PublicKey):
        raise TypeError(f"a private key is wanted, and {given} is a public one, which can't sign")
    if not hasattr(given, "sign"):
        raise TypeError(f"a private key is wanted, not {_article(given)}: load_private_key_file(path) reads one")
    return key


def checked_stream(stream: trio.abc.Stream) -> trio.abc.Stream:
    """Return a stream that is one.

    Raises:
        TypeError: it is a socket of another kind, an address, or something else.
    """
    given: object = stream
    if all(hasattr(given, name) for name in ("send_all", "receive_some", "aclose")):
        return stream
    if isinstance(given, socket.socket):
        remedy = "wrap it: trio.SocketStream(trio.socket.from_stdlib_socket(sock))"
    elif isinstance(given, trio.socket.SocketType):
        remedy = "wrap it: trio.SocketStream(sock)"
    elif isinstance(given, Awaitable):
        remedy = "await it first"
    else:
        remedy = "await trio.open_tcp_stream(host, port) makes one"
    raise TypeError(f"a connection goes over a trio stream, and this is {_article(given)}: {remedy}")


def checked_place(host: str, port: int) -> None:
    """Refuse where nobody can connect to.

    Raises:
        TypeError, ValueError: the host is no str, or the port none.
    """
    checked_text(host, "a host name")
    check_port(port)


def checked_destination(hostname: str, port: int | None, username: str | None) -> None:
    """Refuse a place that can't be one, before anybody goes there.

    Raises:
        TypeError: a name is no str, or the port no int.
        ValueError: the port is none, or the name holds more than a name.
    """
    checked_text(hostname, "a host name")
    if username is not None and not checked_text(username, "a user name"):
        raise ValueError("a user name is empty: leave it out for your own, or the configuration's")
    if port is not None:
        check_port(port)
    scheme, has_scheme, _ = hostname.partition("://")
    if has_scheme:
        raise ValueError(f"a host name is wanted, and not a URL ({scheme}://...): connect(host, port, username)")
    if "@" in hostname:
        raise ValueError("a host name holds no '@': give the user as username=")


def checked_route(sock: trio.abc.Stream | None, via: object) -> None:
    """Refuse what leads nowhere.

    Raises:
        TypeError: one of them is no stream, or no client.
        ValueError: both are given.
    """
    if sock is not None:
        if via is not None:
            raise ValueError("sock= and via= are two ways to one host: give one of them")
        checked_stream(sock)
    elif via is not None and not hasattr(via, "open_tcp_stream"):
        raise TypeError(f"via= takes a client that is connected, not {_article(via)}")


def paths_of(names: object, what: str) -> list[str]:
    """Return one path, or several, as a list; ``~`` is the user's home.

    Raises:
        TypeError: it is something else, such as bytes in a list's place.
    """
    if isinstance(names, str | bytes | os.PathLike):
        given: list[object] = [names]
    elif isinstance(names, Iterable):
        given = list(cast("Iterable[object]", names))
    else:
        raise TypeError(f"{what} is a path or several, not {_article(names)}")
    paths: list[str] = []
    for name in given:
        if not isinstance(name, str | bytes | os.PathLike):
            raise TypeError(f"{what} is a path or several, and this is {_article(name)}")
        paths.append(os.path.expanduser(os.fsdecode(cast("str | bytes | os.PathLike[str]", name))))
    return paths


def _article(value: object) -> str:
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"
