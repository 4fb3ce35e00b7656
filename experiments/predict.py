"""Labels video files with a trained run: one answer per file, and over time for long videos.

python -m experiments.predict --run=runs/NAME [--json=OUT.json] FILE...
"""

import json
import pathlib
import sys
import zlib
from typing import Any

import jax
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from experiments.cli import Arguments, console, run
from experiments.running.announce import enable_compile_cache
from experiments.running.trained import Trained, open_run
from vu_jax.data.clips import in_order, ordered, windows
from vu_jax.data.clips_time import second_line
from vu_jax.data.prepare import default_data_dir
from vu_jax.data.video.decode import VideoError, decode_frames, probe
from vu_jax.data.video.picture import scaled_size
from vu_jax.data.video.view import View, choose_view
from vu_jax.errors import UserError
from vu_jax.train.mesh import to_devices

WINDOWS_AT_ONCE = 4


def main() -> None:
  parser = Arguments(prog="experiments.predict", description=__doc__.splitlines()[0])
  parser.add_argument("--run", type=pathlib.Path, required=True, help="run directory")
  parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="also write everything to this new file")
  parser.add_argument("files", nargs="+", type=pathlib.Path, metavar="FILE", help="videos")
  args, _ = parser.read()
  if args.json and args.json.exists():
    raise UserError(f"--json={args.json}: exists already; name a new file")
  screen = console()
  enable_compile_cache(default_data_dir())
  trained = open_run(args.run, batch_size=WINDOWS_AT_ONCE * jax.device_count())
  answers, failed = [], 0
  for file in args.files:
    try:
      answers.append(predict(trained, file))
    except (VideoError, UserError, OSError) as error:
      failed += 1
      print(f"error: {file}: {error}", file=sys.stderr)
  show(answers, screen)
  if args.json:
    args.json.write_text(json.dumps({"run": str(args.run), "files": answers}, indent=2))
    screen.print(f"wrote {args.json}")
  if failed:
    sys.exit(2)


def predict(trained: Trained, file: pathlib.Path) -> dict[str, Any]:
  """Probabilities of one file: the mean over windows, and those of each window with its time [s].

  Raises:
    VideoError: the file cannot be read. UserError: it is too short for the run's clip.
  """
  if not file.is_file():
    raise UserError("no such file")
  info, experiment = probe(file), trained.experiment
  times_s = np.array(info.times_s) if info.times_s else None
  numbers = windows(experiment.clip, info.num_frames, info.fps, times_s=times_s)
  size = scaled_size((info.height, info.width), trained.short_side_px, enlarge=False)  # as it would be stored
  view = choose_view(experiment.pixels, *size, None)
  rows = []
  for start in range(0, len(numbers), batch := experiment.loader.batch_size):
    part = numbers[start : start + batch]
    keys = ((zlib.crc32(file.name.encode()), start + i) for i in range(len(part)))
    clips = [shown(file, ordered(experiment.clip, n, None, *key), view) for n, key in zip(part, keys, strict=True)]
    rows.append(probabilities(trained, np.stack(clips)))
  table = np.concatenate(rows)
  line = second_line(info.num_frames, info.fps, times_s)
  edges_s = np.append(line.starts, line.end)
  spans = [
    {
      "start_s": round(float(edges_s[n.min()]), 3),
      "end_s": round(float(edges_s[n.max() + 1]), 3),
      **answer(trained.labels, row),
    }
    for n, row in zip(numbers, table, strict=True)
  ]
  return {
    "file": str(file),
    "seconds": round(info.duration_s, 3),
    **answer(trained.labels, table.mean(0)),
    "windows": spans,
  }


def shown(file: pathlib.Path, frames: np.ndarray, view: View) -> np.ndarray:
  """The frames of a clip, which may start again where a short video is looped."""
  wanted, back = in_order(frames)
  video = decode_frames(file, wanted, view)
  return video if back is None else video[back]


def probabilities(trained: Trained, clips: np.ndarray) -> np.ndarray:
  """Class probabilities of up to a batch of clips `(n T H W 3)`."""
  missing = trained.experiment.loader.batch_size - len(clips)
  video = np.pad(clips, [(0, missing)] + [(0, 0)] * 4)
  zeros = np.zeros(len(video), np.int32)
  batch = {"video": video, "label": zeros, "index": zeros, "mask": zeros.astype(np.float32)}
  _, out = trained.eval_step(trained.state, to_devices(trained.mesh, batch))
  return np.asarray(jax.nn.softmax(out["logits"]))[: len(clips)]


def answer(labels: list[str], row: np.ndarray) -> dict[str, Any]:
  """The most probable label, and the probability of every label."""
  return {
    "label": labels[int(row.argmax())],
    "probabilities": {name: round(float(p), 5) for name, p in zip(labels, row, strict=True)},
  }


def show(answers: list[dict[str, Any]], screen: Console) -> None:
  """A row per file with its three most probable labels; a row per window where a file has several."""
  table = Table("file", "time (s)", "label", "probability", "next")
  for found in answers:
    table.add_row(escape(found["file"]), f"0.0-{found['seconds']:.1f}", *_ranked(found["probabilities"]), style="bold")
    for span in found["windows"] if len(found["windows"]) > 1 else []:
      table.add_row("", f"{span['start_s']:.1f}-{span['end_s']:.1f}", *_ranked(span["probabilities"]))
  if answers:
    screen.print(table)


def _ranked(row: dict[str, float]) -> tuple[str, str, str]:
  best, *others = sorted(row.items(), key=lambda item: -item[1])[:3]
  return escape(best[0]), f"{best[1]:.1%}", escape(", ".join(f"{name} {p:.1%}" for name, p in others))


if __name__ == "__main__":
  run(main)
