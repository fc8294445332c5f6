from __future__ import annotations

import pytest

from trio_ssh.crypto.registry import Registry, UnknownAlgorithm


def colours() -> Registry[int]:
    registry: Registry[int] = Registry("colour")
    registry.register("red", 1)
    registry.register("green", 2)
    return registry


def test_what_was_registered_is_found_by_its_exact_name() -> None:
    registry = colours()
    assert registry["green"] == 2
    assert "green" in registry
    assert "Green" not in registry
    assert "green " not in registry


def test_names_keep_the_order_of_registration() -> None:
    assert colours().names() == ("red", "green")


def test_a_name_is_never_registered_twice() -> None:
    registry = colours()
    with pytest.raises(ValueError, match="'red' is registered already"):
        registry.register("red", 3)
    assert registry["red"] == 1


def test_an_unknown_name_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownAlgorithm) as caught:
        colours()["blue\x1b[2J"]
    assert str(caught.value) == r"no colour algorithm is called 'blue\x1b[2J'; known are: red, green"
    assert isinstance(caught.value, LookupError)


def test_an_empty_registry_says_so() -> None:
    empty: Registry[int] = Registry("colour")
    with pytest.raises(UnknownAlgorithm, match="known are: none"):
        empty["red"]
    assert repr(empty) == "<Registry of 0 colour algorithms>"
