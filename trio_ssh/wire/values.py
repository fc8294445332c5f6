"""Value classes whose methods are written when they are first used.

attrs writes a class's methods when its module is imported, a quarter of a millisecond for each class.  Messages, events
and questions are 200 classes, of which a program uses a third.  What is declared here costs a hundredth of that at
import; the first instance pays the rest.  The type checkers know these classes as frozen, and nobody changes a value;
that it can't be done is not enforced, because that would cost a microsecond for each of thousands.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ClassVar, Final, Self, TypeVar, cast, dataclass_transform

import attrs


class Value:
    """Is equal to another of its class with equal fields, hashes by them, and shows them."""

    __slots__ = ()
    #: The fields, in order; those of a base class come first.
    __match_args__: ClassVar[tuple[str, ...]] = ()
    #: Fields that a repr leaves out: they may hold secrets.
    HIDDEN: ClassVar[frozenset[str]] = frozenset()

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__match_args__)

    def __hash__(self) -> int:
        return hash((type(self), *(getattr(self, name) for name in self.__match_args__)))

    def __repr__(self) -> str:
        shown = (f"{name}={getattr(self, name)!r}" for name in self.__match_args__ if name not in self.HIDDEN)
        return f"{type(self).__name__}({', '.join(shown)})"

    def __replace__(self, **changes: object) -> Self:
        """Return a copy with some fields changed: what `copy.replace` calls, from Python 3.13 on."""
        values = [changes.pop(name, getattr(self, name)) for name in self.__match_args__]
        return type(self)(*values, **changes)


class _Signature:
    """Tells what a class takes, for `inspect.signature` and the documentation."""

    def __get__(self, instance: object, owner: type[Value]) -> inspect.Signature:
        kinds = {name: kind for base in reversed(owner.__mro__) for name, kind in _annotations(base).items()}
        defaults = _defaults(owner)
        return inspect.Signature(
            [
                inspect.Parameter(
                    name,
                    inspect.Parameter.POSITIONAL_OR_KEYWORD,
                    default=defaults.get(name, inspect.Parameter.empty),
                    annotation=kinds[name],
                )
                for name in owner.__match_args__
            ]
        )


def _annotations(cls: type) -> dict[str, str]:
    """Return what the class body itself annotates, as text."""
    return cast("dict[str, str]", vars(cls).get("__annotations__", {}))


def _defaults(cls: type[Value]) -> dict[str, object]:
    """Return the values that fields have where none is given."""
    found = {
        name: vars(base)[name] for base in reversed(cls.__mro__) for name in _annotations(base) if name in vars(base)
    }
    return {name: found[name] for name in cls.__match_args__ if type(found.get(name, _NONE)) is not _HIDDEN}


V = TypeVar("V", bound=Value)

#: What `attrs.field(repr=False)` leaves in a class body: nothing else of attrs is used here.
_NONE: Final[object] = cast("object", attrs.field(repr=False))
_HIDDEN: Final[type] = type(_NONE)


@dataclass_transform(frozen_default=True, field_specifiers=(attrs.field,))
def value(cls: type[V]) -> type[V]:
    """Make a value class of what the class body annotates; a field may have a default that is never changed."""
    own = [name for name, kind in _annotations(cls).items() if not kind.startswith("ClassVar")]
    cls.__match_args__ = tuple(dict.fromkeys((*cls.__match_args__, *own)))  # type: ignore[misc] # once, here
    hidden = {name for name in own if type(vars(cls).get(name)) is _HIDDEN}
    if hidden:
        cls.HIDDEN = cls.HIDDEN | hidden
    cls.__init__ = _first_init  # type: ignore[method-assign, assignment]
    cls.__signature__ = _Signature()  # type: ignore[attr-defined]
    return cls


def _first_init(self: Value, *values: object, **named: object) -> None:
    """Stand for a class's ``__init__`` until it is called, and write that then."""
    cls = type(self)
    names = cls.__match_args__
    defaults = _defaults(cls)
    arguments = [f"{name}=defaults[{name!r}]" if name in defaults else name for name in names]
    lines = [f"self.{name} = {name}" for name in names] or ["pass"]
    made = written("__init__", ", ".join(["self", *arguments]), lines, {"defaults": defaults})
    made.__qualname__ = f"{cls.__qualname__}.__init__"
    cls.__init__ = made  # type: ignore[method-assign]
    made(self, *values, **named)


def written(name: str, arguments: str, lines: list[str], names: dict[str, Any]) -> Callable[..., Any]:
    """Compile a function.  Nothing of a peer's goes into its text: it is made of declarations' field names."""
    names["__name__"] = __name__  # else what is made belongs to no module
    exec("\n    ".join([f"def {name}({arguments}):", *lines]), names)
    return cast("Callable[..., Any]", names[name])
