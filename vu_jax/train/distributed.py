"""Several processes, on one host or many, as one run: how they find each other, who does what alone, how they end."""

import contextlib
import itertools
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

import jax

from vu_jax.errors import UserError
from vu_jax.train.signals import EXIT_CODE

T = TypeVar("T")
_HEARTBEAT_S = 30  # a process that is silent for so long counts as lost, and ends the others
_WAIT_S = 7 * 24 * 3600  # for others to prepare a dataset
_places = itertools.count()  # all processes meet at the same places in the same order


def connect(process: str, coordinator: str = "") -> None:
  """Makes this process one of several, before JAX touches a device.

  Args:
    process: "I/N", the I-th of N from 0 on; "auto", as Slurm, a TPU pod, Kubernetes or Open MPI says; "" = it is alone.
    coordinator: HOST:PORT of process 0, any free port; with "auto" it is known.

  Raises:
    UserError: a wrong text, no cluster to ask, processes that do not come, or several tasks of Slurm that do not say
      whether they belong together.
  """
  if not process:
    check_alone()
    return
  options: dict[str, object] = {"local_device_ids": whole_node()}
  if process != "auto":
    index, count = parse_process(process)
    if count == 1:
      return
    if not re.fullmatch(r".+:\d+", coordinator):
      raise UserError(f'--coordinator="{coordinator}": must be HOST:PORT of process 0, such as node1:12345')
    options = {"coordinator_address": coordinator, "num_processes": count, "process_id": index}
    options["cluster_detection_method"] = "deactivate"
  jax.config.update("jax_enable_preemption_service", False)  # it would swallow SIGTERM; `signals.py` heeds it
  try:
    jax.distributed.initialize(**options, heartbeat_timeout_seconds=_HEARTBEAT_S)  # type: ignore[arg-type]
  except (ValueError, RuntimeError) as error:
    reason = str(error).strip().splitlines()[0]
    if "coordinator_address" in reason:
      reason = "no Slurm, TPU pod, Kubernetes or Open MPI here"
    raise UserError(f"--process={process}: the processes do not find each other ({reason})") from error


def parse_process(text: str) -> tuple[int, int]:
  """ "1/4" -> (1, 4)."""
  found = re.fullmatch(r"(\d+)/(\d+)", text)
  if not found or int(found[1]) >= int(found[2]):
    raise UserError(f'--process={text}: must be I/N with I from 0 to N - 1, such as 0/2, or "auto"')
  return int(found[1]), int(found[2])


def check_alone() -> None:
  """Raises UserError if Slurm has started this program several times; all would write to the same place."""
  tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")
  if "SLURM_STEP_ID" in os.environ and tasks.isdecimal() and int(tasks) > 1:
    raise UserError(
      f"Slurm has started {tasks} tasks of this program: give --process=auto to make them one run, or --process=0/1 if "
      "each is one of its own"
    )


def whole_node() -> list[int] | None:
  """All GPUs, if Slurm has started one task per node (JAX would give it the first one only); None = JAX decides."""
  gpus = os.environ.get("SLURM_GPUS_ON_NODE", "")
  alone = re.fullmatch(r"1(\(x\d+\))?", os.environ.get("SLURM_STEP_TASKS_PER_NODE", ""))
  return list(range(int(gpus))) if alone and gpus.isdecimal() else None


def is_first() -> bool:
  """Whether this is the process that writes and speaks; touches no device unless there are several."""
  return not jax.distributed.is_initialized() or jax.process_index() == 0


def meet() -> None:
  """Waits until all processes are here; no device takes part."""
  if not jax.distributed.is_initialized():
    return
  from orbax.checkpoint import multihost  # here, because it takes a second to import

  multihost.get_barrier_sync_fn()(key=f"vu_jax_{next(_places)}", timeout_ms=1000 * _WAIT_S)


def in_turn(action: Callable[[], T]) -> T:
  """Process 0 acts first, the others when it is done, and find what it has made."""
  if not is_first():
    meet()
    return action()
  try:
    return action()
  finally:
    meet()


def alone(action: Callable[[], None]) -> None:
  """Process 0 acts, the others wait until it is done."""
  in_turn(lambda: action() if is_first() else None)


@contextlib.contextmanager
def together() -> Iterator[None]:
  """Ends this process at once if another one is lost: everything left to do would wait for it."""
  try:
    yield
  except jax.errors.JaxRuntimeError as error:
    if not jax.distributed.is_initialized() or "RESOURCE_EXHAUSTED" in str(error):
      raise
    reason = str(error).strip().splitlines()[0][:200]
    print(
      f"another process of this run is lost ({reason}); started again, all processes continue from the newest "
      "checkpoint",
      file=sys.stderr,
    )
    end(EXIT_CODE)  # the same command continues


@contextlib.contextmanager
def membership() -> Iterator[None]:
  """Leaves the run at the end of a program; after an error at once, so that the others notice."""
  try:
    with together():
      yield
  except BaseException as error:
    if not jax.distributed.is_initialized():
      raise
    if isinstance(error, SystemExit):
      end(error.code if isinstance(error.code, int) else 1)
    traceback.print_exc()
    end(1)
  if jax.distributed.is_initialized():
    jax.distributed.shutdown()


def end(code: int) -> NoReturn:
  """Without the usual clean-up, which would wait for the others."""
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)
