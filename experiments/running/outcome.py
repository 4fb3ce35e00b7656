"""What comes out of a run: predictions, example clips, result.json."""

import importlib.metadata
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from PIL import Image
from rich.console import Console

from experiments.running.announce import parameters
from experiments.running.assemble import Experiment
from experiments.running.ready import Ready
from experiments.running.score import Scored, score, shown
from experiments.running.trained import Trained
from vu_jax.data.loader import load_clip
from vu_jax.data.protocol import Eval
from vu_jax.data.quarantine import read_quarantine
from vu_jax.data.source import PreparedSource, Source
from vu_jax.disk import write_text
from vu_jax.glossary import Count
from vu_jax.train.distributed import is_first

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
  found = shown(screen, trained, split, views, lambda source, on: score(trained, trained.state, source, views, on))
  if is_first():
    write_outcome(trained, run_dir, split, found, views, facts)


def write_outcome(
  trained: Trained, run_dir: pathlib.Path, split: str, found: Scored, views: Eval, facts: Mapping[str, Any]
) -> None:
  """Writes what an evaluation of a split has found, beside `facts` of the run; other splits' figures stay."""
  summary, totals, outputs = found
  source = PreparedSource(trained.directory, split)
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
  write_text(run_dir / "result.json", json.dumps(result, indent=2))


def facts_of_run(
  ready: Ready, workdir: pathlib.Path, seconds: float, quarantine: pathlib.Path, population: Count = 1
) -> dict[str, Any]:
  """What result.json holds beside figures: cost, place, provenance.

  Args:
    seconds: of the whole run, or its share of those of a population. population: members at the end.
    quarantine: file that names clips which could not be read.
  """
  unread = len(read_quarantine(quarantine))
  return {
    "name": workdir.resolve().name,
    "train_seconds": round(seconds, 1),
    "peak_mib": round(ready.memory.peak / 2**20, 1),
    "population": population,
    "gflop_per_clip": round(ready.flops / 1e9, 4),
    "provenance": provenance(ready.mesh),
    **({"unreadable_clips": unread} if unread else {}),
  }


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
  write_text(folder / "examples.json", json.dumps(records, indent=2))


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
