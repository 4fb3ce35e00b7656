"""The suite "models": its table names what exists, and a small network goes through both passes."""

import pytest
from peers import peer

from experiments.benchmark import measure_row
from experiments.benchmarks.models import suite
from experiments.benchmarks.models.cases import KINDS, ModelCase
from experiments.benchmarks.timing import Options
from experiments.running.assemble import with_preset
from vu_jax.config import find_module

CASES = [case for cases in KINDS.values() for case in cases]
TINY = ModelCase("frame_cnn", "", (2, 16, 16))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_cases_name_presets_that_exist(case: ModelCase):
  """A preset that is missing would be refused here."""
  section = {"preset": case.preset} if case.preset else {}
  with_preset(section, getattr(find_module("model", case.model), "PRESETS", {}))


def test_names_are_unique():
  assert len({case.name for case in CASES}) == len(CASES)


def test_a_small_network_is_measured(monkeypatch):
  """Two rows; training counts three forward passes; nobody else has this network, which the record says."""
  monkeypatch.setattr(suite, "KINDS", {"frame models": (TINY,)})
  forward, train = (measure_row("models", row, 0.01, 1e9, ()) for row in suite.cases(Options()))
  assert (forward["pass"], train["pass"]) == ("forward", "train")
  assert train["gflop"] == pytest.approx(3 * forward["gflop"], abs=2e-4)
  assert forward["ours"] > 0
  assert forward["peak_mib"]["ours"] > 0
  assert forward["absent"] == {"torch": "no peer"}


def test_torch_network_with_our_weights_is_measured(monkeypatch):
  """The peer is built, its weights are carried over, and both give the same logits."""
  peer("torchvision")
  case = ModelCase("resnet", "resnet18", (1, 32, 32), "torchvision", "resnet18")
  monkeypatch.setattr(suite, "KINDS", {"frame models": (case,)})
  forward = measure_row("models", next(iter(suite.cases(Options()))), 0.01, 1e9, ())
  assert forward["absent"] == {}
  assert forward["agrees"]
  assert forward["peers"]["torchvision"] > 0
