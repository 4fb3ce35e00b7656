"""What a run shows while it trains: a bar on a terminal, plain lines elsewhere, and a verdict on the data."""

import os
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

_BOUND, _FREE = 0.2, 0.1  # data-wait shares at which the verdict changes; apart, so that it does not flicker
_SHOWN = {
  "loss": "loss {:.3f}",
  "top1": "top1 {:.3f}",
  "clips_per_s": "{:.0f} clips/s",
  "data_wait_frac": "wait {:.0%}",
  "skipped": "{:.0f} skipped",
}


class Terminal:
  """A writer for people."""

  def __init__(self, console: Console, total_steps: int, step: int):
    self._console, self._total = console, total_steps
    columns = (TextColumn("train"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[status]}"))
    self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
    self._task = self._bar.add_task("train", total=total_steps, completed=step, status="first step")
    self._bound = False
    self._bar.start()

  def write(self, step: int, split: str, values: Mapping[str, float]) -> None:
    if split != "train":
      figures = "  ".join(f"{k} {values[k]:.4f}" for k in ("loss", "top1", "top5") if k in values)
      return self._say(f"step {step:>6}  {split:<10}  {figures}")
    status = "  ".join(
      text.format(values[k]) for k, text in _SHOWN.items() if values.get(k) or (k in values and k != "skipped")
    )
    status += f"  {duration(values.get('seconds_left', 0.0))} left"
    self._bar.update(self._task, completed=step, status=status)
    if not self._console.is_terminal:
      self._say(f"step {step:>6}/{self._total}  train       {status}")
    self._bound, verdict = verdict_on_data(values.get("data_wait_frac", 0.0), self._bound)
    if verdict:
      self._say(verdict)
    return None

  def close(self) -> None:
    self._bar.stop()

  def _say(self, text: str) -> None:
    self._console.print(text, markup=False)


def verdict_on_data(wait_frac: float, was_bound: bool) -> tuple[bool, str]:
  """Whether decoding holds training back, and a line on it if that has changed since the last report."""
  bound = wait_frac > (_FREE if was_bound else _BOUND)
  if bound == was_bound:
    return bound, ""
  if not bound:
    return bound, f"data keeps up: the device waits {wait_frac:.0%} of the time"
  return bound, (
    f"decode-bound: the device waits for data {wait_frac:.0%} of the time; more cores help (loader.threads; "
    f"{os.cpu_count()} here), as do a lower data.short_side, or --store=jpeg"
  )


def duration(seconds: float) -> str:
  """42 s, 12 min, 3 h 05 min."""
  minutes = round(seconds / 60)
  if seconds < 100:
    return f"{seconds:.0f} s"
  return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
