"""Every keyword of ssh_config(5): its attribute of `SSHOptions`, its values, and which of several count."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

from trio_ssh.config import values
from trio_ssh.config.values import choice, choices, comma_list, flag, number, one, seconds, several
from trio_ssh.wire.text import printable

Reader = Callable[[Sequence[str]], object]


class Rule(enum.Enum):
    """Which of several lines with one keyword count."""

    #: The first.
    FIRST = "first"
    #: All of them, each value once.
    EACH = "each"
    #: All words of all of them; one behind ``-`` takes away what it matches.
    WORDS = "words"


class Expansion(enum.Enum):
    """What is replaced in a value before it is used."""

    NOTHING = "nothing"
    #: ``~``, every token, and ``${VARIABLE}``.
    PATH = "path"
    #: Every token in hosts, as `PATH` in the paths of UNIX sockets.
    FORWARDING = "forwarding"
    #: ``%h``.
    HOST = "host"
    #: ``%h``, ``%n``, ``%p`` and ``%r``.
    PROXY = "proxy"
    #: As `PROXY`, of names that no shell would interpret.
    SHELL = "shell"
    #: Every token, of names that no shell would interpret: the server's is no better.
    REMOTE_SHELL = "remote shell"


@attrs.frozen
class Keyword:
    """A keyword.

    Attributes:
        name: as ssh_config(5) spells it.
        attribute: of `SSHOptions`.
        read: makes a value of words.
        rule: which of several count.
        expansion: what is replaced in it.
        is_raw: the value is the rest of the line as it stands, quotes and all.
        clears: the value ``none`` is as if nothing was said, only that nothing can be said any more.
    """

    name: str
    attribute: str
    read: Reader = attrs.field(default=one, repr=False)
    rule: Rule = Rule.FIRST
    expansion: Expansion = Expansion.NOTHING
    is_raw: bool = False
    clears: bool = False


def _forward_agent(words: Sequence[str]) -> str:
    word = one(words)
    return {"yes": "yes", "true": "yes", "no": "no", "false": "no"}.get(word.lower(), word)


def _files(words: Sequence[str]) -> tuple[str, ...]:
    """Take files, or ``none``."""
    if [word.lower() for word in words] == ["none"]:
        return ()
    if any(word.lower() == "none" for word in words):
        raise ValueError("'none' stands alone")
    return several(words)


def _variables(words: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Take variables as ``NAME=value``."""
    found: dict[str, str] = {}
    for word in several(words):
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise ValueError(f"'{printable(word, 64)}' is not NAME=value")
        found.setdefault(name, value)
    return tuple(found.items())


def _variable_patterns(words: Sequence[str]) -> tuple[str, ...]:
    """Take names of variables, or patterns of them."""
    for word in several(words):
        if "=" in word or word == "-":
            raise ValueError(f"'{printable(word, 64)}' is not the name of a variable; SetEnv sets values")
    return tuple(words)


def _permitted_cnames(words: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Take pairs ``source:target`` of lists of patterns, or ``none``."""
    if [word.lower() for word in words] == ["none"]:
        return ()
    pairs: list[tuple[str, str]] = []
    for word in several(words):
        source, colon, target = word.partition(":")
        if not (source and colon and target) or ":" in target:
            raise ValueError(f"'{printable(word, 64)}' is not source-domains:target-domains")
        pairs.append((source.lower(), target.lower()))
    return tuple(pairs)


def _compression(words: Sequence[str]) -> bool:
    """Take ``yes`` or ``no``, which alone OpenSSH takes here."""
    return choices("yes", "no")(words) == "yes"


_YES_NO_ASK: Final = choices("yes", "no", "ask", true="yes", false="no")
_CONTROL_MASTER: Final = choices("yes", "no", "ask", "auto", "autoask", true="yes", false="no")
_TUNNEL: Final = choices("no", "ethernet", "point-to-point", yes="point-to-point", true="point-to-point", false="no")
_SYSLOG_FACILITIES: Final = choice(
    {name.lower(): name for name in ("DAEMON", "USER", "AUTH", "AUTHPRIV", *(f"LOCAL{number}" for number in range(8)))}
)
_LOG_LEVELS: Final = choice(
    {
        level.lower(): level
        for level in ("QUIET", "FATAL", "ERROR", "INFO", "VERBOSE", "DEBUG", "DEBUG1", "DEBUG2", "DEBUG3")
    }
    | {"debug": "DEBUG1", "silent": "QUIET"}
)

#: Every keyword that means something today.
_KEYWORDS: Final = (
    # Where to connect to
    Keyword("HostName", "hostname", expansion=Expansion.HOST),
    Keyword("Port", "port", values.port),
    Keyword("User", "user"),
    Keyword("AddressFamily", "address_family", choices("any", "inet", "inet6")),
    Keyword("BindAddress", "bind_address"),
    Keyword("BindInterface", "bind_interface"),
    Keyword("ConnectTimeout", "connect_timeout", values.seconds_or_none),
    Keyword("ConnectionAttempts", "connection_attempts", number(1)),
    Keyword("TCPKeepAlive", "tcp_keep_alive", flag),
    Keyword("IPQoS", "ip_qos", several),
    Keyword("ProxyCommand", "proxy_command", expansion=Expansion.SHELL, is_raw=True, clears=True),
    Keyword("ProxyJump", "proxy_jump", values.jump_hosts, expansion=Expansion.PROXY),
    Keyword("ProxyUseFdpass", "proxy_use_fdpass", flag),
    Keyword("CanonicalizeHostname", "canonicalize_hostname", choices("yes", "no", "always", true="yes", false="no")),
    Keyword("CanonicalDomains", "canonical_domains", several),
    Keyword("CanonicalizeFallbackLocal", "canonicalize_fallback_local", flag),
    Keyword("CanonicalizeMaxDots", "canonicalize_max_dots", number()),
    Keyword("CanonicalizePermittedCNAMEs", "canonicalize_permitted_cnames", _permitted_cnames),
    Keyword("Tag", "tag"),
    Keyword("RefuseConnection", "refuse_connection", is_raw=True),
    # Whether it is the right host
    Keyword("UserKnownHostsFile", "user_known_hosts_file", _files, expansion=Expansion.PATH),
    Keyword("GlobalKnownHostsFile", "global_known_hosts_file", _files),
    Keyword("HostKeyAlias", "host_key_alias"),
    Keyword(
        "StrictHostKeyChecking",
        "strict_host_key_checking",
        choices("yes", "no", "ask", "accept-new", true="yes", false="no", off="no"),
    ),
    Keyword("CheckHostIP", "check_host_ip", flag),
    Keyword("HashKnownHosts", "hash_known_hosts", flag),
    Keyword("UpdateHostKeys", "update_host_keys", _YES_NO_ASK),
    Keyword("VerifyHostKeyDNS", "verify_host_key_dns", _YES_NO_ASK),
    Keyword("VisualHostKey", "visual_host_key", flag),
    Keyword("FingerprintHash", "fingerprint_hash", choices("md5", "sha1", "sha256", "sha384", "sha512")),
    Keyword("RevokedHostKeys", "revoked_host_keys", expansion=Expansion.PATH, clears=True),
    Keyword("KnownHostsCommand", "known_hosts_command", is_raw=True, clears=True),
    Keyword("NoHostAuthenticationForLocalhost", "no_host_authentication_for_localhost", flag),
    # Algorithms
    Keyword("HostKeyAlgorithms", "host_key_algorithms", values.algorithm_list),
    Keyword("KexAlgorithms", "kex_algorithms", values.algorithm_list),
    Keyword("Ciphers", "ciphers", values.algorithm_list),
    Keyword("MACs", "macs", values.algorithm_list),
    Keyword("CASignatureAlgorithms", "ca_signature_algorithms", values.algorithm_list),
    Keyword("PubkeyAcceptedAlgorithms", "pubkey_accepted_algorithms", values.algorithm_list),
    Keyword("HostbasedAcceptedAlgorithms", "hostbased_accepted_algorithms", values.algorithm_list),
    Keyword("RequiredRSASize", "required_rsa_size", number()),
    Keyword("WarnWeakCrypto", "warn_weak_crypto"),
    Keyword("Compression", "compression", _compression),
    Keyword("RekeyLimit", "rekey_limit", values.rekey_limit),
    # Logging in
    Keyword("IdentityFile", "identity_file", rule=Rule.EACH, expansion=Expansion.PATH),
    Keyword("CertificateFile", "certificate_file", rule=Rule.EACH, expansion=Expansion.PATH),
    Keyword("IdentitiesOnly", "identities_only", flag),
    Keyword("IdentityAgent", "identity_agent", expansion=Expansion.PATH),
    Keyword("AddKeysToAgent", "add_keys_to_agent", several),
    Keyword("PreferredAuthentications", "preferred_authentications", comma_list),
    Keyword("PasswordAuthentication", "password_authentication", flag),
    Keyword(
        "PubkeyAuthentication",
        "pubkey_authentication",
        choices("yes", "no", "unbound", "host-bound", true="yes", false="no"),
    ),
    Keyword("KbdInteractiveAuthentication", "kbd_interactive_authentication", flag),
    Keyword("KbdInteractiveDevices", "kbd_interactive_devices"),
    Keyword("HostbasedAuthentication", "hostbased_authentication", flag),
    Keyword("EnableSSHKeysign", "enable_ssh_keysign", flag),
    Keyword("NumberOfPasswordPrompts", "number_of_password_prompts", number()),
    Keyword("BatchMode", "batch_mode", flag),
    Keyword("PKCS11Provider", "pkcs11_provider", clears=True),
    Keyword("SecurityKeyProvider", "security_key_provider", clears=True),
    Keyword("GSSAPIAuthentication", "gssapi_authentication", flag),
    Keyword("GSSAPIDelegateCredentials", "gssapi_delegate_credentials", flag),
    Keyword("GSSAPIKeyExchange", "gssapi_key_exchange", flag),
    Keyword("GSSAPIClientIdentity", "gssapi_client_identity"),
    Keyword("GSSAPIServerIdentity", "gssapi_server_identity"),
    Keyword("GSSAPIRenewalForcesRekey", "gssapi_renewal_forces_rekey", flag),
    Keyword("GSSAPITrustDns", "gssapi_trust_dns", flag),
    Keyword("GSSAPIKexAlgorithms", "gssapi_kex_algorithms"),
    # The connection's life
    Keyword("ServerAliveInterval", "server_alive_interval", values.seconds_or_none),
    Keyword("ServerAliveCountMax", "server_alive_count_max", number()),
    Keyword("ChannelTimeout", "channel_timeout", several),
    Keyword("ControlMaster", "control_master", _CONTROL_MASTER),
    Keyword("ControlPath", "control_path", expansion=Expansion.PATH, clears=True),
    Keyword("ControlPersist", "control_persist"),
    # Sessions
    Keyword("SendEnv", "send_env", _variable_patterns, Rule.WORDS),
    Keyword("SetEnv", "set_env", _variables),
    Keyword("RequestTTY", "request_tty", choices("no", "yes", "force", "auto", true="yes", false="no")),
    Keyword("RemoteCommand", "remote_command", expansion=Expansion.REMOTE_SHELL, is_raw=True, clears=True),
    Keyword("SessionType", "session_type", choices("none", "subsystem", "default")),
    Keyword("LocalCommand", "local_command", is_raw=True, clears=True),
    Keyword("PermitLocalCommand", "permit_local_command", flag),
    Keyword("StdinNull", "stdin_null", flag),
    Keyword("ForkAfterAuthentication", "fork_after_authentication", flag),
    Keyword("EscapeChar", "escape_char", values.escape_character),
    Keyword("EnableEscapeCommandline", "enable_escape_commandline", flag),
    Keyword("ObscureKeystrokeTiming", "obscure_keystroke_timing"),
    Keyword("LogLevel", "log_level", _LOG_LEVELS),
    Keyword("LogVerbose", "log_verbose", several),
    Keyword("SyslogFacility", "syslog_facility", _SYSLOG_FACILITIES),
    Keyword("VersionAddendum", "version_addendum", is_raw=True),
    # Forwarding
    Keyword("LocalForward", "local_forward", values.local_forward, Rule.EACH, Expansion.FORWARDING),
    Keyword("RemoteForward", "remote_forward", values.remote_forward, Rule.EACH, Expansion.FORWARDING),
    Keyword("DynamicForward", "dynamic_forward", values.dynamic_forward, Rule.EACH),
    Keyword("ClearAllForwardings", "clear_all_forwardings", flag),
    Keyword("ExitOnForwardFailure", "exit_on_forward_failure", flag),
    Keyword("GatewayPorts", "gateway_ports", flag),
    Keyword("PermitRemoteOpen", "permit_remote_open", several),
    Keyword("StreamLocalBindMask", "stream_local_bind_mask", values.octal),
    Keyword("StreamLocalBindUnlink", "stream_local_bind_unlink", flag),
    Keyword("ForwardAgent", "forward_agent", _forward_agent),
    Keyword("ForwardX11", "forward_x11", flag),
    Keyword("ForwardX11Trusted", "forward_x11_trusted", flag),
    Keyword("ForwardX11Timeout", "forward_x11_timeout", seconds),
    Keyword("XAuthLocation", "xauth_location"),
    Keyword("Tunnel", "tunnel", _TUNNEL),
    Keyword("TunnelDevice", "tunnel_device"),
    # The file itself
    Keyword("IgnoreUnknown", "ignore_unknown"),
)

#: Older names.
_ALIASES: Final = {
    "challengeresponseauthentication": "kbdinteractiveauthentication",
    "skeyauthentication": "kbdinteractiveauthentication",
    "tisauthentication": "kbdinteractiveauthentication",
    "dsaauthentication": "pubkeyauthentication",
    "hostbasedkeytypes": "hostbasedacceptedalgorithms",
    "pubkeyacceptedkeytypes": "pubkeyacceptedalgorithms",
    "keepalive": "tcpkeepalive",
    "smartcarddevice": "pkcs11provider",
}

#: What OpenSSH once knew, and reads without a word.
DEPRECATED: Final = frozenset(
    {
        "afstokenpassing",
        "cipher",
        "compressionlevel",
        "fallbacktorsh",
        "globalknownhostsfile2",
        "kerberosauthentication",
        "kerberostgtpassing",
        "protocol",
        "rhostsauthentication",
        "rhostsrsaauthentication",
        "rsaauthentication",
        "useprivilegedport",
        "userknownhostsfile2",
        "useroaming",
        "usersh",
    }
)

#: By name in lower case, older names included.
KEYWORDS: Final[Mapping[str, Keyword]] = {each.name.lower(): each for each in _KEYWORDS} | {
    old: next(each for each in _KEYWORDS if each.name.lower() == new) for old, new in _ALIASES.items()
}

#: By attribute of `SSHOptions`.
BY_ATTRIBUTE: Final[Mapping[str, Keyword]] = {each.attribute: each for each in _KEYWORDS}
