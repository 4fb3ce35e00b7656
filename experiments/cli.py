"""What all programs share: arguments, one clear line for bad input, and exit codes."""

import argparse
import errno
import os
import pathlib
import sys
from collections.abc import Callable

from rich.console import Console

from vu_jax.backend import fast_cpu
from vu_jax.build import nearest
from vu_jax.data.prepare import default_data_dir
from vu_jax.errors import UserError
from vu_jax.train.distributed import is_first, membership
from vu_jax.train.signals import EXIT_CODE, Interrupted

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM)
PREFIX = "--config."
PROCESS, COORDINATOR = "VU_JAX_PROCESS", "VU_JAX_COORDINATOR"  # environment variables


def console() -> Console:
  """The terminal, silent in all but the first process of a run; wide enough for one line per record in a file."""
  found, quiet = Console(highlight=False), not is_first()
  return Console(highlight=False, quiet=quiet, width=None if found.is_terminal else 160)


def run(main: Callable[[], None]) -> None:
  """Calls a program; a user's mistake ends it with one line and exit code 2, an interruption with 130.

  So does a disk that is full or may not be written to. A run that was asked to stop, and saved itself, ends with 75.
  """
  fast_cpu()
  with membership():
    _told(main)


def _told(main: Callable[[], None]) -> None:
  try:
    main()
  except UserError as error:
    print("error: " + " ".join(str(error).split()), file=sys.stderr)
    sys.exit(2)
  except OSError as error:
    if error.errno not in _DISK:
      raise
    print(f"error: {error.filename or 'a file'} cannot be written: {error.strerror}", file=sys.stderr)
    sys.exit(2)
  except Interrupted as stopped:
    print(f"stopped at {stopped}; the same command continues", file=sys.stderr)
    sys.exit(EXIT_CODE)
  except KeyboardInterrupt:
    print("interrupted; the same command continues where it stopped", file=sys.stderr)
    sys.exit(130)


class Arguments(argparse.ArgumentParser):
  """argparse whose mistakes are UserErrors, and which passes `--config.KEY=VALUE` through as overrides."""

  def error(self, message: str) -> None:  # type: ignore[override]
    raise UserError(f"{message} (see --help)")

  def add_data_dir(self) -> None:
    text = "where prepared datasets are kept (default: $VU_JAX_DATA, else ~/.cache/vu_jax)"
    self.add_argument("--data_dir", type=pathlib.Path, default=default_data_dir(), help=text)

  def add_processes(self) -> None:
    text = 'I/N = the I-th of N processes that make one run; "auto" = as Slurm, a TPU pod or Kubernetes says'
    self.add_argument("--process", default=os.environ.get(PROCESS, ""), help=f"{text} (default: ${PROCESS})")
    text = f"address of process 0, for --process=I/N (default: ${COORDINATOR})"
    self.add_argument("--coordinator", metavar="HOST:PORT", default=os.environ.get(COORDINATOR, ""), help=text)

  def add_config(self) -> None:
    text = "experiment file, such as configs/motion_convlstm.py; --config.KEY=VALUE overrides one of its values"
    self.add_argument("--config", required=True, metavar="FILE", help=text)

  def read(self) -> tuple[argparse.Namespace, dict[str, str]]:
    """Arguments and overrides from the command line; a program without --config takes no overrides."""
    rest, overrides = split_overrides(sys.argv[1:])
    args, unknown = self.parse_known_args(rest)
    if overrides and "config" not in args:
      raise UserError(f"{PREFIX}{next(iter(overrides))}: a run is used with the config that it was trained with")
    if unknown:
      known = [o for a in self._actions for o in a.option_strings]
      raise UserError(f"unknown argument {unknown[0]}{nearest(unknown[0], known)} (see --help)")
    return args, overrides


def split_overrides(argv: list[str]) -> tuple[list[str], dict[str, str]]:
  """Takes `--config.a.b=v` and `--config.a.b v` out of the arguments."""
  rest, overrides = [], {}
  words = iter(argv)
  for word in words:
    if not word.startswith(PREFIX):
      rest.append(word)
      continue
    key, equals, value = word.removeprefix(PREFIX).partition("=")
    if not equals:
      value = next(words, "--")
      if value.startswith("--"):
        raise UserError(f"{word} has no value: write {word}=VALUE")
    overrides[key] = value
  return rest, overrides
