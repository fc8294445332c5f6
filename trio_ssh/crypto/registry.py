"""Algorithms of one kind by their exact wire name.

A registry knows what exists.  What is offered, and in which order, is not its business: see
`trio_ssh.crypto.defaults`.
"""

from __future__ import annotations

from typing import Generic, TypeVar

from trio_ssh.wire.text import printable

T = TypeVar("T")


class UnknownAlgorithm(KeyError):
    """No algorithm has this name.  The text lists those that there are."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the text's repr


class Registry(Generic[T]):
    """Algorithms of one kind, in the order of their registration.

    Args:
        kind: what they are, for error messages, such as ``"cipher"``.
    """

    __slots__ = ("_kind", "_values")

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._values: dict[str, T] = {}

    def __repr__(self) -> str:
        return f"<Registry of {len(self._values)} {self._kind} algorithms>"

    def register(self, name: str, value: T) -> None:
        """Make `value` known as `name`.

        Raises:
            ValueError: the name is taken.  Replacing an algorithm behind a user's back is never what was
                meant.
        """
        if name in self._values:
            raise ValueError(f"the {self._kind} algorithm {name!r} is registered already")
        self._values[name] = value

    def __getitem__(self, name: str) -> T:
        """Return the algorithm of exactly this name.

        Raises:
            UnknownAlgorithm: there is none.
        """
        try:
            return self._values[name]
        except KeyError:
            known = ", ".join(self._values) or "none"
            raise UnknownAlgorithm(
                f"no {self._kind} algorithm is called '{printable(name)}'; known are: {known}"
            ) from None

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def names(self) -> tuple[str, ...]:
        """Return every name, in the order of registration."""
        return tuple(self._values)
