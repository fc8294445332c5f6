"""How Sphinx builds the documentation.  Nothing here needs the network."""

from __future__ import annotations

import builtins
import pathlib
import re
import tomllib

_pyproject = pathlib.Path(__file__).parents[1] / "pyproject.toml"
_project = tomllib.loads(_pyproject.read_text("utf-8"))["project"]

project = _project["name"]
author = "the trio_ssh developers"
copyright = f"2026, {author}"  # noqa: A001 - Sphinx reads this name
version = release = _project["version"]

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinxcontrib_trio"]
exclude_patterns = ["_build"]
default_role = "literal"  # our docstrings write `name` for a name
highlight_language = "python3"

# Sphinx 9 rewrote autodoc; sphinxcontrib-trio, which writes "await" before coroutines, extends the older one.
autodoc_use_legacy_class_based = True
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "show-inheritance": True}

# A reference to a name of ours must lead somewhere.  Others' names are not looked up: that takes the network.
nitpicky = True
_builtin_names = "|".join(re.escape(name) for name in dir(builtins))
nitpick_ignore_regex = [("py:.*", rf"(?!trio_ssh\b)[a-z_]\w*\..*|{_builtin_names}")]

html_theme = "furo"
html_title = f"{project} {version}"
