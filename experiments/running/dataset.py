"""The prepared dataset of an experiment, built where it is missing."""

import pathlib
from typing import Any

from rich.console import Console

from experiments.progress import progress_bar
from vu_jax.data.preparation import Say
from vu_jax.data.prepare import prepare, read_facts


def prepared(
  name: str, options: Any, data_dir: pathlib.Path, screen: Console, take_over: bool = False
) -> tuple[pathlib.Path, dict[str, Any]]:
  """The prepared folder and its facts, built now with a progress bar if it is not there; see `prepare`."""
  with progress_bar(screen, "prepare", "clips") as progress:
    directory = prepare(name, options, data_dir, progress, saying(screen), take_over)
  return directory, read_facts(directory)


def saying(screen: Console) -> Say:
  return lambda text: screen.print(text, markup=False, soft_wrap=True)
