"""Work on many items side by side, in order, with few of them held at a time."""

import collections
import concurrent.futures
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[tuple[Item, Result]]:
  """Calls the function in one thread per core and gives (item, result) in the order of the items.

  At most two items per thread are under way, so memory stays flat however many there are.
  """
  threads = os.cpu_count() or 1
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
