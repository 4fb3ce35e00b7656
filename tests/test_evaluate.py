"""EVAL: averages over views by hand, and the same figures however the batches fall."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vu_jax.data.protocol import Eval
from vu_jax.errors import UserError
from vu_jax.evaluate import averaged, evaluate, evaluate_views
from vu_jax.tasks.classify import Task

VIDEOS, VIEWS, CLASSES = 7, 6, 5
TASK = Task(num_classes=CLASSES)
LOGITS = np.random.default_rng(0).normal(0, 3, (VIDEOS, VIEWS, CLASSES)).astype(np.float32)
LABELS = np.random.default_rng(1).integers(0, CLASSES, VIDEOS).astype(np.int32)


def to_devices(batch):
  return jax.tree.map(jnp.asarray, batch)


def step(state, batch):
  """A network that knows the answers: a view's logits are looked up; padding gets nonsense.

  In numpy, as JAX would compile anew for each of the many shapes.
  """
  del state
  host = jax.tree.map(np.asarray, batch)
  logits = np.where(host["mask"][:, None] > 0, LOGITS[host["index"], host["view"]], np.float32(1e6))
  return sums({"logits": logits}, host), {"logits": logits}


def sums(out, batch):
  """Top-1 over real clips."""
  right = np.asarray(out["logits"]).argmax(-1) == np.asarray(batch["label"])
  mask = np.asarray(batch["mask"])
  return {"top1": ((right * mask).sum(), mask.sum())}


def batches_of(size: int, order: np.ndarray) -> list[dict[str, np.ndarray]]:
  """All views in the given order, in batches, the last one padded."""
  padded = -(-len(order) // size) * size
  place = np.pad(order, (0, padded - len(order)))
  mask = (np.arange(padded) < len(order)).astype(np.float32)
  index = (place // VIEWS).astype(np.int32)
  whole = {"index": index, "view": (place % VIEWS).astype(np.int32), "label": LABELS[index], "mask": mask}
  return [{k: v[i : i + size] for k, v in whole.items()} for i in range(0, padded, size)]


def results(size: int, order: np.ndarray, average: str, figures=sums):
  given = batches_of(size, order)
  return evaluate_views(None, step, given, to_devices, figures, VIEWS, average)


def test_averages_by_hand():
  """Probabilities 0.8 and 0.4 average to 0.6; logits ln 4 and ln 2/3 to their mean; a sure view stays finite."""
  views = [np.log(np.array([0.8, 0.2], np.float32)), np.log(np.array([0.4, 0.6], np.float32)) + 7]
  np.testing.assert_allclose(np.exp(averaged(views, "probabilities")), [0.6, 0.4], rtol=1e-6)
  np.testing.assert_allclose(averaged(views, "logits"), np.mean(views, 0), rtol=1e-6)
  sure = [np.array([0.0, 2000.0], np.float32), np.array([0.0, 2000.0], np.float32)]
  np.testing.assert_allclose(averaged(sure, "probabilities"), [-2000.0, 0.0])


@pytest.mark.parametrize("average", ["probabilities", "logits"])
def test_figures_are_those_of_the_averages(average: str):
  """Top-1 and loss of the averaged answers, and of the single views beside them, computed plainly."""
  totals, found, single = results(4, np.arange(VIDEOS * VIEWS), average, TASK.sums)
  probabilities = np.exp(LOGITS - LOGITS.max(-1, keepdims=True))
  probabilities /= probabilities.sum(-1, keepdims=True)
  scores = probabilities.mean(1) if average == "probabilities" else LOGITS.mean(1)
  right = scores.argmax(-1) == LABELS
  assert totals["top1"] == (right.sum(), VIDEOS)
  assert TASK.summary(totals)["num_clips"] == VIDEOS
  assert single["top1"] == ((LOGITS.argmax(-1) == LABELS[:, None]).sum(), VIDEOS * VIEWS)
  assert found["index"].tolist() == list(range(VIDEOS))
  assert found["label"].tolist() == LABELS.tolist()
  if average == "probabilities":
    np.testing.assert_allclose(np.exp(found["logits"]), scores, rtol=1e-5)
    np.testing.assert_allclose(totals["loss"][0], -np.log(scores[range(VIDEOS), LABELS]).sum(), rtol=1e-5)


@given(st.integers(1, 50), st.permutations(range(VIDEOS * VIEWS)), st.sampled_from(["probabilities", "logits"]))
def test_batches_do_not_matter(size: int, order: list[int], average: str):
  """Any batch size, and views in any order, as many hosts give them: the same bits."""
  totals, found, _ = results(4, np.arange(VIDEOS * VIEWS), average)
  others, again, _ = results(size, np.array(order), average)
  for key in found:
    np.testing.assert_array_equal(found[key], again[key])
  for key in totals:
    np.testing.assert_array_equal(totals[key][0], others[key][0])


def test_one_view_is_a_plain_evaluation():
  """With V = 1 both ways give the same figures."""
  one = batches_of(3, np.arange(VIDEOS) * VIEWS)
  plain, out = evaluate(None, step, one, to_devices)
  totals, found, _ = evaluate_views(None, step, one, to_devices, sums, 1, "logits")
  assert plain == totals
  np.testing.assert_array_equal(out["logits"], found["logits"])


def test_views_that_cannot_be_averaged():
  """A task without logits is refused in one line; a view that never came is a defect."""
  given = batches_of(4, np.arange(VIDEOS * VIEWS))
  silent = lambda state, batch: (step(state, batch)[0], {"frames": batch["index"]})  # noqa: E731
  with pytest.raises(UserError, match=r"config\.eval: this task has no logits"):
    evaluate_views(None, silent, given, to_devices, sums, VIEWS, "logits")
  with pytest.raises(RuntimeError, match="1 videos lack"):
    evaluate_views(None, step, batches_of(4, np.arange(VIEWS - 1)), to_devices, sums, VIEWS, "logits")


def test_a_protocol_by_hand():
  """10x3 views: view 4 is the second clip, at the middle of the longer side; one view needs no average."""
  views = Eval(clips=10, crops=3)
  assert (views.num_views, views.clip(4), views.place(4, 90, 160)) == (30, (1, 10), (0.5, 0.5))
  assert [views.place(v, 90, 160) for v in (0, 2)] == [(0.5, 0.0), (0.5, 1.0)]
  assert [views.place(v, 160, 90) for v in (0, 2)] == [(0.0, 0.5), (1.0, 0.5)]
  assert views.words("dense") == "10x3 views, probabilities averaged, dense clips"
  assert Eval().words("dense") == "one dense clip per video, in the middle, centre crop"
