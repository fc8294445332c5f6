"""Answering what a handshake asks, in the task of whoever awaits it: exceptions and cancellation are their own.

The reader's task puts the events of key exchange and authentication here; the caller's task takes them, answers
questions, and returns with the event that it waits for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, runtime_checkable

import trio

from trio_ssh.core.connection import ClosedHere
from trio_ssh.core.events import Asked, Ended, Event
from trio_ssh.core.gssapi import GssMicWanted, GssStepWanted
from trio_ssh.core.questions import (
    HostKeyOffered,
    NewPasswordWanted,
    Prompt,
    PromptsArrived,
    Question,
    SignatureRefused,
    SignatureWanted,
)
from trio_ssh.errors import AgentException, LocalProtocolError, RemoteProtocolError, SSHException
from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.public_key import PublicKey
from trio_ssh.runtime.engine import Engine
from trio_ssh.runtime.waiting import resolved
from trio_ssh.wire.text import printable

HostKeyCheck = Callable[[PublicKey], Awaitable[None] | None]
PromptHandler = Callable[[str, str, Sequence[Prompt]], Awaitable[Sequence[str]] | Sequence[str]]
NewPasswordHandler = Callable[[str], Awaitable[str | None] | str | None]


@runtime_checkable
class ChecksCertificates(Protocol):
    """A check of host keys that knows authorities too.  Any other is asked about the key that a certificate is of."""

    def check_certificate(self, certificate: Certificate) -> Awaitable[None] | None:
        """Return to accept the host, raise to refuse it."""


class Handshake:
    """Events of the handshake on their way to its caller.  The core asks one question at a time, which bounds them."""

    __slots__ = ("_caller", "_events")

    def __init__(self) -> None:
        # No memory channel: most connections have four events here, and one costs more than they do.
        self._events: deque[Event] = deque()
        self._caller = trio.lowlevel.ParkingLot()

    def put(self, event: Event) -> None:
        """Hand an event to whoever awaits the handshake."""
        self._events.append(event)
        self._caller.unpark()

    async def converse(
        self,
        engine: Engine,
        is_awaited: Callable[[Event], bool],
        *,
        check_host_key: HostKeyCheck | None = None,
        prompt_handler: PromptHandler | None = None,
        new_password: NewPasswordHandler | None = None,
    ) -> Event:
        """Answer questions until the awaited event, and return it.  What is left to send then is the caller's to flush.

        Raises:
            SSHException: why the connection ended instead.
            trio.ClosedResourceError: it was closed here.
            Whatever `check_host_key`, `prompt_handler` or `new_password` raises.
        """
        has_waited = False
        while True:
            while not self._events:
                # What was answered leaves once nothing more is to be said at once: NEWKEYS, the request for a service
                # and a login's first word travel together.
                engine.flush_now()
                await self._caller.park()
                has_waited = True
            event = self._events.popleft()
            if is_awaited(event):
                if not has_waited:
                    await trio.lowlevel.cancel_shielded_checkpoint()
                return event
            match event:
                case Ended(error):
                    is_reason = isinstance(error, SSHException) and not isinstance(error, ClosedHere)
                    raise error if is_reason else engine.lost()
                case Asked(question):
                    engine.flush_now()  # the answer may take its time
                    engine.answer(await _answer(question, check_host_key, prompt_handler, new_password))
                case _:
                    pass


async def _answer(
    question: Question,
    check_host_key: HostKeyCheck | None,
    prompt_handler: PromptHandler | None,
    new_password: NewPasswordHandler | None,
) -> object:
    match question:
        case HostKeyOffered(key, certificate):
            if check_host_key is None:
                raise LocalProtocolError("nobody checks the host's key: pass check_host_key=")
            check: object = check_host_key
            if certificate is not None and isinstance(check, ChecksCertificates):
                decision: object = await resolved(check.check_certificate(certificate))
            else:
                decision = await resolved(check_host_key(key))
            # A check that compares, and returns what came of it, would let everybody through.
            if decision is not None:
                raise TypeError(
                    f"the check of the host key returned {decision!r}: the key is refused. To accept it return "
                    "nothing, to refuse it raise."
                )
            return None
        case SignatureWanted(key, data, algorithm):
            try:
                signature: object = await resolved(key.sign(data, algorithm))
                if not isinstance(signature, bytes | bytearray):
                    raise TypeError(f"{key!r} has signed with {signature!r}: bytes are wanted")
                return signature
            except (AgentException, RemoteProtocolError) as error:
                return SignatureRefused(str(error))  # the server need not hear of an agent's trouble
        case PromptsArrived(name, instruction, prompts):
            if prompt_handler is None:
                raise LocalProtocolError("prompts came where nobody answers them")
            answers = await resolved(
                prompt_handler(
                    printable(name),
                    printable(instruction, 4096),
                    [Prompt(printable(prompt.text), prompt.echo) for prompt in prompts],
                )
            )
            given: object = answers
            if isinstance(given, str) or not isinstance(given, Sequence) or len(answers) != len(prompts):
                raise LocalProtocolError(f"{len(prompts)} prompts want as many answers, in a list")
            if not all(isinstance(answer, str) for answer in given):
                raise LocalProtocolError("an answer to a prompt is a str")
            return answers
        case GssStepWanted(context, token):
            return await context.step(token)
        case GssMicWanted(context, data):
            return context.sign(data)
        case NewPasswordWanted(prompt):
            wanted = None if new_password is None else await resolved(new_password(printable(prompt, 4096)))
            if not isinstance(wanted, str | None):
                raise LocalProtocolError("a new password is a str, or None to give up")
            return wanted
        case _:
            raise LocalProtocolError(f"nobody answers {type(question).__name__}")
