"""Rotation of host keys: a server tells which keys it has, and a client that knows it by one learns the others.

A server announces its keys after the login.  A client has it prove that it owns those that are not on record, adds
them, and takes off record those that the server no longer has.  So a server may be given new keys, and lose the old
ones, without any user being asked.

Source: OpenSSH PROTOCOL s2.5; what it leaves open is decided as OpenSSH's clientloop.c and serverloop.c do.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path
from typing import Final, Literal

import trio

from trio_ssh.errors import HostKeyException, RemoteProtocolError, SSHException
from trio_ssh.host_keys import HostKeyChange, KnowsHosts, MissingHostKeyPolicy
from trio_ssh.keys.certification import plain_algorithm
from trio_ssh.keys.known_hosts import HostKeys
from trio_ssh.keys.krl import KeyRevocationList
from trio_ssh.keys.private_key import PKey
from trio_ssh.keys.public_key import PublicKey, parse_public_key
from trio_ssh.runtime.handler import GRANTED, REFUSED, Answer, PeerHandler
from trio_ssh.runtime.transport import Transport
from trio_ssh.runtime.waiting import resolved
from trio_ssh.wire.fields import STRING, TEXT
from trio_ssh.wire.message import Message
from trio_ssh.wire.text import printable

_log = logging.getLogger("trio_ssh.client")

ANNOUNCE: Final = "hostkeys-00@openssh.com"
PROVE: Final = "hostkeys-prove-00@openssh.com"

#: Keys of one server, beyond which an announcement is not looked at: each would cost a look at its type, a signature
#: and a line.
MOST_KEYS: Final = 32

UpdateHostKeys = Literal["yes", "no", "ask"]


def _strings(details: bytes) -> list[bytes]:
    """Read a list of strings that ends with the message, of `MOST_KEYS` and one at the most.

    Raises:
        RemoteProtocolError: the last one is cut short.
    """
    found: list[bytes] = []
    offset = 0
    while offset < len(details) and len(found) <= MOST_KEYS:
        each, offset = STRING.read(details, offset)
        found.append(each)
    return found


def _packed(strings: Collection[bytes]) -> bytes:
    message = Message()
    for each in strings:
        message.add_string(each)
    return message.asbytes()


def _signed_data(session_id: bytes, blob: bytes) -> bytes:
    return Message().add_string(PROVE).add_string(session_id).add_string(blob).asbytes()


# -- the server's side


def check_update_mode(mode: UpdateHostKeys | None) -> None:
    """Refuse what says neither of the three.

    Raises:
        ValueError: it doesn't.
    """
    given: object = mode
    if given not in (None, "yes", "no", "ask"):
        raise ValueError(f"update_host_keys is 'yes', 'no' or 'ask', not {given!r}")


def announcement(host_keys: Sequence[PKey]) -> bytes:
    """Return the details of the request that tells a client all keys of a server."""
    return _packed(dict.fromkeys(key.public_key.blob for key in host_keys))


def prove(details: bytes, host_keys: Sequence[PKey], session_id: bytes, agreed: str) -> bytes | None:
    """Return what proves that we own the keys that a client asks about; None if one of them is not ours.

    Args:
        details: of the client's request: keys.
        host_keys: ours.
        session_id: binds the proof to this connection.
        agreed: the host key algorithm of the key exchange, by which a key that can signs here too.

    Raises:
        RemoteProtocolError: the request is malformed.
    """
    blobs = _strings(details)
    ours = {key.public_key.blob: key for key in host_keys}
    # Each key once: a list of one key a thousand times over would be a thousand signatures for a packet.
    if not blobs or len(set(blobs)) != len(blobs) or not ours.keys() >= set(blobs):
        return None
    signatures: list[bytes] = []
    agreed = plain_algorithm(agreed)
    for blob in blobs:
        key = ours[blob]
        algorithm = agreed if key.public_key.can_verify(agreed) else (*key.algorithms, *key.legacy_algorithms)[0]
        signatures.append(key.sign(_signed_data(session_id, blob), algorithm))
    return _packed(signatures)


# -- the client's side


class HostKeyUpdates(PeerHandler):
    """Listens to what a server says of its keys, and keeps its record up to date.

    Nothing is stored that was not proven, nothing for a host that was not trusted before by a line of its own, and
    nothing but in a file of the user's own.

    Args:
        transport: the connection.
        client: who connects, for the policy.
        name: the host's, on record.
        known: what was on record when the connection began.
        files: those that may be changed; None for whichever the record came from.
        mode: ``"ask"`` has the policy decide.
        policy: decides then.
        is_hashed: hide names in lines that are added.
        revoked: keys that are not added.
    """

    def __init__(
        self,
        transport: Transport,
        client: KnowsHosts,
        name: str,
        known: HostKeys,
        *,
        files: Sequence[str | Path] | None,
        mode: UpdateHostKeys,
        policy: MissingHostKeyPolicy,
        is_hashed: bool,
        revoked: KeyRevocationList | None,
    ) -> None:
        self._transport = transport
        self._client = client
        self._name = name
        self._known = known
        self._files = files
        self._mode = mode
        self._policy = policy
        self._is_hashed = is_hashed
        self._revoked = revoked
        self._is_told = False

    def global_requested(self, name: str, details: bytes) -> Answer:
        """Take the first announcement; the common one, of keys that are all on record, costs no task."""
        if name != ANNOUNCE or self._is_told:
            return REFUSED
        self._is_told = True
        if self._transport.gss_kex_used:
            return REFUSED  # the host was trusted for another reason than what is on record
        blobs = _strings(details)
        if len(blobs) > MOST_KEYS:
            _log.info("the server announces more than %d host keys: ignored", MOST_KEYS)
            return REFUSED
        records = self._known.plain_records(self._name)
        used = self._transport.get_remote_server_key()
        # Another key than this one may have been trusted otherwise: by a policy, an authority, or for port 22.
        home = next((record for record in records if record.key == used and record.path is not None), None)
        if home is None or home.path is None or used.blob not in blobs:
            return REFUSED
        known = {record.key.blob for record in records}
        added = self._usable([blob for blob in dict.fromkeys(blobs) if blob not in known])
        removed = tuple(record.key for record in records if record.path == home.path and record.key.blob not in blobs)
        if not added and not removed:
            return GRANTED
        change = HostKeyChange(self._name, added, removed)
        return Answer(True, then=partial(self._update, change, home.path, self._is_hashed or home.is_hashed))

    def _usable(self, blobs: Sequence[bytes]) -> tuple[PublicKey, ...]:
        """Return the keys that a later connection could use: no certificates, nothing unknown, weak, or turned off."""
        enabled = self._transport.get_security_options().key_types
        keys: list[PublicKey] = []
        for blob in blobs:
            try:
                key = parse_public_key(blob)
            except RemoteProtocolError:
                continue  # a server may well have keys of kinds that we don't know
            is_revoked = self._revoked is not None and self._revoked.is_revoked(key)
            if not is_revoked and any(algorithm in enabled for algorithm in key.algorithms):
                keys.append(key)
        return tuple(keys)

    async def _update(self, change: HostKeyChange, path: str, is_hashed: bool) -> None:
        """Have the new keys proven, and change the file.  What fails is no reason to end the connection."""
        shown = printable(self._name)
        try:
            if not await trio.to_thread.run_sync(_may_change, path, self._files):
                return
            if change.added:
                details = _packed([key.blob for key in change.added])
                proof = await self._transport.global_request(PROVE, details)
                self._check(change.added, proof or b"")
            if self._mode == "ask" and await resolved(self._policy.confirm_change(self._client, change)) is not True:
                return
            used = self._transport.get_remote_server_key()
            await trio.to_thread.run_sync(_change_file, path, used, change, is_hashed)
            self._change_memory(change, path)
        except (SSHException, OSError, trio.ClosedResourceError) as error:
            _log.warning("the record of %s's keys was not updated: %s", shown, error)
        except Exception:
            _log.exception("the record of %s's keys was not updated", shown)
        else:
            for verb, keys in (("added", change.added), ("removed", change.removed)):
                for key in keys:
                    _log.info("%s a host key of %s: %s %s", verb, shown, key.key_type, key.fingerprint)

    def _check(self, keys: Sequence[PublicKey], proof: bytes) -> None:
        """Return if the server has signed with every one of these keys.

        Raises:
            SSHException: it has not.  One bad signature spoils the others: who signs wrong once is not believed.
        """
        session_id = self._transport.session_id
        signatures = _strings(proof)
        if len(signatures) != len(keys):
            raise HostKeyException(f"the server gave {len(signatures)} proofs for {len(keys)} keys")
        for key, signature in zip(keys, signatures, strict=True):
            algorithm, _ = TEXT.read(signature, 0)
            # The name comes from the signature, so it may be a broken one's: a legacy signature proves nothing.
            if algorithm not in key.algorithms:
                raise HostKeyException(f"a proof is signed with {printable(algorithm, 64)}, which is not accepted")
            key.verify(_signed_data(session_id, key.blob), signature, algorithm)

    def _change_memory(self, change: HostKeyChange, path: str) -> None:
        """Let the client's own keys, if they came from this file, say what it says."""
        keys = self._client.get_host_keys()
        if any(record.path == path for record in keys.plain_records(self._name)):
            _apply(keys, change, is_hashed=False)


def _apply(keys: HostKeys, change: HostKeyChange, *, is_hashed: bool) -> None:
    for key in change.added:
        keys.add(change.hostname, None, key, is_hashed=is_hashed)
    for key in change.removed:
        keys.remove(change.hostname, key)


def _may_change(path: str, files: Sequence[str | Path] | None) -> bool:
    """Whether a file is one of the user's own, and of those that may be changed."""
    if files is not None and path not in {os.path.realpath(os.path.expanduser(file)) for file in files}:
        return False
    return sys.platform == "win32" or os.stat(path).st_uid == os.getuid()


def _change_file(path: str, used: PublicKey, change: HostKeyChange, is_hashed: bool) -> None:
    """Change a file, if it still says what it said when the connection began."""
    keys = HostKeys()
    keys.load(path)
    if all(record.key != used for record in keys.plain_records(change.hostname)):
        raise HostKeyException(f"{printable(path)} was changed meanwhile")
    _apply(keys, change, is_hashed=is_hashed)
    keys.save(path)
