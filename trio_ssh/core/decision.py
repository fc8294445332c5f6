"""What a server's check has decided about a login: a member of the enum, and nothing that merely looks like one."""

from __future__ import annotations

import logging
from typing import Final

import attrs

from trio_ssh.core.dialog import Dialog, ask
from trio_ssh.core.questions import AuthResult, CheckPassword, CheckPasswordChange, Question
from trio_ssh.wire.userauth import UserauthRequest

_log = logging.getLogger("trio_ssh.auth")

_OF_PASSWORDS: Final = (CheckPassword, CheckPasswordChange)


@attrs.frozen
class Outcome:
    """How a request ended.

    Attributes:
        is_harmless: a failure that an honest client meets on its way: the probe for methods, a key that won't do.
        is_answered: an answer was sent already, such as PK_OK.
        next_request: the request that interrupted it, if one did.
    """

    result: AuthResult
    is_harmless: bool = False
    is_answered: bool = False
    next_request: UserauthRequest | None = None


def decision(question: Question) -> Dialog[AuthResult]:
    """Ask, and take anything but a member of the enum for a refusal and a mistake of the server's author."""
    answer: object = yield from ask(question)
    is_for_passwords = answer is AuthResult.PASSWORD_EXPIRED
    if isinstance(answer, AuthResult) and (not is_for_passwords or isinstance(question, _OF_PASSWORDS)):
        return answer
    _log.error(
        "%s was answered with %r, which is no AuthResult: refused", type(question).__name__, type(answer).__name__
    )
    return AuthResult.FAILED
