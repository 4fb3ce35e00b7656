"""A sweep while it runs, and at its end: a live table on a terminal, plain lines elsewhere.

It reads what workers write, so it shows the trials of all processes and machines, whoever started them.
"""

import contextlib
import json
import pathlib
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from vu_jax.train.terminal import duration

FILE = "study.json"
Trial: TypeAlias = Mapping[str, Any]
_EVERY_S = 1.0
_LINES = 12  # of running trials that the table has room for
_BEST = 5


class View:
  """What is known of a sweep now."""

  def __init__(self, directory: pathlib.Path):
    self._directory, self._start = directory, time.monotonic()
    self.record: dict[str, Any] = {}
    self.look()
    self._done_before = self._progress()

  def look(self) -> None:
    """Reads the record again; the old one stays where there is none."""
    with contextlib.suppress(FileNotFoundError):
      self.record = json.loads((self._directory / FILE).read_text())

  def trials(self, *states: str) -> list[Trial]:
    return [t for t in self.record.get("trials", []) if not states or t["state"] in states]

  def ranked(self) -> list[Trial]:
    """Complete trials, the best first."""
    found = [t for t in self.trials("complete") if t["value"] is not None]
    return sorted(found, key=lambda t: t["value"], reverse=self.record["objective"]["direction"] == "maximize")

  def step(self, trial: Trial) -> int:
    """The newest one that the trial's log knows."""
    evaluated = trial["curve"][-1][0] if trial["curve"] else 0
    return max(evaluated, last_step(self._directory / trial["run"] / "metrics.jsonl"))

  def counts(self) -> str:
    """3 of 16 done, 8 running, ..."""
    if not self.record:
      return "starting"
    done, best = self.trials("complete", "pruned", "failed"), self.ranked()[:1]
    parts = [f"{len(done)} of {self.record['planned']} done"]
    for state in ("pruned", "failed"):
      parts += [f"{n} {state}"] if (n := len(self.trials(state))) else []
    parts.append(f"{len(self.trials('running'))} running")
    parts += [f"best {self.figure(best[0]['value'])} (trial {best[0]['number']})"] if best else []
    left = self.seconds_left()
    return ", ".join([*parts, *([f"about {duration(left)} left"] if left else [])])

  def figure(self, value: float | None) -> str:
    objective = self.record["objective"]
    return f"{objective['split']} {objective['name']} {'-' if value is None else f'{value:.4f}'}"

  def seconds_left(self) -> float:
    """At the rate since this program began; 0 = not known yet."""
    now = self._progress()
    gained = now - self._done_before
    missing = self.record.get("planned", 0) - now
    return (time.monotonic() - self._start) * missing / gained if gained > 0 and missing > 0 else 0.0

  def _progress(self) -> float:
    """In trials."""
    steps = self.record.get("steps", 1)
    parts = sum(min(self.step(t) / steps, 1.0) for t in self.trials("running"))
    return len(self.trials("complete", "pruned", "failed")) + parts

  def table(self) -> RenderableType:
    """The trials that run, then the best ones."""
    if not self.record:
      return Text("starting")
    running = self.trials("running")
    shown = Table(box=None, pad_edge=False, expand=False)
    for column in ("trial", "", self.figure(None).removesuffix(" -"), "values"):
      shown.add_column(column, overflow="fold" if column == "values" else "ellipsis", no_wrap=column != "values")
    for trial in running[:_LINES]:
      latest = trial["curve"][-1][1] if trial["curve"] else None
      state = f"step {self.step(trial)} of {self.record['steps']}"
      shown.add_row(str(trial["number"]), state, "" if latest is None else f"{latest:.4f}", values_text(trial))
    for trial in self.ranked()[:_BEST]:
      shown.add_row(str(trial["number"]), "complete", f"{trial['value']:.4f}", values_text(trial), style="green")
    more = len(running) - _LINES
    return Group(
      Text(f"{self.record['name']}: {self.counts()}"), shown, *([Text(f"and {more} more")] if more > 0 else [])
    )


def values_text(trial: Trial) -> str:
  """lr_peak=0.0021 dropout=0.3: short, for people; the command has all digits."""
  shown = {k.split(".")[-1]: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in trial["params"].items()}
  return " ".join(f"{k}={v}" for k, v in shown.items())


def last_step(file: pathlib.Path) -> int:
  """Of a metrics.jsonl; 0 where there is none."""
  try:
    with file.open("rb") as lines:
      lines.seek(max(file.stat().st_size - 4096, 0))
      rows = lines.read().splitlines()
    return int(json.loads(rows[-1])["step"])
  except (OSError, IndexError, ValueError, KeyError):
    return 0


class Lines:
  """Says what has happened since the last look, a line for each trial that began or ended."""

  def __init__(self, view: View, screen: Console):
    self._view, self._screen = view, screen
    self._known = {t["number"]: t["state"] for t in view.trials()}

  def say(self) -> None:
    for trial in self._view.trials():
      before, now = self._known.get(trial["number"]), trial["state"]
      self._known[trial["number"]] = now
      if before is None and now != "failed":
        self._print(f"trial {trial['number']:>3}  begins    {trial['command']}")
      if now != before and now != "running":
        self._print(f"trial {trial['number']:>3}  {now:<8}  {self._ended(trial)}; {self._view.counts()}")

  def _ended(self, trial: Trial) -> str:
    steps = f" after step {trial['curve'][-1][0]}" if trial["curve"] else ""
    return trial["reason"] if trial["state"] == "failed" else self._view.figure(trial["value"]) + steps

  def _print(self, text: str) -> None:
    self._screen.print(text, markup=False, soft_wrap=True)


@contextlib.contextmanager
def shown(directory: pathlib.Path, screen: Console) -> Iterator[View]:
  """Shows the sweep while the body of the `with` works."""
  view = View(directory)
  if screen.is_terminal:

    def table() -> RenderableType:
      view.look()
      return view.table()

    with Live(get_renderable=table, console=screen, refresh_per_second=1 / _EVERY_S, transient=True):
      yield view
    view.look()
    return
  over, lines = threading.Event(), Lines(view, screen)

  def follow() -> None:
    while not over.wait(_EVERY_S):
      view.look()
      lines.say()

  thread = threading.Thread(target=follow, daemon=True)
  thread.start()
  try:
    yield view
  finally:
    over.set()
    thread.join()
    view.look()
    lines.say()


def best_table(view: View) -> Table:
  """The best trials, and why others failed."""
  objective = view.record["objective"]
  table = Table(title=f"{view.record['name']}: {view.counts()}", title_justify="left")
  for column in ("trial", f"{objective['split']} {objective['name']}", *view.record["space"], "run"):
    table.add_column(column, justify="left" if column == "run" else "right")
  for trial in view.ranked()[:_BEST]:
    values = [_short(trial["params"].get(key)) for key in view.record["space"]]
    table.add_row(str(trial["number"]), f"{trial['value']:.4f}", *values, trial["run"])
  return table


def _short(value: Any) -> str:
  return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
