"""What comes out of a run: figures of a split, predictions, example clips, result.json."""

import importlib.metadata
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from experiments.assemble import Experiment
from experiments.plan import parameters
from experiments.trained import Trained
from vu_jax.data.loader import eval_batches, load_clip, num_eval_batches
from vu_jax.data.protocol import Eval
from vu_jax.data.source import PreparedSource, Source
from vu_jax.evaluate import evaluate, evaluate_views
from vu_jax.metrics.sums import divide
from vu_jax.train.distributed import is_first
from vu_jax.train.mesh import to_devices

VERSIONED = (
  "vu_jax",
  "jax",
  "flax",
  "optax",
  "orbax-checkpoint",
  "grain",
  "tensorflow-datasets",
  "av",
  "numpy",
)


def score(
  trained: Trained, state: Any, source: Source, views: Eval, on_batch: Callable[[], None] = lambda: None
) -> tuple[dict[str, float], Any, dict[str, np.ndarray]]:
  """One exact pass: the task's summary, its merged sums, and outputs per video in the order of the split.

  With several views all are those of the averages; the summary also has the accuracy of single views.
  """
  experiment = trained.experiment
  batches = eval_batches(source, experiment.clip, experiment.pixels, experiment.eval_loader(), views, experiment.audio)
  place, task = partial(to_devices, trained.mesh), experiment.task
  if views.num_views == 1:
    totals, outputs = evaluate(state, trained.eval_step, batches, place, on_batch)
    return task.summary(totals), totals, outputs
  totals, outputs, single = evaluate_views(
    state, trained.eval_step, batches, place, task.sums, views.num_views, views.average, on_batch
  )
  alone = {f"{k}_one_view": v for k, v in divide(single).items() if k == "top1"}
  return {**task.summary(totals), **alone}, totals, outputs


def finish(
  trained: Trained,
  run_dir: pathlib.Path,
  split: str,
  facts: dict[str, Any],
  screen: Console,
  views: Eval | None = None,
) -> None:
  """Evaluates a split and writes its figures, predictions and example clips; other splits' figures stay.

  Of several processes all evaluate, and the first one writes.

  `views` None takes those of the run's config. Each split's figures carry the protocol that they were made by.
  """
  views = views or trained.experiment.eval
  source = PreparedSource(trained.directory, split)
  with Progress(console=screen, transient=True) as bar:
    task = bar.add_task(f"evaluate on {split}", total=num_eval_batches(source, trained.experiment.eval_loader(), views))
    summary, totals, outputs = score(trained, trained.state, source, views, lambda: bar.advance(task))
  if not is_first():
    return
  probabilities = np.asarray(jax.nn.softmax(outputs["logits"]))
  ids = [source[int(i)]["id"] for i in outputs["index"]]
  write_predictions(run_dir / f"predictions_{split}.jsonl", ids, outputs["label"], probabilities)
  write_examples(run_dir / "examples", source, trained.experiment, ids, outputs["label"], probabilities)
  record = {
    "step": int(trained.state.step),
    "parameters": parameters(trained.state.params),
    "labels": trained.labels,
    split: summary,
    **facts,
  }
  result = read_result(run_dir) | record
  counts = np.asarray(totals["confusion"][0]).astype(int).tolist()
  result["confusion"] = result.get("confusion", {}) | {split: counts}
  weights = "" if trained.state.average is None else ", averaged parameters"
  protocol = views.words(trained.experiment.clip.sampling) + ", newest checkpoint" + weights
  earlier = result.get("protocol", {})
  result["protocol"] = (earlier if isinstance(earlier, dict) else {}) | {split: protocol}
  (run_dir / "result.json").write_text(json.dumps(result, indent=2))


def read_result(run_dir: pathlib.Path) -> dict[str, Any]:
  """What result.json holds so far."""
  path = run_dir / "result.json"
  return json.loads(path.read_text()) if path.exists() else {}


def final_split(splits: Iterable[str], eval_split: str) -> str:
  """The split whose figures are a run's result: test where there is one."""
  return "test" if "test" in splits else eval_split


def write_predictions(path: pathlib.Path, ids: list[str], labels: np.ndarray, probabilities: np.ndarray) -> None:
  """One JSON line per clip: id, label index, probabilities of all classes."""
  with path.open("w") as file:
    for name, label, row in zip(ids, labels, probabilities, strict=True):
      values = [round(float(p), 5) for p in row]
      file.write(json.dumps({"id": name, "label": int(label), "probabilities": values}) + "\n")


def write_examples(
  folder: pathlib.Path,
  source: Source,
  experiment: Experiment,
  ids: list[str],
  labels: np.ndarray,
  probabilities: np.ndarray,
  each: int = 6,
) -> None:
  """Saves the most confidently wrong clips and some right ones as looping images, as the network saw them."""
  folder.mkdir(exist_ok=True)
  guess, sure = probabilities.argmax(1), probabilities.max(1)
  by_confidence = np.argsort(-sure, kind="stable")
  wrong = [int(i) for i in by_confidence if guess[i] != labels[i]][:each]
  right = [int(i) for i in by_confidence if guess[i] == labels[i]]
  right = right[:: max(len(right) // each, 1)][:each]
  records = []
  for number, i in enumerate([*wrong, *right]):
    name = f"{number:03d}.webp"
    video = load_clip(source, experiment.clip, experiment.pixels, i, None)["video"]
    frames = [Image.fromarray(frame) for frame in video]
    frames[0].save(folder / name, save_all=True, append_images=frames[1:], duration=120, loop=0, quality=80)
    row = [round(float(p), 5) for p in probabilities[i]]
    kind = "wrong" if i in wrong else "right"
    records.append({"id": ids[i], "label": int(labels[i]), "probabilities": row, "file": name, "kind": kind})
  (folder / "examples.json").write_text(json.dumps(records, indent=2))


def provenance(mesh: Mesh) -> dict[str, Any]:
  """What made the result: command, versions, device, commit, date."""
  command = ["git", "-C", str(pathlib.Path(__file__).parent), "rev-parse", "HEAD"]
  commit = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
  device = mesh.devices.flat[0]
  return {
    "command": "python -m " + " ".join([f"experiments.{pathlib.Path(sys.argv[0]).stem}", *sys.argv[1:]]),
    "versions": {name: importlib.metadata.version(name) for name in VERSIONED},
    "device": f"{device.platform} ({device.device_kind}) x{mesh.size}",
    "git_commit": commit or "unknown",
    "finished": time.strftime("%Y-%m-%d %H:%M:%S"),
  }
