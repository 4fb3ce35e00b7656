"""Every shipped config builds, and its network can be traced."""

import pathlib

import pytest

from experiments.assemble import assemble
from vu_jax.config import load

CONFIGS = sorted(p for p in pathlib.Path("configs").glob("*.py") if p.stem not in ("common", "__init__"))
NEEDS = {"video_folder": {"data.root": "/nowhere"}}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_config_builds(path: pathlib.Path):
  """Strict construction accepts every value; the model takes the clip (traced under eval_shape)."""
  name = str(load(str(path), {}).data.name)
  experiment = assemble(load(str(path), NEEDS.get(name, {})))
  assert experiment.resolved()["data"]["name"] == name


@pytest.mark.parametrize("path", CONFIGS, ids=lambda p: p.stem)
def test_config_says_what_it_is(path: pathlib.Path):
  """Its docstring says what it is for and how to run it, and `resolved` survives a round trip."""
  name = str(load(str(path), {}).data.name)
  first = assemble(load(str(path), NEEDS.get(name, {}))).resolved()
  assert assemble(first).resolved() == first
  assert f"python -m experiments.launch --config=configs/{path.name}" in path.read_text()
