"""Work on many items side by side, in order, with few of them held at a time."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Generator, Iterable
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def available_cores() -> int:
  """Cores that this process may use; a cluster's job often has fewer than the machine."""
  if hasattr(os, "sched_getaffinity"):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def in_order(
  function: Callable[[Item], Result], items: Iterable[Item], threads: int = 0
) -> Generator[tuple[Item, Result], None, None]:
  """Calls the function in threads (0 = one per core) and gives (item, result) in the order of the items.

  At most two items per thread are under way, so memory stays flat however many there are.
  """
  threads = threads or available_cores()
  pending: collections.deque = collections.deque()
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    try:
      for item in items:
        pending.append((item, pool.submit(function, item)))
        if len(pending) > 2 * threads:
          first, future = pending.popleft()
          yield first, future.result()
      while pending:
        first, future = pending.popleft()
        yield first, future.result()
    finally:
      for _, future in pending:
        future.cancel()
