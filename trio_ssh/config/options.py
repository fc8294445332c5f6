"""What a configuration says of one host: `SSHOptions`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, cast

import attrs

from trio_ssh.config.keywords import BY_ATTRIBUTE, Rule
from trio_ssh.config.values import AlgorithmList, Forwarding, JumpHost, Listen, RekeyLimit

_NOWHERE: Mapping[str, str] = MappingProxyType({})
#: Commands and variables often hold passwords and tokens, and what has a `repr` ends up in a log.
_NOT_SHOWN: Final = frozenset({"knownhostscommand", "localcommand", "proxycommand", "remotecommand", "setenv"})


@attrs.frozen(kw_only=True)
class SSHOptions:
    """What a configuration says of one host, with names and variables filled in.

    Every keyword of ssh_config(5) is an attribute; one that nothing was said of is None, or empty if it can be given
    several times.  Times are seconds.  `as_dict` is the same as paramiko has it.

    Attributes:
        original_hostname: the name that was looked up.
        hostname: where to connect to.
        local_user: who runs this program: whom to log in as where `user` is None.
        places: where each keyword of `as_dict` was set: ``file:line``.
    """

    original_hostname: str
    hostname: str
    local_user: str = ""
    places: Mapping[str, str] = attrs.field(default=_NOWHERE, repr=False)

    # Where to connect to
    port: int | None = None
    user: str | None = None
    address_family: str | None = None
    bind_address: str | None = None
    bind_interface: str | None = None
    connect_timeout: int | None = None
    connection_attempts: int | None = None
    tcp_keep_alive: bool | None = None
    ip_qos: tuple[str, ...] | None = None
    proxy_command: str | None = None
    proxy_jump: tuple[JumpHost, ...] | None = None
    proxy_use_fdpass: bool | None = None
    canonicalize_hostname: str | None = None
    canonical_domains: tuple[str, ...] | None = None
    canonicalize_fallback_local: bool | None = None
    canonicalize_max_dots: int | None = None
    canonicalize_permitted_cnames: tuple[tuple[str, str], ...] | None = None
    tag: str | None = None
    refuse_connection: str | None = None
    # Whether it is the right host
    user_known_hosts_file: tuple[str, ...] | None = None
    global_known_hosts_file: tuple[str, ...] | None = None
    host_key_alias: str | None = None
    strict_host_key_checking: str | None = None
    check_host_ip: bool | None = None
    hash_known_hosts: bool | None = None
    update_host_keys: str | None = None
    verify_host_key_dns: str | None = None
    visual_host_key: bool | None = None
    fingerprint_hash: str | None = None
    revoked_host_keys: str | None = None
    known_hosts_command: str | None = None
    no_host_authentication_for_localhost: bool | None = None
    # Algorithms
    host_key_algorithms: AlgorithmList | None = None
    kex_algorithms: AlgorithmList | None = None
    ciphers: AlgorithmList | None = None
    macs: AlgorithmList | None = None
    ca_signature_algorithms: AlgorithmList | None = None
    pubkey_accepted_algorithms: AlgorithmList | None = None
    hostbased_accepted_algorithms: AlgorithmList | None = None
    required_rsa_size: int | None = None
    warn_weak_crypto: str | None = None
    compression: bool | None = None
    rekey_limit: RekeyLimit | None = None
    # Logging in
    identity_file: tuple[str, ...] = ()
    certificate_file: tuple[str, ...] = ()
    identities_only: bool | None = None
    identity_agent: str | None = None
    add_keys_to_agent: tuple[str, ...] | None = None
    preferred_authentications: tuple[str, ...] | None = None
    password_authentication: bool | None = None
    pubkey_authentication: str | None = None
    kbd_interactive_authentication: bool | None = None
    kbd_interactive_devices: str | None = None
    hostbased_authentication: bool | None = None
    enable_ssh_keysign: bool | None = None
    number_of_password_prompts: int | None = None
    batch_mode: bool | None = None
    pkcs11_provider: str | None = None
    security_key_provider: str | None = None
    gssapi_authentication: bool | None = None
    gssapi_delegate_credentials: bool | None = None
    gssapi_key_exchange: bool | None = None
    gssapi_client_identity: str | None = None
    gssapi_server_identity: str | None = None
    gssapi_renewal_forces_rekey: bool | None = None
    gssapi_trust_dns: bool | None = None
    gssapi_kex_algorithms: str | None = None
    # The connection's life
    server_alive_interval: int | None = None
    server_alive_count_max: int | None = None
    channel_timeout: tuple[str, ...] | None = None
    control_master: str | None = None
    control_path: str | None = None
    control_persist: str | None = None
    # Sessions
    send_env: tuple[str, ...] = ()
    set_env: tuple[tuple[str, str], ...] | None = None
    request_tty: str | None = None
    remote_command: str | None = None
    session_type: str | None = None
    local_command: str | None = None
    permit_local_command: bool | None = None
    stdin_null: bool | None = None
    fork_after_authentication: bool | None = None
    escape_char: str | None = None
    enable_escape_commandline: bool | None = None
    obscure_keystroke_timing: str | None = None
    log_level: str | None = None
    log_verbose: tuple[str, ...] | None = None
    syslog_facility: str | None = None
    version_addendum: str | None = None
    # Forwarding
    local_forward: tuple[Forwarding, ...] = ()
    remote_forward: tuple[Forwarding, ...] = ()
    dynamic_forward: tuple[Listen, ...] = ()
    clear_all_forwardings: bool | None = None
    exit_on_forward_failure: bool | None = None
    gateway_ports: bool | None = None
    permit_remote_open: tuple[str, ...] | None = None
    stream_local_bind_mask: int | None = None
    stream_local_bind_unlink: bool | None = None
    forward_agent: str | None = None
    forward_x11: bool | None = None
    forward_x11_trusted: bool | None = None
    forward_x11_timeout: int | None = None
    xauth_location: str | None = None
    tunnel: str | None = None
    tunnel_device: str | None = None
    # The file itself
    ignore_unknown: str | None = None

    def __repr__(self) -> str:
        said = ", ".join(
            f"{name}=..." if name in _NOT_SHOWN else f"{name}={value!r}" for name, value in self.as_dict().items()
        )
        return f"<SSHOptions of {self.original_hostname}: {said}>"

    def place(self, attribute: str) -> str:
        """Return where an attribute was set, for error messages: ``Keyword (file:line)``."""
        keyword = BY_ATTRIBUTE[attribute].name
        found = self.places.get(keyword.lower())
        return f"{keyword} ({found})" if found is not None else keyword

    def __getitem__(self, keyword: str) -> str | list[str]:
        """Return what `as_dict` has."""
        return self.as_dict()[keyword]

    def __contains__(self, keyword: str) -> bool:
        return keyword in self.as_dict()

    def get(self, keyword: str, default: str | None = None) -> str | list[str] | None:
        """Return what `as_dict` has, or `default`."""
        return self.as_dict().get(keyword, default)

    def as_dict(self) -> dict[str, str | list[str]]:
        """Return what was set, as paramiko does: keywords in lower case, values as text, or lists of texts."""
        found: dict[str, str | list[str]] = {"hostname": self.hostname}
        for attribute, keyword in BY_ATTRIBUTE.items():
            value = getattr(self, attribute)
            if value is None or attribute == "hostname":
                continue
            if keyword.rule is not Rule.FIRST:
                if value:
                    found[keyword.name.lower()] = [_text(each) for each in value]
            else:
                found[keyword.name.lower()] = _value_text(attribute, value)
        return found


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value)


def _value_text(attribute: str, value: Any) -> str:
    match attribute:
        case "stream_local_bind_mask":
            return f"{value:04o}"
        case "proxy_jump" | "preferred_authentications":
            return ",".join(map(str, value)) or "none"
        case "set_env":
            return " ".join(f"{name}={text}" for name, text in value)
        case "canonicalize_permitted_cnames":
            return " ".join(f"{source}:{target}" for source, target in value) or "none"
        case _ if isinstance(value, tuple):
            return " ".join(map(str, cast("tuple[object, ...]", value))) or "none"
        case _:
            return _text(value)
