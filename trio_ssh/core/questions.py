"""What only someone outside the core can answer: a person, an agent, a server's handlers.

A dialog asks one question at a time and the input pauses while it is open.  The runtime answers with
`Connection.answer`; each class says what an answer is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

import attrs

from trio_ssh.keys.certificate import Certificate
from trio_ssh.keys.public_key import PublicKey
from trio_ssh.keys.signer import Signer
from trio_ssh.wire.values import Value, value


class AuthResult(Enum):
    """A server's decision about one authentication request.  Nothing but these members lets anyone in."""

    SUCCESSFUL = "successful"
    PARTIALLY_SUCCESSFUL = "partially successful"
    FAILED = "failed"
    #: Of a password: it is right, and must be changed before it lets anyone in.
    PASSWORD_EXPIRED = "password expired"


class Question(Value):
    """The base of all questions."""

    __slots__ = ()


@value
class HostKeyOffered(Question):
    """Client: the server has proven to own this key.  Is it the host's?  Answer: None, to go on.

    Attributes:
        certificate: what it shows of the key; nobody has said yet that its authority is to be believed.
    """

    key: PublicKey
    certificate: Certificate | None = None


@value
class SignatureWanted(Question):
    """Sign `data` with `key` by `algorithm`.  Answer: the signature as it goes on the wire; a client's may be refused.

    A server's host key signs at once; what a client logs in with may take its time.
    """

    key: Signer
    data: bytes = attrs.field(repr=False)
    algorithm: str


@value
class SignatureRefused(Value):
    """The answer where there is no signature: whoever holds the key doesn't sign, for this reason."""

    reason: str


@value
class Prompt(Value):
    """One prompt of a keyboard-interactive round."""

    text: str
    echo: bool


@value
class PromptsArrived(Question):
    """Client: the server wants answers.  Answer: a sequence of str, one per prompt."""

    name: str
    instruction: str
    prompts: tuple[Prompt, ...]


@value
class NewPasswordWanted(Question):
    """Client: the password must be changed; the server says so in `prompt`.  Answer: the new one, or None."""

    prompt: str


@value
class InteractiveQuery(Value):
    """What a server asks in one keyboard-interactive round.

    Attributes:
        name: a title; may be empty.
        instructions: a text above the prompts; may be empty.
        prompts: each a `Prompt`, or a pair of text and whether the answer may be shown, or a text whose answer is
            hidden.
    """

    name: str = ""
    instructions: str = ""
    prompts: Sequence[Prompt | tuple[str, bool] | str] = ()

    def as_prompts(self) -> tuple[Prompt, ...]:
        """Return the prompts in their one form.

        Raises:
            TypeError: they are something else.
        """
        if isinstance(self.prompts, str | Prompt) or not isinstance(self.prompts, Iterable):
            raise TypeError(f"prompts is a list, if of one: InteractiveQuery(name, instructions, [{self.prompts!r}])")
        return tuple(map(_as_prompt, self.prompts))


def _as_prompt(prompt: object) -> Prompt:
    match prompt:
        case Prompt():
            return prompt
        case str():
            return Prompt(prompt, echo=False)
        case (str() as text, bool() as echo):
            return Prompt(text, echo)
        case _:
            raise TypeError(f"a prompt is a Prompt, a text, or a text and whether the answer is shown, not {prompt!r}")


@value
class UserQuestion(Question):
    """Server: something about this user."""

    username: str


@value
class AllowedAuths(UserQuestion):
    """Server: which methods can continue for this user?  Answer: a sequence of method names.

    Attributes:
        is_after_failure: an attempt failed, whose answer must not come sooner than others; see ``Limits``.
    """

    is_after_failure: bool = False


@value
class CheckNone(UserQuestion):
    """Server: may the user in without any proof?  Answer: an `AuthResult`."""


@value
class CheckPassword(UserQuestion):
    """Server: is this the user's password?  Answer: an `AuthResult`."""

    password: str = attrs.field(repr=False)


@value
class CheckPasswordChange(UserQuestion):
    """Server: is this the user's password, and may the other take its place?  Answer: an `AuthResult`."""

    password: str = attrs.field(repr=False)
    new_password: str = attrs.field(repr=False)


@value
class KeyDemands(Value):
    """What a signature by a security key must attest.

    Attributes:
        presence: that somebody touched the token.
        verification: that the token knew who, by a PIN or a finger.
    """

    presence: bool = True
    verification: bool = False


@value
class KeyDemandsWanted(UserQuestion):
    """Server: what must a signature by this security key attest?  Answer: `KeyDemands`; anything else is the default.

    Asked before the signature is looked at, so that whoever is told of a proof is told of a complete one.
    """

    key: PublicKey | Certificate


@value
class CheckPublicKey(UserQuestion):
    """Server: is this one of the user's keys?  `is_proven` is false for a mere probe.  Answer: an `AuthResult`."""

    key: PublicKey
    is_proven: bool


@value
class CheckCertificate(UserQuestion):
    """Server: does this certificate let the user in?  `is_proven` is false for a mere probe.  Answer: an `AuthResult`.

    That its authority signed it was checked, and with `is_proven` that the user has the key; nothing else was.
    """

    certificate: Certificate
    is_proven: bool


@value
class CheckHostbased(UserQuestion):
    """Server: may this host vouch for this user of its?  It has proven to own the key.  Answer: an `AuthResult`."""

    key: PublicKey
    client_host: str
    client_username: str


@value
class CheckInteractive(UserQuestion):
    """Server: begin keyboard-interactive.  Answer: an `InteractiveQuery`, or an `AuthResult`."""

    submethods: str


@value
class CheckInteractiveResponse(UserQuestion):
    """Server: the user's answers.  Answer: an `AuthResult`, or another `InteractiveQuery`."""

    responses: tuple[str, ...] = attrs.field(repr=False)


@value
class BannerWanted(UserQuestion):
    """Server: a text for the user to read before the first answer.  Answer: a str, empty for none."""
