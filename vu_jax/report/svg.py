"""Turns a matplotlib figure into inline SVG whose colours and fonts are those of the page, light or dark."""

import html
import io
import re
import warnings
from collections.abc import Callable
from typing import Any

import matplotlib
from matplotlib.figure import Figure

# Every colour of a figure is a role. It is drawn in a hex code that serves as a mark and written out as
# var(--role, fallback), so that the style sheet decides, and dark mode needs no second figure.
_SERIES_COLOURS = ("#2a6bb0", "#c2621c", "#2f8a57", "#7d46a8", "#b8406f", "#17879a", "#8a6d1a", "#6b6862")
_RANK_COLOURS = ("#d8d2c4", "#b5c3cd", "#8cadcd", "#5d91c5", "#2f6fb4", "#123f86")
SERIES = tuple(f"series{i}" for i in range(len(_SERIES_COLOURS)))
RANKS = tuple(f"rank{i}" for i in range(len(_RANK_COLOURS)))
_ROLES = {
  "ink": "#1d1c1a",
  "muted": "#6b6862",
  "rule": "#e3e0d8",
  "card": "#ffffff",
  "train": "#2a6bb0",
  "validation": "#c2621c",
  "test": "#7d46a8",
  "right": "#2a6bb0",
  "wrong": "#cc4a34",
  "soft": "#f1efea",
  # Things without an order, such as the variants of an ablation; and ranks, from the worst to the best.
  **dict(zip(SERIES, _SERIES_COLOURS, strict=True)),
  **dict(zip(RANKS, _RANK_COLOURS, strict=True)),
}
COLOUR = {role: f"#01{index:02x}fe" for index, role in enumerate(_ROLES)}
_OF_MARK = {COLOUR[role]: f"var(--{role}, {fallback})" for role, fallback in _ROLES.items()}

_STYLE = {
  "svg.fonttype": "none",  # text stays text: the page's own font, searchable
  "text.parse_math": False,  # a label may hold $
  "font.size": 11,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "axes.spines.left": False,
  "axes.edgecolor": COLOUR["rule"],
  "axes.labelcolor": COLOUR["muted"],
  "axes.axisbelow": True,
  "axes.grid": True,
  "axes.grid.axis": "y",
  "grid.color": COLOUR["rule"],
  "grid.linewidth": 0.8,
  "xtick.color": COLOUR["muted"],
  "ytick.color": COLOUR["muted"],
  "xtick.major.size": 0,
  "ytick.major.size": 0,
  "xtick.minor.size": 0,
  "ytick.minor.size": 0,
  "xtick.major.pad": 5,
  "text.color": COLOUR["ink"],
  "lines.solid_capstyle": "round",
  "lines.solid_joinstyle": "round",
}


def draw(
  paint: Callable[[Figure], None],
  name: str,
  describe: str,
  width_px: float,
  height_px: float,
  *,
  least_px: float = 0,
  most_px: float | None = None,
) -> str:
  """Draws a figure and returns it as one `<svg>` element without any reference to the outside.

  Args:
    paint: adds axes and artists to the empty figure.
    name: unique within the page; keeps ids of several figures apart.
    describe: what a screen reader says.
    width_px, height_px: natural size, at which text has the size that it was drawn in.
    least_px, most_px: the width follows the box between these; most_px is 1.4 times width_px if not given.
  """
  style: dict[Any, Any] = {**_STYLE, "svg.hashsalt": name}
  with matplotlib.rc_context(style), warnings.catch_warnings(), io.StringIO() as out:
    warnings.filterwarnings("ignore", message=".*missing from font")  # the browser's fonts draw the text
    figure = Figure(figsize=(width_px / 72, height_px / 72))  # one SVG unit, 1/72 inch, is one CSS pixel
    paint(figure)
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    figure.savefig(out, format="svg", transparent=True, metadata=nothing)
    text = out.getvalue()
  text = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", text[text.index("<svg") :], flags=re.DOTALL)
  text = re.sub(r"<[^>]+>", lambda tag: _adopt(tag.group(), name), text)
  size = f"width:100%;min-width:{least_px:.0f}px;max-width:{most_px or 1.4 * width_px:.0f}px"
  return re.sub(
    r"<svg[^>]*?(viewBox=\"[^\"]*\")[^>]*>",
    lambda tag: f'<svg {tag.group(1)} role="img" aria-label="{html.escape(describe)}" style="{size}">',
    text,
    count=1,
  )


def _adopt(tag: str, name: str) -> str:
  """Rewrites one tag; text between tags is left alone, it may hold anything."""
  tag = re.sub(r"#01[0-9a-f]{2}fe", lambda mark: _OF_MARK.get(mark.group(), mark.group()), tag)
  tag = re.sub(r"font-family: [^;\"]*;? ?", "", tag)
  return re.sub(r'( id="|url\(#|href="#)', lambda found: f"{found.group()}{name}-", tag)
