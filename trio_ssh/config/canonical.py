"""``CanonicalizeHostname``: a short name, made whole by what DNS says of it.

Source: ssh_config(5), CanonicalizeHostname and those beside it.
"""

from __future__ import annotations

import ipaddress
import socket

import trio

from trio_ssh.config.options import SSHOptions
from trio_ssh.errors import CouldNotCanonicalize
from trio_ssh.keys import patterns
from trio_ssh.wire.text import printable


def lower_name(host: str) -> str:
    """Return `host` in lower case, unless it is an address: an address is spelled as the standard library does it."""
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        # ASCII only: no other character may become one of these letters.
        return host.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")


def is_address(host: str) -> bool:
    """Tell whether `host` is an IP address."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def canonicalize(host: str, options: SSHOptions) -> str:
    """Return the whole name of `host`, as far as the options want it.

    Raises:
        CouldNotCanonicalize: no domain knows it, and the options say not to go on.
    """
    mode = options.canonicalize_hostname or "no"
    is_direct = options.proxy_command is None and not options.proxy_jump
    if is_address(host) or (not is_direct and mode != "always"):
        return host
    if mode != "no":
        found = await _search(host, options)
        if found is not None:
            return found
    if options.canonicalize_permitted_cnames:
        canonical = await _resolve(host)
        if canonical is not None:
            return _follow(host, canonical, options)
    return host


async def _search(host: str, options: SSHOptions) -> str | None:
    """Look `host` up in the canonical domains; None if it stays as it is."""
    if host.endswith("."):
        candidates = [host]
    else:
        most = options.canonicalize_max_dots if options.canonicalize_max_dots is not None else 1
        if host.count(".") > most:
            return None
        candidates = [f"{host}.{domain}." for domain in options.canonical_domains or () if domain.lower() != "none"]
    for candidate in candidates:
        canonical = await _resolve(candidate)
        if canonical is not None:
            return _follow(candidate[:-1], canonical, options)
    if options.canonicalize_fallback_local is False:
        domains = ", ".join(options.canonical_domains or ()) or "none"
        raise CouldNotCanonicalize(
            f"{options.place('canonicalize_fallback_local')}: no canonical domain knows '{printable(host, 64)}'. "
            f"CanonicalDomains: {printable(domains, 200)}"
        )
    return None


def _follow(host: str, canonical: str, options: SSHOptions) -> str:
    """Return the name that `host` is an alias of in DNS, if it may be followed there."""
    canonical = canonical.rstrip(".").lower()
    for source, target in options.canonicalize_permitted_cnames or ():
        if patterns.matches_any(source.split(","), host.lower()) and patterns.matches_any(target.split(","), canonical):
            return canonical
    return host


async def _resolve(host: str) -> str | None:
    """Return the canonical name that the resolver has for `host`, or None if there is no such host."""
    try:
        found = await trio.socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_CANONNAME)
    except (OSError, UnicodeError):
        return None
    return found[0][3] or host if found else None
