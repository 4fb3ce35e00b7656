"""One label per clip: softmax cross-entropy on pooled features."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from vu_jax.glossary import Fraction
from vu_jax.layers.drop import Dropout
from vu_jax.metrics import classification
from vu_jax.metrics.sums import Sums, divide, masked

Batch = Mapping[str, Any]
Out = Mapping[str, Array]


class Head(nn.Module):
  """pooled (B D) --dropout--> linear --> logits (B Y), float32."""

  num_classes: int
  dropout_rate: float = 0.0

  @nn.compact
  def __call__(self, features: Mapping[str, Array], batch: Batch, *, train: bool) -> dict[str, Array]:
    del batch  # nothing but the features is needed
    x = Dropout(self.dropout_rate, deterministic=not train)(features["pooled"].astype(jnp.float32))
    # Zeros: at the start the classifier adds no noise of its own to the gradient of the backbone.
    logits = nn.Dense(self.num_classes, kernel_init=nn.initializers.zeros, name="logits")(x)
    return {"logits": logits}


@dataclass(frozen=True, kw_only=True)
class Task:
  """Classification of whole clips.

  Fields:
    num_classes: Y, from the dataset's label names.
    label_smoothing: share of the target spread evenly over all classes (Szegedy et al. 2016, section 7).
    dropout: share of pooled features dropped before the classifier in training.
  """

  takes_soft_targets: ClassVar[bool] = True  # so clips of a batch may be mixed

  num_classes: int
  label_smoothing: Fraction = 0.0
  dropout: Fraction = 0.0

  def head(self) -> nn.Module:
    return Head(self.num_classes, self.dropout)

  def loss(self, out: Out, batch: Batch) -> tuple[Float[Array, " B"], dict[str, Array]]:
    """Cross-entropy per clip [nats], against `target` where clips were mixed, else the label; no further parts."""
    shares = batch["target"] if "target" in batch else jax.nn.one_hot(batch["label"], self.num_classes)
    target = optax.smooth_labels(shares, self.label_smoothing)
    return optax.softmax_cross_entropy(out["logits"], target), {}

  def sums(self, out: Out, batch: Batch) -> Sums:
    """Masked sums: loss (without smoothing), top-1, top-5 and the confusion matrix."""
    logits, label, mask = out["logits"], batch["label"], batch["mask"]
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, label)
    return {
      "loss": masked(nats, mask),
      "top1": masked(classification.in_top_k(logits, label, 1), mask),
      "top5": masked(classification.in_top_k(logits, label, 5), mask),
      "confusion": (classification.confusion(logits, label, mask), mask.sum()),
    }

  def summary(self, totals: Sums) -> dict[str, float]:
    """Figures of a whole split: accuracies and macro averages as fractions, loss in nats."""
    counts = np.asarray(totals["confusion"][0], float)
    return divide(totals) | classification.macro(counts) | {"num_clips": float(totals["loss"][1])}
