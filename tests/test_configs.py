"""Every shipped config builds, and its network can be traced."""

import pathlib
import re
from unittest import mock

import pytest

from experiments.running.assemble import assemble
from vu_jax.config import load

CONFIGS = sorted(p for p in pathlib.Path("configs").glob("*.py") if p.stem not in ("common", "__init__"))
NEEDS = {"video_folder": {"data.root": "/nowhere"}}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_config_builds(path: pathlib.Path):
  """Strict construction accepts every value, the model takes the clip (traced), and `resolved` says all there is."""
  name = str(load(str(path), {}).data.name)
  experiment = assemble(load(str(path), NEEDS.get(name, {})))
  resolved = experiment.resolved()
  assert resolved["data"]["name"] == name
  with mock.patch("experiments.running.assemble.check_shapes"):  # the shapes are those of the first time
    assert assemble(resolved).resolved() == resolved


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_config_says_how_to_run_it(path: pathlib.Path):
  """Its docstring has the command."""
  command = rf"python -m experiments\.(launch|ablate|sweep) --config=configs/{path.name}"
  assert re.search(command, path.read_text())
