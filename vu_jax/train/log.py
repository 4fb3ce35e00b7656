"""What a run says of itself: metrics.jsonl, TensorBoard event files, and a progress display."""

import json
import pathlib
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class RunLog:
  """Writes one line per record, an event per number, and shows where the run stands.

  On a terminal a progress bar; elsewhere (a file, a batch job) plain lines.
  """

  def __init__(self, workdir: pathlib.Path, total_steps: int, console: Console):
    from tensorboardX import SummaryWriter  # here, because it imports torch where that is installed

    self._file = (workdir / "metrics.jsonl").open("a", buffering=1)
    _end_torn_line(workdir / "metrics.jsonl", self._file)
    self._events = SummaryWriter(str(workdir / "tensorboard"))
    self._console = console
    columns = (
      TextColumn("train"),
      BarColumn(),
      MofNCompleteColumn(),
      TextColumn("{task.fields[status]}"),
      TimeRemainingColumn(),
    )
    self._bar = Progress(*columns, console=console, disable=not console.is_terminal)
    self._task = self._bar.add_task("train", total=total_steps, status="compiling")
    self._total = total_steps
    self._bar.start()

  def write(self, step: int, split: str, values: dict[str, float]) -> None:
    """Records the values of one split at one step [updates made]."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S")
    record = {"step": step, "split": split, **{k: round(v, 6) for k, v in values.items()}, "time": stamp}
    self._file.write(json.dumps(record) + "\n")
    for name, value in values.items():
      self._events.add_scalar(f"{split}/{name}", value, step)
    if split == "train":
      self._show_progress(step, values)
    else:
      figures = "  ".join(f"{k} {values[k]:.4f}" for k in ("loss", "top1", "top5") if k in values)
      self._console.print(f"step {step:>6}  {split:<10}  {figures}")

  def _show_progress(self, step: int, values: dict[str, float]) -> None:
    names = {
      "loss": "loss {:.3f}",
      "top1": "top1 {:.3f}",
      "clips_per_s": "{:.0f} clips/s",
      "data_wait_frac": "wait {:.0%}",
    }
    status = "  ".join(text.format(values[k]) for k, text in names.items() if k in values)
    self._bar.update(self._task, completed=step, status=status)
    if not self._console.is_terminal:
      left = values.get("seconds_left", 0.0)
      self._console.print(f"step {step:>6}/{self._total}  train       {status}  {left:.0f} s left")

  def close(self) -> None:
    self._bar.stop()
    self._file.close()
    self._events.close()


def _end_torn_line(path: pathlib.Path, file: Any) -> None:
  """A killed run may have left half a line; the next record must not be glued to it."""
  if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
    file.write("\n")
