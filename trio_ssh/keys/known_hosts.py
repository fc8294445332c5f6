"""Which host has which key: OpenSSH's known_hosts, read, searched, changed and saved.

A line that is not understood, and a comment, is kept as it is.  A line that is malformed is named in
`HostKeys.problems` and otherwise treated like one: a file that was damaged in one place goes on protecting
all other hosts.

Source: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT; what it leaves open is decided as OpenSSH's hostfile.c,
sshconnect.c and ssh-keygen.c do.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Collection, Iterator
from typing import Final, Self

import attrs

from trio_ssh.errors import KeyFileException, RemoteProtocolError
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.disk import FilePath, read_list_file, shown_path, write_atomically
from trio_ssh.keys.known_hosts_line import KnownKey, Line, checked_name, hash_name, lower, parse_line
from trio_ssh.keys.lock import locked
from trio_ssh.keys.public_key import PublicKey
from trio_ssh.keys.signer import Signer, public_half


class HostKeyStatus(enum.Enum):
    """What is on record about a host and a key."""

    #: This key is on record for the host.
    KNOWN = "known"
    #: No key is on record for the host.
    UNKNOWN = "unknown"
    #: Other keys are on record for the host, and this one is not.
    CHANGED = "changed"
    #: This key must not be trusted for the host, whatever else is on record.
    REVOKED = "revoked"

    def __bool__(self) -> bool:
        """Whether the key may be trusted, as paramiko's ``check`` tells it."""
        return self is HostKeyStatus.KNOWN


@attrs.frozen
class PlainRecord:
    """A key that stands in a line of its host's own, which may be changed without harm to another host.

    Attributes:
        key: the host's.
        path: the file that the line stands in; None for one that was added here.
        is_hashed: whether the line hides the host's name.
    """

    key: PublicKey
    path: str | None
    is_hashed: bool


def known_hosts_name(host: str, port: int) -> str:
    """Return the name that OpenSSH looks up: ``host`` for port 22, else ``[host]:port``; in lower case."""
    host = lower(host)
    return host if port == 22 else f"[{host}]:{port}"


#: A host's, and that without its port; who looks for many gains nothing by it.
_NAMES_REMEMBERED: Final = 4


class HostKeys:
    """What is known of hosts' keys.

    Host names are those of `known_hosts_name`, and compared in lower case; an address is a name like any other.

    Attributes:
        problems: lines that were not understood, each as ``file:line: why``.
    """

    def __init__(self) -> None:
        self.problems: list[str] = []
        self._lines: list[Line] = []
        #: File and line -> what has taken the line's place since the file was read; nothing, where it was removed.
        self._changes: dict[tuple[str, str], list[str]] = {}
        #: What `lookup` found, of the names that it was asked for last: a login asks five times.
        self._found: dict[str, tuple[KnownKey, ...]] = {}

    @classmethod
    def from_text(cls, text: str, source: str = "known_hosts") -> Self:
        """Read the content of a known_hosts file; `source` is what its lines say they come from."""
        made = cls()
        lines = text.split("\n")
        if not lines[-1]:
            lines.pop()
        for number, line in enumerate(lines, 1):
            try:
                made._lines.append(parse_line(line, f"{source}:{number}"))
            except (KeyFileException, RemoteProtocolError) as error:
                made._lines.append(Line(line))
                # To refuse everyone until it is mended would make one damaged line fatal for all hosts; ssh goes on.
                unheeded = ", so the key that it revokes is not refused" if line.lstrip().startswith("@revoked") else ""
                made.problems.append(f"{source}:{number}: {error}{unheeded}")
        return made

    def __repr__(self) -> str:
        return f"<HostKeys: {sum(1 for _ in self._known())} keys, {len(self.problems)} problems>"

    def _known(self) -> Iterator[KnownKey]:
        return (line.known for line in self._lines if line.known is not None)

    def to_text(self) -> str:
        """Return all lines, as a file would have them."""
        return "".join(line.text + "\n" for line in self._lines)

    # -- asking

    def keys(self) -> tuple[str, ...]:
        """Return the hosts as the lines spell them, each once: names, lists of names, patterns and hashes."""
        return tuple(dict.fromkeys(line.spelled for line in self._lines if line.known is not None))

    def __contains__(self, hostname: str) -> bool:
        return bool(self.lookup(hostname))

    def __getitem__(self, hostname: str) -> dict[str, PublicKey]:
        """Return a host's keys by their type, as paramiko does; authorities and revoked keys are none."""
        found = {known.key.key_type: known.key for known in reversed(self.lookup(hostname)) if known.marker is None}
        if not found:
            raise KeyError(hostname)
        return found

    def __len__(self) -> int:
        return sum(1 for _ in self._known())

    def __bool__(self) -> bool:
        return True

    def lookup(self, hostname: str) -> tuple[KnownKey, ...]:
        """Return all that is on record for a host, authorities and revoked keys too, in the lines' order."""
        hostname = lower(hostname)
        # Who changes the lines meanwhile, in another thread, leaves this memory behind for a new one.
        remembered = self._found
        found = remembered.get(hostname)
        if found is None:
            found = tuple(line.known for line in self._lines if line.known is not None and line.is_for(hostname))
            if len(remembered) >= _NAMES_REMEMBERED:
                remembered.clear()
            remembered[hostname] = found
        return found

    def check(self, hostname: str, key: PublicKey | Signer) -> HostKeyStatus:
        """Say what is on record about this host and this key; only `HostKeyStatus.KNOWN` is true.

        As OpenSSH's check_host_key does:

        * A key that was revoked is, even if the same key is on record besides.
        * A host with other keys on record has *changed*, also where they are of other types: who stands in
          between must not get away with a key of a type that was never seen.  (An honest server is spared
          this by a client that asks for a type on record first; see `key_types`.)
        * A host on another port than 22, of which nothing is on record, is known by its key for port 22.
        """
        key = public_half(key)
        status = self._check_name(hostname, key)
        portless = _without_port(hostname)
        if status is HostKeyStatus.UNKNOWN and portless is not None:
            fallback = self._check_name(portless, key)
            if fallback is not HostKeyStatus.CHANGED:  # other ports may well be other servers
                return fallback
        return status

    def _check_name(self, hostname: str, key: PublicKey) -> HostKeyStatus:
        known = self.lookup(hostname)
        if any(entry.marker == "revoked" and entry.key == key for entry in known):
            return HostKeyStatus.REVOKED
        if any(entry.marker is None and entry.key == key for entry in known):
            return HostKeyStatus.KNOWN
        is_on_record = any(entry.marker in (None, "certificate") for entry in known)
        return HostKeyStatus.CHANGED if is_on_record else HostKeyStatus.UNKNOWN

    def key_types(self, hostname: str) -> tuple[str, ...]:
        """Return the types of the host's own keys on record, each once; a client asks for them first."""
        return tuple(dict.fromkeys(entry.key.key_type for entry in self.lookup(hostname) if entry.marker is None))

    def authorities(self, hostname: str) -> tuple[PublicKey, ...]:
        """Return the keys that may certify a host: those marked ``@cert-authority`` for it.

        On another port than 22, those for port 22 count too.
        """
        found = tuple(entry.key for entry in self.lookup(hostname) if entry.marker == "cert-authority")
        portless = _without_port(hostname)
        return found if portless is None else (*found, *self.authorities(portless))

    def is_revoked(self, hostname: str, shown: PublicKey | Certificate) -> bool:
        """Whether a key is marked ``@revoked`` for a host; of a certificate, its key or its authority."""
        keys = {shown} if isinstance(shown, PublicKey) else {shown.public_key, shown.authority}
        portless = _without_port(hostname)
        entries = self.lookup(hostname) + (self.lookup(portless) if portless is not None else ())
        return any(entry.marker == "revoked" and entry.key in keys for entry in entries)

    def plain_records(self, hostname: str) -> tuple[PlainRecord, ...]:
        """Return the host's keys, if each stands in a line of its own for this one name, and else nothing.

        Nothing too where an authority certifies the host, or a key of it was revoked: then its lines are looked after
        by somebody, who would be surprised to see them changed.
        """
        hostname = lower(hostname)
        lines = [line for line in self._lines if line.spelled and line.is_for(hostname)]
        if not all(line.is_plain for line in lines):
            return ()
        return tuple(
            PlainRecord(line.known.key, line.path, line.hashed is not None) for line in lines if line.known is not None
        )

    # -- changing

    def add(self, hostname: str, key_type: str | None, key: PublicKey | Signer, *, is_hashed: bool = False) -> None:
        """Put a key on record for a host, beside those that are; nothing changes if it is.

        Args:
            hostname: a name, with any port but 22 as ``"[name]:port"``; or one that `hash_host` has hashed.
            key_type: None, or the type of `key`.
            key: the host's key, or a private key for its public half.
            is_hashed: hide the name in the line that is added.

        Raises:
            ValueError: the name can't be one host's, or the type is not the key's.
        """
        key = public_half(key)
        if key_type is not None and key_type != key.key_type:
            raise ValueError(f"the key is of the type {key.key_type}, not {key_type}")
        host, colon, port = hostname.partition(":")
        if colon and port.isdigit() and not host.startswith(("[", "|")):
            raise ValueError(f"no host is called {hostname!r}: with a port its name is '[{host}]:{port}'")
        try:
            hostname = checked_name(hostname)
            spelled = hash_name(hostname) if is_hashed and not hostname.startswith("|") else hostname
            line = parse_line(f"{spelled} {key.to_openssh()}", "added here")
        except KeyFileException as error:
            raise ValueError(str(error)) from None
        if not any(entry.marker is None and entry.key == key for entry in self.lookup(hostname)):
            self._lines.append(line)
            self._found = {}

    def remove(self, hostname: str, key: PublicKey | Signer | None = None) -> int:
        """Take a host's keys off record, as ``ssh-keygen -R`` does; return the number of lines.

        A line for several hosts goes as a whole.  Authorities and revoked keys stay.

        Args:
            hostname: the host's name.
            key: take only this key off.
        """
        hostname = lower(hostname)
        only = None if key is None else public_half(key)
        return self._change(
            lambda line: (
                []
                if line.spelled
                and not line.is_marked
                and line.is_for(hostname)
                and (only is None or (line.known is not None and line.known.key == only))
                else [line]
            )
        )

    def replace(self, hostname: str, keys: Collection[PublicKey], *, is_hashed: bool = False) -> None:
        """Put these keys on record for a host, and no others: those that are on record already keep their lines.

        Args:
            hostname: a name as `known_hosts_name` returns it.
            keys: all of the host's keys.
            is_hashed: hide the name in the lines that are added.

        Raises:
            ValueError: the name can't be one host's; nothing has changed.
        """
        for key in keys:
            self.add(hostname, None, key, is_hashed=is_hashed)
        for entry in self.lookup(hostname):
            if entry.marker is None and entry.key not in keys:
                self.remove(hostname, entry.key)

    def hash_names(self) -> int:
        """Hide the names of all hosts, as ``ssh-keygen -H`` does; return the number of lines that were rewritten.

        Each name gets a line of its own.  Patterns can't be hidden, and what is marked isn't.
        """
        return self._change(Line.with_hashed_names)

    def clear(self) -> None:
        """Forget all keys.  Lines that were not understood, and comments, stay."""
        self._change(lambda line: [] if line.known is not None else [line])

    def _change(self, place: Callable[[Line], list[Line]]) -> int:
        """Put into each line's place what `place` makes of it, and remember it for the file that it came from."""
        changed = 0
        lines: list[Line] = []
        for line in self._lines:
            new = place(line)
            lines += new
            if new != [line]:
                changed += 1
                if line.path is not None:
                    self._changes[line.path, line.text] = [each.text for each in new]
        self._lines = lines
        self._found = {}
        return changed

    def merge(self, other: HostKeys) -> None:
        """Take over all lines and problems of `other`, behind ours."""
        self._lines.extend(attrs.evolve(line) for line in other._lines)
        self._found = {}
        self.problems.extend(other.problems)

    @staticmethod
    def hash_host(hostname: str, salt: bytes | None = None) -> str:
        """Return a name in the form that doesn't show it: ``|1|salt|hash``.

        Args:
            hostname: the name, as `known_hosts_name` returns it.
            salt: 20 bytes; random ones unless given.
        """
        return hash_name(hostname, salt)

    # -- files

    def load(self, path: FilePath) -> None:
        """Read a file, behind what is known already.

        Raises:
            OSError: there is no such file, or it can't be read.
            KeyFileException: it has more than 64 MiB.
        """
        read = HostKeys.from_text(read_list_file(path), shown_path(path))
        target = os.path.realpath(path)
        for line in read._lines:
            line.path = target
        self.merge(read)

    def save(self, path: FilePath) -> None:
        """Write all lines to a file, in one step; a file that is there keeps its permissions.

        What other programs have written to the file since it was loaded stays as it is: only the lines that were
        changed here are changed there, and those that it lacks are put behind.  A line that was loaded from this very
        file and is gone by now was removed by someone, and stays away.  Two that save at once wait for each other.

        Raises:
            OSError: the file is as it was.
            KeyFileException: it has more than 64 MiB.
        """
        target = os.path.realpath(path)
        missing = list(self._lines)
        with locked(target):
            on_disk: str | None = None
            text = ""
            try:
                on_disk = read_list_file(target)
            except FileNotFoundError:
                pass
            else:
                kept = on_disk.split("\n")
                if any(path == target for path, _ in self._changes):
                    kept = [new for line in kept for new in self._in_place_of(target, line)]
                present = set(kept)
                missing = [line for line in missing if line.path != target and line.text not in present]
                text = "\n".join(kept)
                if missing and text and not text.endswith("\n"):
                    text += "\n"
            text += "".join(line.text + "\n" for line in missing)
            if text != on_disk:
                write_atomically(target, text.encode("utf-8", "surrogateescape"))
        for line in missing:
            line.path = target
        self._changes = {place: new for place, new in self._changes.items() if place[0] != target}

    def _in_place_of(self, path: str, text: str) -> Iterator[str]:
        """Return what stands now where a line of a file stood."""
        changed = self._changes.get((path, text))
        if changed is None:
            yield text
            return
        for new in changed:
            yield from self._in_place_of(path, new)


def name_without_port(hostname: str) -> str:
    """Return a host's name as it stands in certificates and in the DNS; the inverse of `known_hosts_name`."""
    host = _without_port(hostname)
    return hostname if host is None else host


def _without_port(hostname: str) -> str | None:
    host, separator, _ = hostname.rpartition("]:")
    return host[1:] if separator and host.startswith("[") else None
