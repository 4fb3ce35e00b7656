"""Further datasets to train on, beside the one that a run is evaluated on: the section "extra" of a config."""

from dataclasses import dataclass
from typing import Annotated, Any

from vu_jax.build import Section, build, check
from vu_jax.config import find_module, plain
from vu_jax.data.loader import Loader
from vu_jax.data.order import block_counts
from vu_jax.errors import UserError
from vu_jax.glossary import Range

Weight = Annotated[float, Range(low=0.001, high=1000)]


@dataclass(frozen=True)
class Extra:
  """A further dataset to train on: the file of its builder, its options, and how often it is drawn.

  weight: clips of it per clip of `config.data`.
  """

  name: str
  options: Any
  weight: float

  def resolved(self) -> dict[str, Any]:
    return {"name": self.name, "weight": self.weight, **plain(self.options)}


def extra_datasets(section: Section, loader: Loader) -> dict[str, Extra]:
  """The section "extra" of a config: for each dataset of one's own naming its `name`, `weight` and options.

  Raises:
    UserError: a mistake in a section, or an order that mixtures do not have.
  """
  found = {}
  for key, about in section.items():
    where = f"config.extra.{key}"
    if not hasattr(about, "items") or not isinstance(about.get("name"), str):
      raise UserError(f'{where}: must be a section such as dict(name="video_folder", weight=0.5, root="...")')
    name, weight = str(about["name"]), check(about.get("weight", 1.0), Weight, f"{where}.weight")
    options = {k: v for k, v in about.items() if k != "weight"}
    found[str(key)] = Extra(name, build(find_module("data", name).Options, options, where), weight)
  if found and loader.needs_labels:
    raise UserError(
      "config.extra: datasets are mixed by their weights; leave out loader.order, subset_per_class and subset_frac"
    )
  block_counts([1.0, *(e.weight for e in found.values())])
  return found
