"""Tables as text for other programs: Markdown and CSV."""

import csv
import io
from collections.abc import Sequence
from typing import Any


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """A table as Markdown; what a cell holds stays in its cell."""
  lines = ["| " + " | ".join(map(_cell, columns)) + " |", "|" + "---|" * len(columns)]
  return "\n".join([*lines, *("| " + " | ".join(map(_cell, row)) + " |" for row in rows)]) + "\n"


def csv_table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
  """A table as CSV, RFC 4180 but for the line ends; None is an empty cell."""
  out = io.StringIO()
  csv.writer(out, lineterminator="\n").writerows([columns, *rows])
  return out.getvalue()


def _cell(text: str) -> str:
  return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")
