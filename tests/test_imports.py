"""Who imports whom, and that importing does nothing else."""

import ast
import pathlib
import subprocess
import sys

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "vu_jax"
EVERYBODY = {"glossary", "errors", "disk", "hosts"}
# Part of the package -> the only other parts that it may import.
MAY_IMPORT = {
  "errors": set(),
  "glossary": set(),
  "disk": set(),
  "hosts": set(),
  "backend": set(),
  "build": set(),
  "config": {"build"},
  "layers": set(),
  "metrics": set(),
  "models": {"layers"},
  "tasks": {"metrics", "layers"},
  "data": {"config", "build"},
  "net": set(),
  "checkpoint": {"config"},
  "train": {"backend", "metrics", "checkpoint"},
  "evaluate": {"metrics"},
}
# What the parts that are not listed above (the ones that use a trained model) must leave to the programs.
MUST_NOT_IMPORT = {"report": {"data", "models", "tasks", "train"}}
HEAVY = ("tensorflow", "torch", "transformers", "matplotlib.pyplot", "optuna", "submitit", "wandb", "pandas")

# Prints what importing the package alone loads, then what importing all of it does.
IMPORT_ALL = f"""
import importlib, pkgutil, sys
before = set(sys.modules)
import vu_jax
print("alone:", *sorted(set(sys.modules) - before - {{"vu_jax"}}))
for found in pkgutil.walk_packages(vu_jax.__path__, "vu_jax."):
  importlib.import_module(found.name)
from jax._src import xla_bridge
print("backends:", *xla_bridge._backends)
print("heavy:", *(name for name in {HEAVY} if name in sys.modules))
"""


def part_of(file: pathlib.Path) -> str:
  return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(file: pathlib.Path) -> set[str]:
  """Dotted names of all modules that a file imports, inside functions too."""
  found = set()
  for node in ast.walk(ast.parse(file.read_text())):
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, f"{file}: import by the full name"
      # `from vu_jax import x` imports vu_jax.x
      found |= {f"{node.module}.{alias.name}" for alias in node.names} | {str(node.module)}
  return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=[str(f.relative_to(PACKAGE)) for f in FILES])
def test_imports_point_one_way(file: pathlib.Path):
  """Models see layers only, tasks metrics and layers, training neither data nor models nor tasks, and so on."""
  own, names = part_of(file), imported(file)
  assert not {n.split(".")[0] for n in names} & {"configs", "experiments", "tests"}
  parts = {name.split(".")[1] for name in names if name.startswith("vu_jax.")} - {own}
  if own == "__init__":
    assert not parts
  elif own in MAY_IMPORT:
    assert parts <= MAY_IMPORT[own] | EVERYBODY
  else:
    assert not parts & MUST_NOT_IMPORT.get(own, set())


def test_importing_only_defines_names():
  """No device is touched and nothing optional is loaded; the package alone loads nothing at all."""
  run = subprocess.run(
    [sys.executable, "-c", IMPORT_ALL], cwd=PACKAGE.parent, capture_output=True, text=True, check=False
  )
  assert run.returncode == 0, run.stderr
  assert run.stdout.splitlines() == ["alone:", "backends:", "heavy:"], run.stdout
