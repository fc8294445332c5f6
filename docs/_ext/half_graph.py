"""A state graph as SVG, drawn without a drawing program: states in a row, and an arrow for each change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

_GAP: Final = 210
_WIDTH: Final = 96
_HEIGHT: Final = 40
_MIDDLE: Final = 110
_LEFT: Final = 30

_HEAD: Final = """\
<svg class="half-graph" viewBox="0 0 {width} {height}" role="img" aria-label="{title}" style="max-width: {width}px"
 xmlns="http://www.w3.org/2000/svg" fill="none" stroke="currentColor" stroke-width="1.3" font-size="14">
<defs><marker id="tip" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" orient="auto">
<path d="M 0 1 L 9 5 L 0 9 z" fill="currentColor" stroke="none"/></marker></defs>
"""


def _text(x: float, y: float, text: str, *, bold: bool = False) -> str:
    style = 'text-anchor="middle" fill="currentColor" stroke="none"' + (' font-weight="bold"' if bold else "")
    return f'<text x="{x:g}" y="{y:g}" {style}>{escape(text)}</text>'


def _arrow(path: str) -> str:
    return f'<path d="{path}" marker-end="url(#tip)"/>'


def half_graph(states: Sequence[str], edges: Mapping[tuple[str, str], Sequence[str]]) -> str:
    """Return the graph as an SVG element.

    Args:
        states: from left to right.
        edges: (from, to) -> what makes the change.  A change to the next state is drawn straight, one that skips states
            below them, and one that changes nothing as a loop above.
    """
    left = {state: _LEFT + index * _GAP for index, state in enumerate(states)}
    centre = {state: x + _WIDTH / 2 for state, x in left.items()}
    top, bottom = _MIDDLE - _HEIGHT / 2, _MIDDLE + _HEIGHT / 2
    width, height = 2 * _LEFT + (len(states) - 1) * _GAP + _WIDTH, 200
    title = "; ".join(f"{start} to {end}: {', '.join(labels)}" for (start, end), labels in edges.items())
    parts = [_HEAD.format(width=width, height=height, title=escape(title, quote=True))]
    for state in states:
        parts.append(f'<rect x="{left[state]}" y="{top:g}" width="{_WIDTH}" height="{_HEIGHT}" rx="8"/>')
        parts.append(_text(centre[state], _MIDDLE + 5, state, bold=True))
    for (start, end), labels in edges.items():
        label = ", ".join(labels)
        here, there = centre[start], centre[end]
        if start == end:
            parts.append(_arrow(f"M {here - 20:g} {top:g} C {here - 45:g} 40 {here + 45:g} 40 {here + 20:g} {top:g}"))
            parts.append(_text(here, 42, label))
        elif there - here == _GAP:
            parts.append(_arrow(f"M {left[start] + _WIDTH} {_MIDDLE} L {left[end]} {_MIDDLE}"))
            parts.append(_text((here + there) / 2, _MIDDLE - 8, label))
        else:
            assert there > here, "no change goes back"
            parts.append(_arrow(f"M {here:g} {bottom:g} C {here + 60:g} 190 {there - 60:g} 190 {there:g} {bottom:g}"))
            parts.append(_text((here + there) / 2, 190, label))
    return "\n".join([*parts, "</svg>"])
