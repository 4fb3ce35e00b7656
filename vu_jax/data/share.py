"""Which part of every global batch a host loads."""

from typing import Any

import grain

from vu_jax.glossary import Count, CountOrZero

# Grain counts batches in floats; of sys.maxsize batches of one clip it makes a length that Python refuses.
_ENDLESS = 2**53


class Share(grain.MapDataset):
  """Consecutive clips of every batch, so that the global array, which holds hosts one after the other, has them in
  the order of a single host: what is drawn for the n-th clip (dropout, partners of mixing) is then the same, too.
  """

  def __init__(self, clips: grain.MapDataset, host: CountOrZero, hosts: Count, size: Count):
    """`size`: clips of each host per batch."""
    super().__init__(clips)
    self._host, self._hosts, self._size = host, hosts, size

  def __len__(self) -> int:
    return min(len(self._parent) // self._hosts, _ENDLESS)

  def __getitem__(self, index: Any) -> Any:
    batch, place = divmod(index, self._size)
    return self._parent[(batch * self._hosts + self._host) * self._size + place]
