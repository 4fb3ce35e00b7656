"""TASK: the contract of every task file, and classification by hand."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vu_jax.config import find_module, names
from vu_jax.metrics.sums import merge
from vu_jax.tasks.classify import Task

# Four clips, two classes. The score of class 1 over class 0 is log 3, log 3, 0 and -log 3, so its probability is
# 3/4, 3/4, 1/2 and 1/4; the labels 1, 0, 1, 1 have 3/4, 1/4, 1/2 and 1/4.
LOGITS = jnp.log(jnp.array([[1.0, 3.0], [1.0, 3.0], [1.0, 1.0], [3.0, 1.0]]))
LABEL = jnp.array([1, 0, 1, 1])
LOSS = -np.log([3 / 4, 1 / 4, 1 / 2, 1 / 4])


def labelled(label: jax.Array, mask: list[float]) -> dict[str, jax.Array]:
  return {"label": label, "index": jnp.arange(len(mask)), "mask": jnp.array(mask)}


@pytest.mark.parametrize("name", names("task"))
def test_contract(name: str):
  """A loss per clip, with a gradient for every parameter; sums are pairs; a summary of plain numbers."""
  task = find_module("task", name).Task(num_classes=6)
  key = jax.random.key(0)
  features = {"tokens": jax.random.normal(key, (4, 3, 2, 2, 8)), "pooled": jax.random.normal(key, (4, 8))}
  batch = labelled(jnp.array([0, 5, 2, 1]), [1.0, 1, 1, 0])
  head = task.head()

  @functools.partial(jax.grad, has_aux=True)
  def gradient(params):
    out = head.apply(params, features, batch, train=True, rngs={"dropout": key})
    per_clip, parts = task.loss(out, batch)
    assert per_clip.shape == (4,)
    assert all(part.shape == (4,) for part in parts.values())
    return per_clip.mean(), out

  grads, out = jax.jit(lambda: gradient(head.init(key, features, batch, train=False)))()
  assert all(jnp.isfinite(g).all() and (g != 0).any() for g in jax.tree.leaves(grads))
  sums = task.sums(out, batch)
  assert all(len(pair) == 2 and jnp.ndim(pair[1]) == 0 for pair in sums.values())
  assert float(sums["loss"][1]) == 3  # the real clips
  summary = task.summary(merge([sums, sums]))
  assert summary == pytest.approx(task.summary(sums) | {"num_clips": 6})
  assert all(type(value) is float for value in summary.values())


def test_classification_by_hand():
  """The loss is the surprise at the label; only the first clip is right, as a tie is not."""
  task, batch = Task(num_classes=2), labelled(LABEL, [1.0, 1, 1, 1])
  np.testing.assert_allclose(task.loss({"logits": LOGITS}, batch)[0], LOSS, rtol=1e-6)
  sums = task.sums({"logits": LOGITS}, batch)
  assert float(sums["loss"][0]) == pytest.approx(LOSS.sum())
  assert tuple(map(float, sums["top1"])) == (1.0, 4.0)
  assert tuple(map(float, sums["top5"])) == (4.0, 4.0)
  # The one clip of class 0 is taken for 1; of the three of class 1, one is found; argmax takes the tie for 0.
  np.testing.assert_array_equal(sums["confusion"][0], [[0, 1], [2, 1]])


def test_masked_clips_do_not_count():
  """Sums over a padded batch are those of its real clips alone, even if the padding is not a number."""
  task = Task(num_classes=2)
  logits = LOGITS.at[1].set(jnp.nan)
  padded = task.sums({"logits": logits}, labelled(LABEL, [1.0, 0, 1, 1]))
  keep = jnp.array([0, 2, 3])
  alone = task.sums({"logits": LOGITS[keep]}, labelled(LABEL[keep], [1.0, 1, 1]))
  for name in alone:
    np.testing.assert_allclose(padded[name][0], alone[name][0], rtol=1e-6, err_msg=name)
    assert padded[name][1] == alone[name][1] == 3


def test_label_smoothing_by_hand():
  """With 0.2 the target is (0.9, 0.1): loss = -0.9 log p(label) - 0.1 log p(other). Evaluation does not smooth."""
  task, batch = Task(num_classes=2, label_smoothing=0.2), labelled(LABEL, [1.0, 1, 1, 1])
  loss, _ = task.loss({"logits": LOGITS}, batch)
  assert float(loss[0]) == pytest.approx(-0.9 * math.log(3 / 4) - 0.1 * math.log(1 / 4))
  assert float(task.sums({"logits": LOGITS}, batch)["loss"][0]) == pytest.approx(LOSS.sum())


def test_summary_by_hand():
  """Accuracy 1/4; recalls 0 and 1/3; precisions 0 and 1/2; F1 0 and 2/5."""
  task, batch = Task(num_classes=2), labelled(LABEL, [1.0, 1, 1, 1])
  summary = task.summary(task.sums({"logits": LOGITS}, batch))
  assert summary == pytest.approx(
    {
      "loss": LOSS.mean(),
      "top1": 1 / 4,
      "top5": 1.0,
      "mean_per_class": 1 / 6,
      "recall_macro": 1 / 6,
      "precision_macro": 1 / 4,
      "f1_macro": 1 / 5,
      "num_clips": 4.0,
    }
  )


def test_dropout_is_for_training_only():
  """With dropout, two training passes differ and two evaluations do not."""
  head = Task(num_classes=3, dropout=0.5).head()
  features, key = {"pooled": jnp.ones((2, 64))}, jax.random.key(0)
  params = jax.tree.map(jnp.ones_like, head.init(key, features, {}, train=False))

  def logits(train: bool, seed: int) -> np.ndarray:
    out: Any = head.apply(params, features, {}, train=train, rngs={"dropout": jax.random.key(seed)})
    return np.asarray(out["logits"])

  assert not np.allclose(logits(True, 1), logits(True, 2))
  np.testing.assert_array_equal(logits(False, 1), logits(False, 2))
