"""What all pages share: templates that escape, one head, and files that nobody ever sees half of."""

import base64
import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jinja2
from markupsafe import Markup, escape

from vu_jax.disk import write_text
from vu_jax.report import headline

_FOLDER = pathlib.Path(__file__).parent / "templates"


def page(template: str, values: Mapping[str, Any], script: str = "") -> str:
  """Fills a template of `templates/`; text becomes text, whatever it holds.

  The page's policy lets nothing in from outside, and of scripts only this one runs.

  Args:
    template: its file name without ".html.jinja"; it extends "base.html.jinja".
    values: what the template names; `title` at least. A name without a value is an error.
    script: file name of a script in `templates/`; the page must be whole without it.
  """
  code = (_FOLDER / script).read_text(encoding="utf-8") if script else ""
  digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
  found = _environment().get_template(f"{template}.html.jinja")
  return found.render({**values, "script": Markup(code), "script_hash": f"sha256-{digest}"})


def write_page(target: pathlib.Path, text: str) -> pathlib.Path:
  """Replaces the page; whoever has it open never sees half of one."""
  write_text(target, text)
  return target


def breakable(text: str) -> Markup:
  """Lets a browser break a long name after _, /, . and =, where a reader would."""
  broken = str(escape(text))
  for mark in ("_", "/", ".", "="):
    broken = broken.replace(mark, f"{mark}<wbr>")
  return Markup(broken)


def setting(value: Any) -> str:
  """A config's value as a reader types it: text bare, a long fraction with the digits that matter."""
  if value is None:
    return "–"
  if isinstance(value, float):
    return re.sub(r"e([+-])0", r"e\1", f"{value:.4g}").replace("e+", "e")
  return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


@functools.cache
def _environment() -> jinja2.Environment:
  environment = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.filters.update(
    percent=headline.percent,
    interval=headline.interval,
    number=headline.number,
    duration=headline.duration,
    breakable=breakable,
    setting=setting,
  )
  return environment
