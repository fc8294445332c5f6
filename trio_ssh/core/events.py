"""What the runtime must know, in the order in which it happened.

Data is not among them by value: `DataArrived` says once per read that a channel has some, and the runtime fetches all
of it.
"""

from __future__ import annotations

import attrs

from trio_ssh.core.auth_client import AuthAnswer
from trio_ssh.core.channel import CoreChannel, Source
from trio_ssh.core.negotiation import Negotiated
from trio_ssh.core.questions import Question
from trio_ssh.wire.values import Value, value


class Event(Value):
    """The base of all events."""

    __slots__ = ()


@value
class Ended(Event):
    """The connection is over; nothing follows.  `error` says why."""

    error: Exception


@value
class Asked(Event):
    """Input pauses until `Connection.answer` is called."""

    question: Question


@value
class ExchangeStarted(Event):
    """A later key exchange has begun, whoever began it; `ExchangeFinished` must follow in time.

    Attributes:
        is_hasty: the peer began it, and hardly anything has passed under the keys in use.
    """

    is_hasty: bool


@value
class ExchangeFinished(Event):
    """Both directions use new keys."""

    negotiated: Negotiated
    is_first: bool


@value
class BannerArrived(Event):
    """Client: a text for the user, escaped."""

    text: str


@value
class AuthAnswered(Event):
    """Client: the dialog given to `Connection.authenticate` is done."""

    answer: AuthAnswer


@value
class LoggedIn(Event):
    """Server: authentication is complete."""

    username: str


@value
class DataArrived(Event):
    """`channel.fetch(source)` has something."""

    channel: CoreChannel
    source: Source


@value
class EofArrived(Event):
    """No more data comes on this channel."""

    channel: CoreChannel


@value
class CloseArrived(Event):
    """Nothing more comes on this channel, and its pending requests will not be answered."""

    channel: CoreChannel


@value
class WindowOpened(Event):
    """A channel that could send nothing can."""

    channel: CoreChannel


@value
class OpenRequested(Event):
    """The peer wants a channel: `Connection.confirm_open` or `refuse_open`."""

    channel: CoreChannel
    details: bytes


@value
class OpenAnswered(Event):
    """Our channel is open, or refused: then `code` is an RFC 4254 s5.1 code and `text` the peer's words."""

    channel: CoreChannel
    code: int = 0
    text: str = ""


@value
class RequestArrived(Event):
    """The peer asks something of a channel; if it wants a reply: `Mux.reply`, in order."""

    channel: CoreChannel
    name: str
    wants_reply: bool
    details: bytes = attrs.field(repr=False)


@value
class RequestAnswered(Event):
    """The oldest of our requests on this channel that awaited a reply has it."""

    channel: CoreChannel
    is_success: bool


@value
class GlobalRequestArrived(Event):
    """The peer asks something of the connection; if it wants a reply: `Mux.reply_global`, in order."""

    name: str
    wants_reply: bool
    details: bytes


@value
class GlobalRequestAnswered(Event):
    """The oldest of our global requests that awaited a reply has it."""

    is_success: bool
    details: bytes


@value
class PongArrived(Event):
    """A ping came back."""

    data: bytes
