"""The other libraries that results are compared with; none is needed to use the project."""

import importlib
import os
from typing import Any

import pytest


def peer(name: str) -> Any:
  """The module of a peer; the test skips where it is not installed, and fails there if VU_JAX_PEERS=required."""
  try:
    _declare_operators()
    return importlib.import_module(name)
  except ImportError:
    (pytest.fail if os.environ.get("VU_JAX_PEERS") == "required" else pytest.skip)(f"needs {name}")


def _declare_operators() -> None:
  """torchvision without its compiled part imports once the operators that it registers fakes for are declared."""
  torch = importlib.import_module("torch")
  for operator in (
    "nms(Tensor boxes, Tensor scores, float threshold) -> Tensor",
    "qnms(Tensor a, Tensor b, float c) -> Tensor",
  ):
    if not hasattr(torch.ops.torchvision, operator.partition("(")[0]):
      _LIBRARIES.append(torch.library.Library("torchvision", "FRAGMENT"))
      _LIBRARIES[-1].define(operator)


_LIBRARIES: list[Any] = []  # a library's operators live as long as it does
