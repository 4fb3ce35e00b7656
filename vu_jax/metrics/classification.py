"""Classification: top-k hits, the confusion matrix, and what follows from it."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


def in_top_k(logits: Float[Array, "B Y"], label: Int[Array, " B"], k: int) -> Bool[Array, " B"]:
  """Whether fewer than k classes score at least as high as the label.

  Ties count against the label, so equal scores for all classes are wrong, not right; so is a nan.
  """
  own = jnp.take_along_axis(logits, label[:, None], axis=1)
  others = jnp.sum(logits >= own, axis=1) - 1
  return (others < k) & jnp.isfinite(own[:, 0])


def confusion(logits: Float[Array, "B Y"], label: Int[Array, " B"], mask: Float[Array, " B"]) -> Float[Array, "Y Y"]:
  """Counts of real clips: row = true class, column = predicted class."""
  classes = logits.shape[1]
  true, predicted = jax.nn.one_hot(label, classes), jax.nn.one_hot(logits.argmax(1), classes)
  return jnp.einsum("bi,bj,b->ij", true, predicted, mask)


def macro(counts: Float[np.ndarray, "Y Y"]) -> dict[str, float]:
  """Unweighted means over the classes that occur, as fractions.

  recall = correct / clips of the class, precision = correct / predictions of the class (0 where there are none),
  F1 = their harmonic mean per class. A class without clips in the split is left out of all three.
  """
  correct, support, predicted = np.diag(counts), counts.sum(1), counts.sum(0)
  present = support > 0
  recall = _ratio(correct, support)
  precision = _ratio(correct, predicted)
  f1 = _ratio(2 * precision * recall, precision + recall)
  names = ("mean_per_class", "precision_macro", "recall_macro", "f1_macro")
  values = (recall, precision, recall, f1)
  return {n: float(v[present].mean()) if present.any() else float("nan") for n, v in zip(names, values, strict=True)}


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
  return np.divide(a, b, out=np.zeros_like(a, dtype=float), where=b > 0)
