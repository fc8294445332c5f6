"""How Sphinx builds the documentation.  Nothing here needs the network."""

from __future__ import annotations

import builtins
import pathlib
import re
import sys
import tomllib

_pyproject = pathlib.Path(__file__).parents[1] / "pyproject.toml"
_project = tomllib.loads(_pyproject.read_text("utf-8"))["project"]

sys.path[:0] = [str(_pyproject.parent), str(_pyproject.parent / "docs" / "_ext")]

project = _project["name"]
author = "the trio_ssh developers"
copyright = f"2026, {author}"  # noqa: A001 - Sphinx reads this name
version = release = _project["version"]

extensions = [
    "sphinx.ext.autodoc",
    "sphinxcontrib_trio",
    "protocol_tables",  # these two are in _ext
    "our_docstrings",
]
exclude_patterns = ["_build", "_ext"]
default_role = "literal"  # our docstrings write `name` for a name
highlight_language = "python3"

# Sphinx 9 rewrote autodoc; sphinxcontrib-trio, which writes "await" before coroutines, extends the older one.
autodoc_use_legacy_class_based = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}

# A reference to a name of ours must lead somewhere.  Others' names are not looked up: that takes the network.
nitpicky = True
_builtin_names = "|".join(re.escape(name) for name in dir(builtins))
nitpick_ignore_regex = [
    ("py:.*", rf"(?!trio_ssh\b)[a-z_]\w*\..*|{_builtin_names}"),
    # A signature may name what is private: a base class, a value that is passed on unread, a type variable.
    ("py:.*", r"trio_ssh\.((core|runtime|sftp|wire)\.\w+\.\w+|session\.SessionState|testing\.faults\._Path)"),
    ("py:.*", r"trio_ssh\.(server|testing\.lockstep)\.[A-Z]"),
    # The fields of what a server tells are numbers, whose width is the wire's affair.
    ("py:class", r"UInt\d+"),
]

html_theme = "furo"
html_title = f"{project} {version}"
