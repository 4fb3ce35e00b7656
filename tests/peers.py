"""The other libraries that results are compared with; none is needed to use the project."""

import importlib
import os
from typing import Any

import pytest

from experiments.benchmarks.models.torch_models import declare_operators


def peer(name: str) -> Any:
  """The module of a peer; the test skips where it is not installed, and fails there if VU_JAX_PEERS=required."""
  try:
    declare_operators()
    return importlib.import_module(name)
  except ImportError:
    (pytest.fail if os.environ.get("VU_JAX_PEERS") == "required" else pytest.skip)(f"needs {name}")
