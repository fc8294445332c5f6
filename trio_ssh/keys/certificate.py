"""OpenSSH certificates: a public key, and an authority's word on whose it is, until when, and for what.

A `Certificate` that exists was signed by its `Certificate.authority`: one that wasn't can't be read.  Whether that
authority is believed, and whether the certificate is good for this name at this time, `Certificate.check_for_user` and
`Certificate.check_for_host` tell.  A certificate is no `PublicKey` and never equal to one, so that a list of keys can't
let it in by the key that it certifies.

Source: OpenSSH PROTOCOL.certkeys; what it leaves open is decided as OpenSSH's sshkey.c and auth-options.c do.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from types import MappingProxyType
from typing import ClassVar, Protocol, Self, runtime_checkable

import attrs

from trio_ssh.errors import CertificateException, KeyFileException, RemoteProtocolError
from trio_ssh.keys import patterns
from trio_ssh.keys.certification import (
    AUTHORITY_ALGORITHMS,
    CRITICAL_OPTIONS,
    KEY_FIELDS,
    KINDS,
    MAX_PRINCIPALS,
    PERMISSIONS,
    SUFFIX,
    USUAL_PERMISSIONS,
    CertificateBody,
    CertificateKind,
    CertificatePermissions,
    Network,
    certificate_name,
    encode_options,
    encode_text,
    has_flag,
    networks,
    pack_names,
    pack_options,
    read_authority,
    read_force_command,
    read_key,
    read_names,
    read_options,
    read_permissions,
    read_source_addresses,
)
from trio_ssh.keys.disk import FilePath, read_key_file, shown_path
from trio_ssh.keys.public_key import PublicKey, decode_blob, signature_head
from trio_ssh.wire.fields import TEXT
from trio_ssh.wire.message import Message
from trio_ssh.wire.text import printable


class Authority(Protocol):
    """What certificates are signed with: any `PKey`, or whatever holds a key elsewhere and signs at once."""

    @property
    def public_key(self) -> PublicKey:
        """The public half."""
        ...

    def sign(self, data: bytes, algorithm: str | None = None) -> bytes:
        """Sign, as `PKey.sign` does."""
        ...


@runtime_checkable
class _Attended(Protocol):
    """A key that can tell whether somebody was there when it signed, as those in tokens can."""

    def verify_details(
        self,
        data: bytes,
        signature: bytes,
        algorithm: str,
        *,
        require_presence: bool = True,
        require_verification: bool = False,
    ) -> object:
        """Verify a signature, and what is asked besides."""
        ...


@attrs.frozen(eq=False, repr=False, kw_only=True)
class Certificate:
    """A public key, and what an authority certifies of it.

    `from_blob`, `from_line`, `from_path`, `issue_for_user` and `issue_for_host` make one.  Each of them has checked the
    authority's signature; whether the authority is to be believed is for `check_for_user` and `check_for_host`.

    Attributes:
        key_type: its type on the wire, such as ``"ssh-ed25519-cert-v01@openssh.com"``.
        blob: the whole certificate, as on the wire.  Two certificates are equal if their blobs are.
        public_key: the key that is certified.  It isn't the certificate: what trusts the one does not trust the other.
        kind: ``"user"`` or ``"host"``.
        serial: the authority's number for it; 0 where it doesn't number.
        key_id: what the authority calls it in logs.
        principals: the names that it is good for; a host's may be patterns.
        valid_after: seconds since the epoch at which it begins to be good.
        valid_before: seconds since the epoch at which it no longer is; `FOREVER` if it always will be.
        critical_options: name and data, as on the wire, of what restricts it.
        extensions: name and data, as on the wire, of what it grants.
        force_command: the one command that may run, whatever the user asked for; or None.
        source_addresses: the networks that a login may come from; None if it may from anywhere.
        verify_required: whether a security key must have verified its user, by a PIN for instance.
        permissions: what it grants, as values.
        authority: the key that signed it.
        signature_algorithm: how it was signed, such as ``"rsa-sha2-512"``.
    """

    #: What `valid_before` is where a certificate never expires.
    FOREVER: ClassVar[int] = 2**64 - 1

    key_type: str
    blob: bytes
    public_key: PublicKey
    kind: CertificateKind
    serial: int
    key_id: str
    principals: tuple[str, ...]
    valid_after: int
    valid_before: int
    critical_options: Mapping[str, bytes]
    extensions: Mapping[str, bytes]
    force_command: str | None
    source_addresses: tuple[Network, ...] | None
    verify_required: bool
    permissions: CertificatePermissions
    authority: PublicKey
    signature_algorithm: str

    # -- reading

    @classmethod
    def from_blob(cls, blob: bytes, *, minimum_rsa_bits: int = 2048) -> Self:
        """Read a certificate as it is on the wire, and check the signature of the authority that it names.

        Args:
            blob: the whole of it.
            minimum_rsa_bits: below which an RSA key is refused, the certified one and the authority's.

        Raises:
            RemoteProtocolError: it is no certificate; a key in it is unusable; or that authority did not sign it.
        """
        key_type, public_key, offset = read_key(blob, minimum_rsa_bits)
        body = CertificateBody.decode(blob, offset)
        kind = KINDS.get(body.kind)
        if kind is None:
            raise RemoteProtocolError(f"a certificate of the unknown kind {body.kind}")
        # Every limit and every form before the signature, which is what costs.
        principals = tuple(read_names(body.principals))
        critical_options = read_options(body.critical_options, "critical options")
        extensions = read_options(body.extensions, "extensions")
        if "\0" in body.key_id:
            raise RemoteProtocolError("a certificate whose key id has a NUL in it")
        is_user = kind == "user"
        authority = read_authority(body.authority, minimum_rsa_bits)
        algorithm, _ = TEXT.read(body.signature, 0)
        # The name comes from the signature, so it may be a broken one.  `_check_authority` has the last word on it.
        authority.verify(blob[: -4 - len(body.signature)], body.signature, algorithm)
        return cls(
            key_type=key_type,
            blob=blob,
            public_key=public_key,
            kind=kind,
            serial=body.serial,
            key_id=body.key_id,
            principals=principals,
            valid_after=body.valid_after,
            valid_before=body.valid_before,
            critical_options=MappingProxyType(critical_options),
            extensions=MappingProxyType(extensions),
            force_command=read_force_command(critical_options) if is_user else None,
            source_addresses=read_source_addresses(critical_options) if is_user else None,
            verify_required=has_flag(critical_options, "verify-required") if is_user else False,
            permissions=read_permissions(extensions if is_user else {}),
            authority=authority,
            signature_algorithm=algorithm,
        )

    @classmethod
    def from_line(cls, text: str) -> Self:
        """Read the line of a ``-cert.pub`` file: type, base64, and perhaps a comment.

        Raises:
            KeyFileException: it is something else, or a certificate that can't be used.
        """
        words = text.split(maxsplit=2)
        if len(text.strip().splitlines()) != 1 or len(words) < 2:
            raise KeyFileException(
                "a certificate is one line of type, base64 and comment. Give the content of a -cert.pub file."
            )
        if not words[0].endswith(SUFFIX):
            raise KeyFileException(
                f"this is no certificate, but of the type {printable(words[0], 64)}. Give the content of a -cert.pub "
                f"file; `ssh-keygen -s` makes one of a .pub file."
            )
        try:
            made = cls.from_blob(decode_blob(words[1]))
        except RemoteProtocolError as error:
            raise KeyFileException(f"not a usable certificate: {error}") from None
        if made.key_type != words[0]:
            raise KeyFileException(
                f"the line says {printable(words[0], 64)}, but the certificate is of the type {made.key_type}"
            )
        return made

    @classmethod
    def from_path(cls, path: FilePath) -> Self:
        """Read a ``-cert.pub`` file.

        Raises:
            KeyFileException: there is none, or no usable certificate in it; the text names the file.
        """
        data, _ = read_key_file(path)
        try:
            return cls.from_line(data.decode("utf-8", "surrogateescape"))
        except KeyFileException as error:
            raise KeyFileException(f"{shown_path(path)}: {error}") from None

    def to_openssh(self, comment: str = "") -> str:
        """Return the line of a ``-cert.pub`` file, without its end; control characters are escaped."""
        line = f"{self.key_type} {base64.b64encode(self.blob).decode('ascii')}"
        return f"{line} {printable(comment, 4096)}" if comment else line

    # -- using

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The names under which signatures by its key are negotiated, best first."""
        return tuple(map(certificate_name, self.public_key.algorithms))

    @property
    def legacy_algorithms(self) -> tuple[str, ...]:
        """Those of them that are broken, or about to be: for who names them only."""
        return tuple(map(certificate_name, self.public_key.legacy_algorithms))

    def plain_algorithm(self, algorithm: str) -> str:
        """Return the algorithm that a signature names where `algorithm`, a certificate's, was negotiated.

        The certificate is only shown; what signs is its key, in the key's own way.

        Raises:
            RemoteProtocolError: it is none of `algorithms`, and none of `legacy_algorithms`.
        """
        for plain in (*self.public_key.algorithms, *self.public_key.legacy_algorithms):
            if certificate_name(plain) == algorithm:
                return plain
        raise RemoteProtocolError(f"an {self.key_type} can't be used with {printable(algorithm)}")

    def verify(self, data: bytes, signature: bytes, algorithm: str, *, allow_untouched: bool = False) -> None:
        """Do nothing if `signature` was made over `data` with the private half of `public_key`.

        It tells who holds the key, and nothing about the authority.  Where the certificate wants a security key to have
        verified its user, no other signature will do.

        Args:
            data: what was signed.
            signature: as on the wire: the plain algorithm's name, and the signature proper, each a string.
            algorithm: the one that was agreed on or announced, one of `algorithms`.
            allow_untouched: whether the certificate's ``no-touch-required`` is heeded.  OpenSSH heeds it where the
                authority's own line says so too.

        Raises:
            RemoteProtocolError: it is anything else.
        """
        plain = self.plain_algorithm(algorithm)
        if isinstance(self.public_key, _Attended):
            self.public_key.verify_details(
                data,
                signature,
                plain,
                require_presence=not (allow_untouched and self.permissions.no_touch_required),
                require_verification=self.verify_required,
            )
        elif self.verify_required:
            raise RemoteProtocolError(f"{self} wants a security key that verified its user, and its key is none")
        else:
            self.public_key.verify(data, signature, plain)

    # -- checking

    def check_for_user(
        self,
        username: str | Collection[str],
        *,
        authorities: Collection[PublicKey],
        now: float,
        address: str | None = None,
        authority_algorithms: Collection[str] = AUTHORITY_ALGORITHMS,
        allow_any_principal: bool = False,
    ) -> None:
        """Do nothing if this certificate lets a user in.

        What it demands besides is for the session's owner: `force_command`, `verify_required`, `permissions`.  So is
        revocation: see `KeyRevocationList.is_revoked`.

        Args:
            username: who logs in; or several names, any of which will do.
            authorities: the keys that may certify users.
            now: seconds since the epoch.
            address: where the login comes from, as numbers.  Without it, a certificate that is bound to addresses is
                refused.
            authority_algorithms: with what an authority may have signed.
            allow_any_principal: whether a certificate without any name is good for all, as PROTOCOL.certkeys says.

        Raises:
            CertificateException: it doesn't; the text says why.
        """
        names = (username,) if isinstance(username, str) else tuple(username)
        self._check_user(names, authorities, authority_algorithms, now, allow_any_principal)
        self._check_address(address)

    def check_for_signer(
        self,
        principal: str,
        *,
        authorities: Collection[PublicKey],
        now: float,
        authority_algorithms: Collection[str] = AUTHORITY_ALGORITHMS,
    ) -> None:
        """As `check_for_user`, of who signed data: nobody logs in, so that addresses and commands don't matter.

        Raises:
            CertificateException: the certificate is not `principal`'s.
        """
        self._check_user((principal,), authorities, authority_algorithms, now, False)

    def check_for_host(
        self,
        hostname: str,
        *,
        authorities: Collection[PublicKey],
        now: float,
        authority_algorithms: Collection[str] = AUTHORITY_ALGORITHMS,
        allow_any_principal: bool = False,
    ) -> None:
        """Do nothing if this certificate shows its key to be a host's.

        Args:
            hostname: the name that was connected to, without a port.
            authorities: the keys that may certify this host: those that known_hosts marks ``@cert-authority`` for it.
            now: seconds since the epoch.
            authority_algorithms: with what an authority may have signed.
            allow_any_principal: whether a certificate without any name is good for all, as PROTOCOL.certkeys says.

        Raises:
            CertificateException: it doesn't; the text says why.
        """
        self._check_authority("host", authorities, authority_algorithms, now)
        lowered = hostname.encode("utf-8", "surrogatepass").lower().decode("utf-8", "surrogatepass")
        is_named = any(
            len(principal) <= patterns.LONGEST and patterns.matches(principal, lowered) for principal in self.principals
        )
        if not (allow_any_principal and not self.principals) and not is_named:
            raise CertificateException(
                f"{self} is not for {printable(hostname)}, but for {self._shown_principals()}. "
                "Connect by one of these names, or have one issued that has this name."
            )
        for name in self.critical_options:
            raise CertificateException(f"{self} has the critical option '{printable(name, 64)}', as no host's may")

    def _check_authority(
        self, kind: CertificateKind, authorities: Collection[PublicKey], algorithms: Collection[str], now: float
    ) -> None:
        if self.kind != kind:
            raise CertificateException(f"{self} is a {self.kind}'s, not a {kind}'s")
        if self.authority not in authorities:
            raise CertificateException(f"{self} is by {self.authority}, which is no authority here")
        if self.signature_algorithm not in algorithms:
            raise CertificateException(f"{self} is signed with {self.signature_algorithm}, which is not accepted")
        if now < self.valid_after:
            raise CertificateException(
                f"{self} is not valid before {shown_time(self.valid_after)}; it is {shown_time(now)}. Check the clocks."
            )
        if now >= self.valid_before:
            raise CertificateException(f"{self} expired at {shown_time(self.valid_before)}. Have a new one issued.")

    def _check_user(
        self,
        names: tuple[str, ...],
        authorities: Collection[PublicKey],
        algorithms: Collection[str],
        now: float,
        allow_any_principal: bool,
    ) -> None:
        self._check_authority("user", authorities, algorithms, now)
        if not (allow_any_principal and not self.principals) and not set(names) & set(self.principals):
            raise CertificateException(
                f"{self} is not for {printable(' or '.join(names) or 'nobody')}, but for {self._shown_principals()}. "
                "Have one issued that names the user."
            )
        for name in self.critical_options:
            if name not in CRITICAL_OPTIONS:
                raise CertificateException(f"{self} has the critical option '{printable(name, 64)}', which is unknown")

    def _check_address(self, address: str | None) -> None:
        if self.source_addresses is None:
            return
        if address is None:
            raise CertificateException(f"{self} is bound to addresses, and where the login comes from is not known")
        try:
            given = ip_address(address.partition("%")[0])
        except ValueError:
            raise CertificateException(
                f"{self} is bound to addresses, and '{printable(address, 64)}' is none"
            ) from None
        # A socket that takes both families shows a client of the old one so.
        plain = getattr(given, "ipv4_mapped", None) or given
        if not any(plain in network for network in self.source_addresses):
            raise CertificateException(
                f"{self} is good only from {', '.join(map(str, self.source_addresses))}, and not from {plain}"
            )

    def _shown_principals(self) -> str:
        return printable(", ".join(self.principals)) or "no name at all"

    # -- issuing

    @classmethod
    def issue_for_user(
        cls,
        authority: Authority,
        public_key: PublicKey,
        *,
        key_id: str,
        principals: Collection[str],
        valid_before: float,
        valid_after: float = 0,
        serial: int = 0,
        force_command: str | None = None,
        source_addresses: Collection[str] = (),
        verify_required: bool = False,
        permissions: CertificatePermissions = USUAL_PERMISSIONS,
        critical_options: Mapping[str, str | None] | None = None,
        extensions: Mapping[str, str | None] | None = None,
        algorithm: str | None = None,
    ) -> Self:
        """Certify a user's key, as ``ssh-keygen -s`` does.

        Args:
            authority: the key to sign with.
            public_key: the user's key.
            key_id: what logs shall call the certificate.
            principals: the names that the user may log in as, from 1 to 256.
            valid_before: seconds since the epoch at which it ends to be good; `FOREVER` if it must be.
            valid_after: seconds since the epoch at which it begins to be good.
            serial: the authority's number for it.  Only a certificate with a number can be revoked by it.
            force_command: the only command that may run.
            source_addresses: networks that logins may come from, such as ``"10.0.0.0/8"``; none means any.
            verify_required: whether a security key must verify its user, by a PIN for instance.
            permissions: what it grants; by default what ``ssh-keygen -s`` grants.
            critical_options: further restrictions, by name; whoever doesn't know one refuses the certificate.
            extensions: further grants, by name; whoever doesn't know one ignores it.
            algorithm: what to sign with; by default the authority's first.

        Raises:
            ValueError: what is asked for can't be certified; the text says why.
            LocalProtocolError: the authority can't sign with that algorithm.
        """
        restrictions = encode_options(critical_options, CRITICAL_OPTIONS)
        if force_command is not None:
            restrictions["force-command"] = encode_text(force_command)
        if source_addresses:
            restrictions["source-address"] = encode_text(",".join(map(str, networks(source_addresses))))
        if verify_required:
            restrictions["verify-required"] = b""
        grants = encode_options(extensions, PERMISSIONS)
        grants |= {name: b"" for name, attribute in PERMISSIONS.items() if getattr(permissions, attribute)}
        validity = (valid_after, valid_before)
        return cls._issue(
            authority, public_key, 1, key_id, principals, validity, serial, restrictions, grants, algorithm
        )

    @classmethod
    def issue_for_host(
        cls,
        authority: Authority,
        public_key: PublicKey,
        *,
        key_id: str,
        principals: Collection[str],
        valid_before: float,
        valid_after: float = 0,
        serial: int = 0,
        extensions: Mapping[str, str | None] | None = None,
        algorithm: str | None = None,
    ) -> Self:
        """Certify a host's key, as ``ssh-keygen -h -s`` does.

        Args:
            authority: the key to sign with.
            public_key: the host's key.
            key_id: what logs shall call the certificate.
            principals: the host's names, from 1 to 256, in lower case, without a port; patterns have ``*`` or ``?``.
            valid_before: seconds since the epoch at which it ends to be good; `FOREVER` if it must be.
            valid_after: seconds since the epoch at which it begins to be good.
            serial: the authority's number for it.  Only a certificate with a number can be revoked by it.
            extensions: what is said of the host besides, by name; whoever doesn't know one ignores it.
            algorithm: what to sign with; by default the authority's first.

        Raises:
            ValueError: what is asked for can't be certified; the text says why.
            LocalProtocolError: the authority can't sign with that algorithm.
        """
        grants = encode_options(extensions, ())
        validity = (valid_after, valid_before)
        return cls._issue(authority, public_key, 2, key_id, principals, validity, serial, {}, grants, algorithm)

    @classmethod
    def _issue(
        cls,
        authority: Authority,
        public_key: PublicKey,
        kind: int,
        key_id: str,
        principals: Collection[str],
        validity: tuple[float, float],
        serial: int,
        critical_options: Mapping[str, bytes],
        extensions: Mapping[str, bytes],
        algorithm: str | None,
    ) -> Self:
        _refuse_what_cannot_be_certified(authority, public_key, principals, validity, serial, algorithm)
        key_fields = public_key.blob[len(signature_head(public_key.key_type)) :]
        message = Message().add_string(certificate_name(public_key.key_type)).add_string(os.urandom(32))
        message.add_bytes(key_fields).add_int64(serial).add_int(kind).add_string(key_id)
        message.add_string(pack_names(principals)).add_int64(int(validity[0])).add_int64(int(validity[1]))
        message.add_string(pack_options(critical_options)).add_string(pack_options(extensions)).add_string(b"")
        message.add_string(authority.public_key.blob)
        signature = authority.sign(message.asbytes(), algorithm)
        try:
            return cls.from_blob(message.add_string(signature).asbytes())
        except RemoteProtocolError as error:
            raise ValueError(f"this can't be certified: {error}") from None

    def __eq__(self, other: object) -> bool:
        return self.blob == other.blob if isinstance(other, Certificate) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.blob)

    def __repr__(self) -> str:
        key = f"{self.public_key.key_type} {self.public_key.fingerprint}"
        return f"<{self.kind} certificate '{printable(self.key_id, 64)}' serial {self.serial} of {key}>"


def refuse_anothers(certificate: Certificate, public_key: PublicKey) -> None:
    """Refuse a certificate that is not of this key.

    Raises:
        KeyFileException: it is one of another.
    """
    if certificate.public_key != public_key:
        raise KeyFileException(f"{certificate} is not one of the key {public_key}. Give it to the key it was made of.")


def shown_time(seconds: float) -> str:
    """Return a time as texts show it: in UTC, to the second."""
    try:
        return datetime.fromtimestamp(int(seconds), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):  # far beyond what a calendar has
        return "the end of time"


def _refuse_what_cannot_be_certified(
    authority: Authority,
    public_key: PublicKey,
    principals: Collection[str],
    validity: tuple[float, float],
    serial: int,
    algorithm: str | None,
) -> None:
    if public_key.key_type not in KEY_FIELDS:
        raise ValueError(f"there are no certificates of {public_key.key_type} keys")
    algorithm = algorithm or next(iter(authority.public_key.algorithms), "its key")
    if algorithm not in AUTHORITY_ALGORITHMS:
        raise ValueError(f"a certificate signed with {printable(algorithm)} is not believed. Use another authority.")
    # Without names it would be good for all of them, to whoever takes PROTOCOL.certkeys by its word.
    if isinstance(principals, str) or not 1 <= len(principals) <= MAX_PRINCIPALS:
        raise ValueError(f"a certificate is for a list of 1 to {MAX_PRINCIPALS} principals")
    if not all(principals) or any("\0" in principal for principal in principals):
        raise ValueError("a principal is a name, without NUL")
    if not 0 <= validity[0] < validity[1] <= Certificate.FOREVER:
        raise ValueError("valid_after and valid_before are seconds since the epoch, the first below the second")
    if not 0 <= serial < 2**64:
        raise ValueError(f"a serial number is from 0 to 2**64 - 1, not {serial}")
