"""Key exchanges by GSS-API, on one connection: what their contexts are made of, and the task in which they wait."""

from __future__ import annotations

import functools
from collections.abc import Callable

import trio

from trio_ssh.core.gssapi import (
    GssContext,
    GssExchangeMic,
    GssExchangeProof,
    GssExchangeQuestion,
    GssExchangeStep,
)
from trio_ssh.core.role import Role
from trio_ssh.errors import LocalProtocolError
from trio_ssh.runtime.engine import Engine
from trio_ssh.runtime.gss import GssAcceptor, GssInitiator, load


class GssKeying:
    """Whether a connection's keys are exchanged by GSS-API, and how.

    Attributes:
        is_wanted: they are, where the peer does it too.
        host: the server's name, as the realm knows it, which a client needs.
        delegates: a client lets the server use the user's credentials elsewhere.
    """

    def __init__(self, *, is_wanted: bool, delegates: bool) -> None:
        self.is_wanted: bool = is_wanted
        self.host: str | None = None
        self.delegates: bool = delegates
        self._work: trio.CancelScope | None = None

    def want(self, host: str, *, delegates: bool) -> None:
        """Have a client exchange keys so, with the server that the realm knows as `host`."""
        self.is_wanted, self.host, self.delegates = True, host, delegates

    def contexts(self, role: Role) -> Callable[[], GssContext] | None:
        """Return what makes a context for each exchange, or None if none is wanted.

        Raises:
            LocalProtocolError: a client doesn't know the server's name.
            ImportError: the extra ``gssapi`` is not there.
        """
        if not self.is_wanted:
            return None
        load()
        if role is Role.SERVER:
            return GssAcceptor
        if self.host is None:
            raise LocalProtocolError("gss_kex=True needs the server's name: call set_gss_host first")
        return functools.partial(GssInitiator, self.host, delegates=self.delegates)

    def ask(self, engine: Engine, question: GssExchangeQuestion) -> None:
        """Have a task answer what an exchange asks of the context: it may have to ask others, and the reader can't."""
        # As the reader, it goes on until the connection is over, which may be before its first step.
        self._work = scope = trio.CancelScope(shield=True)
        engine.spawn(functools.partial(_answer, engine, question, scope), name="trio_ssh GSS-API")

    def end(self) -> None:
        """Cancel that task: the connection is over."""
        if self._work is not None:
            self._work.cancel()


async def _answer(engine: Engine, question: GssExchangeQuestion, scope: trio.CancelScope) -> None:
    with scope:
        engine.answer(await _answer_to(question))
        engine.flush_now()


async def _answer_to(question: GssExchangeQuestion) -> object:
    match question:
        case GssExchangeStep(context, token):
            return await context.step(token)
        case GssExchangeMic(context, digest):
            return context.sign(digest)
        case GssExchangeProof(context, digest, mic):
            return context.verifies(digest, mic)
        case _:
            raise AssertionError(f"a question that nobody answers: {question!r}")
