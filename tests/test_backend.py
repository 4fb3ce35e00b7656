"""How XLA is set up: by flags in the environment, read before the first computation."""

import os

import pytest

from vu_jax import backend

YNN = "--xla_cpu_experimental_ynn_fusion_type"
YNN_VALUE = "-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION"
BARRIERS = "--xla_disable_hlo_passes=cse_barrier_expander"


@pytest.fixture
def measured(monkeypatch):
  monkeypatch.setattr(backend, "_MEASURED", True)
  monkeypatch.setattr(backend, "accelerator_installed", lambda: False)


@pytest.mark.usefixtures("measured")
def test_flags_are_added_to_those_given(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/nowhere")
  backend.fast_cpu()
  assert os.environ["XLA_FLAGS"].split() == ["--xla_dump_to=/nowhere", f"{YNN}={YNN_VALUE}", BARRIERS]


@pytest.mark.usefixtures("measured")
def test_a_flag_that_the_user_gave_stays(monkeypatch):
  monkeypatch.setenv("XLA_FLAGS", f"{YNN}=mine")
  backend.fast_cpu()
  assert os.environ["XLA_FLAGS"] == f"{YNN}=mine {BARRIERS}"


@pytest.mark.usefixtures("measured")
def test_an_accelerator_keeps_its_passes(monkeypatch):
  monkeypatch.setattr(backend, "accelerator_installed", lambda: True)
  monkeypatch.setenv("XLA_FLAGS", "")
  backend.fast_cpu()
  assert os.environ["XLA_FLAGS"] == f"{YNN}={YNN_VALUE}"


def test_other_versions_are_left_alone(monkeypatch):
  monkeypatch.setattr(backend, "_MEASURED", False)
  monkeypatch.setenv("XLA_FLAGS", "")
  backend.fast_cpu()
  assert os.environ["XLA_FLAGS"] == ""
