"""How XLA is set up: by flags in the environment, read before the first computation."""

import os

import pytest

from vu_jax import backend

YNN, PASSES = backend.FLAGS


@pytest.fixture
def measured(monkeypatch):
  monkeypatch.setattr(backend, "_MEASURED", True)


@pytest.mark.usefixtures("measured")
def test_flags_are_added_to_those_given(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/nowhere")
  backend.fast_cpu()
  assert os.environ["XLA_FLAGS"].split() == ["--xla_dump_to=/nowhere", *(f"{n}={v}" for n, v in backend.FLAGS.items())]


@pytest.mark.usefixtures("measured")
def test_a_flag_that_the_user_gave_stays(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", f"{YNN}=mine")
  backend.fast_cpu()
  assert os.environ["XLA_FLAGS"] == f"{YNN}=mine {PASSES}={backend.FLAGS[PASSES]}"


def test_other_versions_are_left_alone(monkeypatch):
  monkeypatch.setattr(backend, "_MEASURED", False)
  monkeypatch.setenv("XLA_FLAGS", "")
  backend.fast_cpu()
  assert os.environ["XLA_FLAGS"] == ""
