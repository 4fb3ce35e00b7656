"""MIX: partners, weights and soft targets by hand; the step with them, and without them as it was."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_step import TASK, init, make_batch, make_net

from experiments.running.assemble import altered, assemble
from vu_jax.config import load
from vu_jax.data.augmentation.augment import Augment
from vu_jax.errors import UserError
from vu_jax.tasks.classify import Task
from vu_jax.train.mix import Mix, boxes, mixed, partners
from vu_jax.train.step import train_step

run_mixed = jax.jit(mixed, static_argnums=2)


def plain_batch(clips: int, padding: int = 0, shape: tuple[int, ...] = (4, 8, 10)) -> dict[str, jax.Array]:
  """Clip b shows 10 b everywhere and has label b; the last ones are padding that shows 255."""
  values = np.minimum(10 * np.arange(clips), 200)
  values[clips - padding :] = 255
  video = np.broadcast_to(values[:, None, None, None, None], (clips, *shape, 3)).astype(np.uint8)
  batch = {
    "video": video,
    "label": np.arange(clips, dtype=np.int32),
    "index": np.arange(clips, dtype=np.int32),
    "mask": (np.arange(clips) < clips - padding).astype(np.float32),
  }
  return jax.tree.map(jnp.asarray, batch)


@pytest.mark.parametrize("real", [0, 1, 2, 3, 7, 8])
def test_partners_are_a_ring_of_real_clips(real: int):
  """Every real clip is somebody's partner once and nobody's own; padding stays with itself; draws differ."""
  mask = jnp.asarray(np.random.default_rng(real).permutation(np.arange(8) < real), jnp.float32)
  found = jax.vmap(lambda key: partners(key, mask))(jax.random.split(jax.random.key(real), 50))
  assert (np.sort(found, axis=1) == np.arange(8)).all()
  own = np.asarray(found == jnp.arange(8))
  assert (own[:, np.asarray(mask) == 0]).all()
  assert own[:, np.asarray(mask) == 1].any() == (real == 1)
  assert (np.asarray(mask)[np.asarray(found)] == np.asarray(mask)).all()
  assert (len(np.unique(found, axis=0)) > 1) == (real > 2)


def test_mixup_by_hand():
  """A clip of value a mixed with one of b in the share s shows s a + (1 - s) b in every pixel, rounded."""
  batch = plain_batch(8)
  seen = run_mixed(jax.random.key(0), batch, Mix(8, mixup_alpha=1.0))
  target, video = np.asarray(seen["target"]), np.asarray(seen["video"])
  np.testing.assert_allclose(target.sum(1), 1, rtol=1e-6)
  assert ((target > 0).sum(1) == 2).all()
  want = target @ (10.0 * np.arange(8))
  np.testing.assert_allclose(video, np.broadcast_to(want[:, None, None, None, None], video.shape), atol=0.501)
  assert video.dtype == np.uint8
  for key in ("label", "index", "mask"):
    np.testing.assert_array_equal(seen[key], batch[key])


@pytest.mark.parametrize(("region", "axes"), [("space", (2, 3)), ("time", (1,)), ("space_time", (1, 2, 3))])
def test_cutmix_by_hand(region: str, axes: tuple[int, ...]):
  """Each value is one of the two clips'; the target is the share of pixels; the box is one block along its axes."""
  batch = plain_batch(16, shape=(6, 8, 10))
  seen = run_mixed(jax.random.key(3), batch, Mix(16, cutmix_alpha=1.0, cutmix_region=region))
  video, target = np.asarray(seen["video"])[..., 0], np.asarray(seen["target"])
  for b in range(16):
    foreign = video[b] != min(10 * b, 200)
    assert target[b, b] == pytest.approx(1 - foreign.mean(), abs=1e-6)
    inside = np.argwhere(foreign)
    if len(inside):
      extent = inside.max(0) - inside.min(0) + 1
      assert extent.prod() == len(inside)  # full block
      assert all(extent[a - 1] == video.shape[a] for a in (1, 2, 3) if a not in axes)
      partner = int(np.argmax(np.where(np.arange(16) == b, 0, target[b])))
      assert (video[b][foreign] == 10 * partner).all()
  assert len({round(float(t), 6) for t in target[np.arange(16), np.arange(16)]}) > 4


def test_shares_follow_beta():
  """Beta(1, 1) is uniform: mean 1/2, variance 1/12; Beta(0.2, 0.2) has variance 1/5.6, of 4000 clips."""
  batch = plain_batch(4000, shape=(1, 1, 1))
  batch["label"] = jnp.arange(4000) % 2  # ring neighbours often share a label, so read the shares off floats
  batch["video"] = jnp.asarray(np.random.default_rng(0).permutation(4000), jnp.float32).reshape(-1, 1, 1, 1, 1)
  for alpha, variance in ((1.0, 1 / 12), (0.2, 1 / 5.6)):
    mix, key = Mix(2, mixup_alpha=alpha), jax.random.key(5)
    seen = np.asarray(run_mixed(key, batch, mix)["video"]).ravel()
    other = np.asarray(batch["video"]).ravel()[np.asarray(partners(jax.random.split(key)[0], batch["mask"]))]
    share = (seen - other) / (np.asarray(batch["video"]).ravel() - other)
    assert abs(share.mean() - 0.5) < 5 * math.sqrt(variance / 4000)
    assert share.var() == pytest.approx(variance, rel=0.06)


def test_box_sizes_follow_beta():
  """Uncut, a box of Beta(1, 1) covers half on average; the cut at the borders leaves less, and never more than all."""
  box = np.asarray(boxes(jax.random.key(1), (3000, 4, 20, 20, 3), 1.0, "space")).mean((1, 2, 3, 4))
  # A side of share a, centred anywhere, keeps a - a^2 / 4 of the axis on average; a^2 is uniform on 0..1, and the mean
  # of a^2 (1 - a / 4)^2 is 1/2 - 1/5 + 1/48 = 0.3208. Whole pixels make it a little less.
  assert box.mean() == pytest.approx(0.3208, abs=0.03)
  assert (box.min(), box.max() <= 1) == (0, True)


def test_padding_is_never_mixed():
  """Padding shows 255 and keeps it; no real clip gets brighter than the brightest real one."""
  batch = plain_batch(8, padding=3)
  for seed in range(20):
    seen = run_mixed(jax.random.key(seed), batch, Mix(8, 1.0, 1.0, "space_time"))
    assert (np.asarray(seen["video"])[5:] == 255).all()
    assert np.asarray(seen["video"])[:5].max() <= 40
    np.testing.assert_allclose(np.asarray(seen["target"])[:5, :5].sum(1), 1, rtol=1e-6)
    np.testing.assert_array_equal(np.asarray(seen["target"])[5:], np.eye(8)[5:])


def test_both_and_some():
  """With both on, half of the clips have boxes; with mix_frac 1/4, three quarters of 400 stay as they are."""
  batch = plain_batch(400, shape=(1, 16, 16))
  batch["video"] = (batch["video"][:, :1, :1, :1] * 0 + jnp.arange(400)[:, None, None, None, None]).astype(jnp.float32)
  batch["video"] = jnp.broadcast_to(batch["video"], (400, 1, 16, 16, 3))
  seen = np.asarray(run_mixed(jax.random.key(0), batch, Mix(400, 1.0, 1.0))["video"])
  split = (seen != seen[:, :1, :1, :1]).any((1, 2, 3, 4))
  # Some boxes have no size, or cover everything, and look plain.
  assert 150 < split.sum() < 200 + 5 * 10
  kept = run_mixed(jax.random.key(0), batch, Mix(400, mixup_alpha=1.0, mix_frac=0.25))
  own = np.asarray(kept["target"])[np.arange(400), np.arange(400)]
  assert abs((own == 1).sum() - 300) < 5 * 8.7


def test_loss_takes_shares():
  """-0.7 log p0 - 0.3 log p1; smoothing of 0.2 makes the shares 0.8 x share + 0.1; sums keep the label."""
  logits = jnp.log(jnp.array([[0.2, 0.8]]))
  batch = {"label": jnp.array([0]), "mask": jnp.ones(1), "index": jnp.array([0]), "target": jnp.array([[0.7, 0.3]])}
  loss, _ = Task(num_classes=2).loss({"logits": logits}, batch)
  assert float(loss[0]) == pytest.approx(-0.7 * math.log(0.2) - 0.3 * math.log(0.8))
  loss, _ = Task(num_classes=2, label_smoothing=0.2).loss({"logits": logits}, batch)
  assert float(loss[0]) == pytest.approx(-0.66 * math.log(0.2) - 0.34 * math.log(0.8))
  sums = Task(num_classes=2).sums({"logits": logits}, batch)
  assert float(sums["loss"][0]) == pytest.approx(-math.log(0.2))
  assert float(sums["top1"][0]) == 0


def test_the_step_mixes_with_its_own_key():
  """The same state and batch give the same update, and another step another one; hard labels stay in the metrics."""
  net, tx, batch = make_net(), optax.sgd(0.1), make_batch()
  mixing = jax.jit(partial(train_step, net, TASK, tx, alter=partial(altered, None, Mix(4, mixup_alpha=1.0))))
  state = init(net, tx, batch, seed=0)
  once, metrics = mixing(state, batch)
  again, _ = mixing(state, batch)
  later, _ = mixing(state.replace(step=state.step + 1), batch)
  same = jax.tree.map(lambda a, b: bool((a == b).all()), once.params, again.params)
  assert all(jax.tree.leaves(same))
  assert not all(jax.tree.leaves(jax.tree.map(lambda a, b: bool((a == b).all()), once.params, later.params)))
  assert float(metrics["loss"][0]) == pytest.approx(4 * math.log(4))  # the classifier starts at zero
  assert float(metrics["top1"][1]) == 4


def test_without_alphas_the_step_is_what_it_was():
  """Default and zero alphas put nothing at all into the program; any alpha does."""
  path = "configs/motion_convlstm.py"
  assert assemble(load(path, {})).alter() is None
  assert assemble(load(path, {"augment.mix_frac": "0", "augment.mixup_alpha": "1"})).alter() is None
  assert assemble(load(path, {"augment.brightness": "0.5"})).alter() is None
  for key in ("augment.mixup_alpha", "augment.cutmix_alpha"):
    assert assemble(load(path, {key: "0.2"})).alter() is not None
  colours = {"augment.brightness": "0.5", "augment.colour_on": "device"}
  assert assemble(load(path, colours)).alter() is not None


def test_tasks_without_soft_targets_refuse(monkeypatch: pytest.MonkeyPatch):
  """Mixed videos with hard labels would train on nonsense."""
  monkeypatch.setattr(Task, "takes_soft_targets", False)
  with pytest.raises(UserError, match=r"config\.augment\.cutmix_alpha: the loss of task classify"):
    assemble(load("configs/motion_convlstm.py", {"augment.cutmix_alpha": "1.0"}))


def test_colours_and_mixing_together():
  """Both on the device: type and shape stay, rows of the target sum to one."""
  batch = plain_batch(4)
  colours = Augment(brightness=0.3, blur_frac=0.5, colour_on="device")
  seen = jax.jit(partial(altered, colours, Mix(4, 1.0, 1.0)))(jax.random.key(0), batch)
  assert (seen["video"].shape, seen["video"].dtype) == (batch["video"].shape, jnp.uint8)
  np.testing.assert_allclose(seen["target"].sum(1), 1, rtol=1e-6)
