"""RFC 4462 section 2 and RFC 8732: the key exchange in which GSS-API authenticates the server, as two dialogs.

The shares are those of the ordinary methods; in the place of a host key's signature stands the context's MIC of the
exchange hash.  A server may show a host key nevertheless: it is hashed, and so the server's, without having signed.

Loaded by the first connection that enables it: most never do.
"""

from __future__ import annotations

import hashlib
import logging
from base64 import b64encode
from typing import Final

import attrs

from trio_ssh.core.dialog import Dialog, ask, expect, expect_any, send
from trio_ssh.core.exchange import SharedSecret, Transcript, read_host_key
from trio_ssh.core.gssapi import (
    MAX_TOKENS,
    GssContext,
    GssExchangeMic,
    GssExchangeProof,
    GssExchangeStep,
    GssRefused,
    GssStep,
)
from trio_ssh.core.negotiation import GSS_PREFIX, NULL_HOST_KEY, Algorithms, Negotiated
from trio_ssh.crypto.agreement import KEX, AgreementAlgorithm
from trio_ssh.errors import LocalProtocolError, RemoteProtocolError, SSHException
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.public_key import PublicKey
from trio_ssh.wire.exchange import KexGssComplete, KexGssContinue, KexGssError, KexGssHostkey, KexGssInit
from trio_ssh.wire.fields import STRING
from trio_ssh.wire.numbers import DisconnectReason
from trio_ssh.wire.text import printable

_log = logging.getLogger("trio_ssh.transport")

#: What each method is without its mechanism, and which ordinary one has its share and its hash: RFC 8732 s4 and s5.
METHODS: Final = {
    "gss-curve25519-sha256-": "curve25519-sha256",
    "gss-nistp256-sha256-": "ecdh-sha2-nistp256",
    "gss-group16-sha512-": "diffie-hellman-group16-sha512",
    "gss-group14-sha256-": "diffie-hellman-group14-sha256",
}

#: RFC 2743 s1.2.1.1: GSS_S_FAILURE, which says no more than that.
_FAILURE: Final = 13 << 16


def method_suffix(mechanism: bytes) -> str:
    """RFC 4462 s2: how the names of a mechanism's methods end.

    Args:
        mechanism: its OID in DER.
    """
    return b64encode(hashlib.md5(mechanism, usedforsecurity=False).digest()).decode("ascii")


def with_gss(algorithms: Algorithms, mechanism: bytes, *, offers_null: bool, is_only: bool = False) -> Algorithms:
    """Put the methods by GSS-API in front of the others: those whose ordinary twin is enabled, in its order.

    Args:
        offers_null: go on without a host key, too.
        is_only: offer nothing else, as a server does that has no host key.

    Raises:
        LocalProtocolError: nothing else may be offered, and no such twin is enabled.
    """
    suffix = method_suffix(mechanism)
    names = tuple(prefix + suffix for plain in algorithms.kex for prefix, twin in METHODS.items() if twin == plain)
    if is_only and not names:
        raise LocalProtocolError(
            f"a server without a host key exchanges keys by GSS-API only: enable one of {', '.join(METHODS.values())}"
        )
    return attrs.evolve(
        algorithms,
        kex=names if is_only else (*names, *algorithms.kex),
        host_keys=(*algorithms.host_keys, NULL_HOST_KEY) if offers_null and names else algorithms.host_keys,
    )


def as_in_first_exchange(algorithms: Algorithms, kex: str) -> Algorithms:
    """Return what a client offers from its second exchange on: whoever vouched for the server does so again."""
    if kex.startswith(GSS_PREFIX):
        return attrs.evolve(algorithms, kex=(kex,))
    return attrs.evolve(
        algorithms,
        kex=tuple(name for name in algorithms.kex if not name.startswith(GSS_PREFIX)),
        host_keys=tuple(name for name in algorithms.host_keys if name != NULL_HOST_KEY),
    )


def _twin(kex: str) -> AgreementAlgorithm:
    twin = KEX[METHODS[kex[: kex.rindex("-") + 1]]]
    assert isinstance(twin, AgreementAlgorithm), "none of them chooses its group"
    return twin


def _failed(why: str) -> RemoteProtocolError:
    return RemoteProtocolError(why, DisconnectReason.KEY_EXCHANGE_FAILED)


def gss_agree_as_client(
    negotiated: Negotiated, transcript: Transcript, known_key: PublicKey | None, context: GssContext
) -> Dialog[SharedSecret]:
    """RFC 4462 s2.1: send our token and our share, and take the server for whom the context knows by its MIC.

    Args:
        known_key: what it showed in an earlier exchange on this connection.
        context: not begun.  It was made for the server's name, so nobody else can complete it.

    Raises:
        SSHException: there are no credentials.
        RemoteProtocolError: the server has not proven to be who is meant, or breaks the protocol.
    """
    algorithm = _twin(negotiated.kex)
    agreement = algorithm.new_client()
    step: object = yield from ask(GssExchangeStep(context, None))
    if not isinstance(step, GssStep) or not step.token:
        raise SSHException(
            f"GSS-API can't begin a key exchange: {_reason(step)}.  Is there a ticket (`klist`), and does it last?"
        )
    yield from send(KexGssInit(step.token, agreement.our_share))
    blob: bytes | None = None
    for _ in range(MAX_TOKENS):
        reply = yield from expect_any(KexGssContinue, KexGssComplete, KexGssHostkey, KexGssError)
        match reply:
            case KexGssHostkey(shown):
                if blob is not None:
                    raise _failed("the server showed a host key twice")
                blob = shown
            case KexGssContinue(token):
                step = yield from _next_step(context, step, token)
                if not step.token:
                    raise _failed("the server waits for a token, and GSS-API has none for it")
                yield from send(KexGssContinue(step.token))
            case KexGssError():
                raise _failed(f"the server's GSS-API refuses: {printable(reply.text, 200)}")
            case KexGssComplete():
                break
            case _:
                raise AssertionError("nothing else was waited for")
    else:
        raise _failed(f"the server wants more than {MAX_TOKENS} tokens")
    host_key, certificate = _read_shown(blob, negotiated, known_key)
    last = _last_token(reply)
    if last is not None:
        step = yield from _next_step(context, step, last)
        if step.token:
            raise _failed("the server is done, and GSS-API has another token for it")
    # A context that doesn't authenticate the server, or can't sign, would be completed by anybody.
    if not (step.is_complete and step.is_mutual and step.has_integrity):
        raise _failed("the server completed the key exchange, and GSS-API has not authenticated it")
    encoded_secret = agreement.finish(reply.share)
    digest = transcript.digest(algorithm.hash_name, blob or b"", agreement.our_share, reply.share, encoded_secret)
    if (yield from ask(GssExchangeProof(context, digest, reply.mic))) is not True:
        raise _failed("the server's MIC of the key exchange is wrong")
    return SharedSecret(encoded_secret, digest, algorithm.hash_name, host_key, b"", certificate)


def _next_step(context: GssContext, step: GssStep, token: bytes) -> Dialog[GssStep]:
    if step.is_complete:
        raise _failed("a token came for a context that is complete")
    answer: object = yield from ask(GssExchangeStep(context, token))
    if not isinstance(answer, GssStep):
        raise _failed(f"GSS-API refuses the server's token: {_reason(answer)}")
    return answer


def _reason(answer: object) -> str:
    return answer.reason if isinstance(answer, GssRefused) else "it has nothing to say"


def _last_token(reply: KexGssComplete) -> bytes | None:
    if not reply.has_token:
        if reply.last_token:
            raise RemoteProtocolError("bytes behind the end of a key exchange's last message")
        return None
    token: bytes
    token, end = STRING.read(reply.last_token, 0)
    if end != len(reply.last_token):
        raise RemoteProtocolError("bytes behind the last token")
    return token


def _read_shown(
    blob: bytes | None, negotiated: Negotiated, known_key: PublicKey | None
) -> tuple[PublicKey | None, Certificate | None]:
    """Read what the server showed of a host key, which need not be anything."""
    if blob is None:
        # RFC 4462 s2.1 leaves it to the server in each exchange; what one has shown stays the connection's.
        return None, None
    if negotiated.host_key_algorithm == NULL_HOST_KEY:
        raise _failed("the server showed a host key, and none was agreed on")
    host_key, certificate = read_host_key(blob, negotiated)
    if known_key is not None and host_key != known_key:
        raise RemoteProtocolError(
            "the host key changed during the connection", DisconnectReason.HOST_KEY_NOT_VERIFIABLE
        )
    return host_key, certificate


def gss_agree_as_server(negotiated: Negotiated, transcript: Transcript, context: GssContext) -> Dialog[SharedSecret]:
    """RFC 4462 s2.1: complete the context, and sign the exchange by it.

    Args:
        context: not begun.

    Raises:
        RemoteProtocolError: the client's tokens won't do, or it breaks the protocol.
    """
    # RFC 4462 s2.1 leaves it to us whether we show a host key.  OpenSSH's servers don't, and its clients with Debian's
    # patch can't read one: "buffer is read-only", and they are gone.
    algorithm = _twin(negotiated.kex)
    init = yield from expect(KexGssInit)
    token = init.token
    for _ in range(MAX_TOKENS):
        step: object = yield from ask(GssExchangeStep(context, token))
        if not isinstance(step, GssStep):
            # Why is for our log, but for what GSS-API itself tells: that the client's clock is wrong, for instance.
            _log.info("a client's key exchange by GSS-API was refused: %s", _reason(step))
            told = step.token if isinstance(step, GssRefused) else b""
            yield from send(KexGssContinue(told) if told else KexGssError(_FAILURE, 0, "the token was refused", ""))
            raise _failed("GSS-API refuses the client's token")
        if step.is_complete:
            break
        yield from send(KexGssContinue(step.token))
        token = (yield from expect(KexGssContinue)).token
    else:
        raise _failed(f"the client sends more than {MAX_TOKENS} tokens")
    if not (step.is_mutual and step.has_integrity):
        raise _failed("the client wants no proof of who we are, or none that is bound to this key exchange")
    # The powers last: nobody who has no ticket makes us compute them.
    our_share, encoded_secret = algorithm.new_server().respond(init.share)
    digest = transcript.digest(algorithm.hash_name, b"", init.share, our_share, encoded_secret)
    mic: bytes = yield from ask(GssExchangeMic(context, digest))
    last = bytearray()
    if step.token:
        STRING.write(last, step.token)
    yield from send(KexGssComplete(our_share, mic, bool(step.token), bytes(last)))
    return SharedSecret(encoded_secret, digest, algorithm.hash_name, None)
