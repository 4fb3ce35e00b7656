"""NET: what the backbone sees, streaming, a backbone that is not trained, batch norm that keeps its statistics."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import reduce

from vu_jax.errors import UserError
from vu_jax.glossary import Seen
from vu_jax.layers.norm import batch_norm
from vu_jax.models.conv_lstm import TINY, Model
from vu_jax.net import Net, seen
from vu_jax.tasks.classify import Head


class Normed(nn.Module):
  """Batch norm of the pixels, and their mean."""

  norm_frozen: bool = False

  @nn.compact
  def __call__(self, video, *, train):
    x = batch_norm(train=train, frozen=self.norm_frozen)(name="norm")(video)
    return {"tokens": x, "pooled": reduce(x, "b t h w c -> b c", "mean")}


BATCH = {"video": jax.random.randint(jax.random.key(1), (2, 1, 2, 2, 3), 0, 256).astype(jnp.uint8)}


def after_training(net: Net):
  """(gradient, statistics before, statistics after) of a call in training."""
  variables = net.init(jax.random.key(0), BATCH, train=False)

  def loss(params):
    out, changed = net.apply({**variables, "params": params}, BATCH, train=True, mutable=["batch_stats"])
    return (out["logits"] + out["logits"] ** 2).sum(), changed

  # The classifier starts at zero, which would hide the gradient of the backbone.
  params = jax.tree.map(lambda p: p + 0.1, variables["params"])
  grads, changed = jax.grad(loss, has_aux=True)(params)
  return grads, variables["batch_stats"], changed["batch_stats"]


def test_a_trained_backbone_moves():
  grads, before, after = after_training(Net(Normed(), Head(4)))
  assert (grads["backbone"]["norm"]["bias"] != 0).any()
  assert (before["backbone"]["norm"]["mean"] != after["backbone"]["norm"]["mean"]).any()


def test_a_frozen_backbone_gets_no_gradient_and_keeps_its_statistics():
  """The head is trained on features as evaluation sees them."""
  grads, before, after = after_training(Net(Normed(), Head(4), frozen=True))
  assert all((g == 0).all() for g in jax.tree.leaves(grads["backbone"]))
  assert all((g != 0).any() for g in jax.tree.leaves(grads["head"]))
  jax.tree.map(np.testing.assert_array_equal, before, after)


def test_frozen_norms_learn_but_keep_their_statistics():
  grads, before, after = after_training(Net(Normed(norm_frozen=True), Head(4)))
  assert (grads["backbone"]["norm"]["scale"] != 0).any()
  jax.tree.map(np.testing.assert_array_equal, before, after)


def test_batch_norm_by_hand():
  """Values 1 and 3: mean 2, variance 1; the stored mean moves a tenth of the way from 0, the variance stays at 1."""
  norm = batch_norm(train=True, epsilon=0.0)()
  y, changed = norm.init_with_output(jax.random.key(0), jnp.array([[1.0], [3.0]]))
  np.testing.assert_allclose(y, [[-1.0], [1.0]])
  moved = norm.apply(changed, jnp.array([[1.0], [3.0]]), mutable=["batch_stats"])[1]["batch_stats"]
  np.testing.assert_allclose(moved["mean"], [0.2])
  np.testing.assert_allclose(moved["var"], [1.0])


def frames(*values: float) -> jax.Array:
  """A clip of one channel on one position."""
  return jnp.asarray(values, jnp.float32).reshape(1, -1, 1, 1, 1)


def test_differences_by_hand():
  """Frames 1, 3, 7: differences 0, 2, 4, or 1 - 5 = -4 at first when 5 was before; "both" puts them behind."""
  clip = frames(1, 3, 7)
  change, last = seen("differences", clip, None)
  np.testing.assert_array_equal(change, frames(0, 2, 4))
  np.testing.assert_array_equal(last, frames(7))
  both, _ = seen("both", clip, frames(5))
  np.testing.assert_array_equal(both[0, :, 0, 0], [[1, -4], [3, 2], [7, 4]])
  same, nothing = seen("frames", clip, None)
  np.testing.assert_array_equal(same, clip)
  assert nothing is None


def test_differences_need_two_frames():
  """A clip of one frame has no motion; the message says what is needed."""
  net = Net(Normed(), Head(4), seen="differences")
  with pytest.raises(UserError, match=r"config.pixels.seen = .differences. needs clips of at least 2 frames, not 1"):
    jax.eval_shape(lambda b: net.init(jax.random.key(0), b, train=False), BATCH)


@pytest.mark.parametrize("what", ["frames", "differences", "both"])
def test_streaming_equals_the_clip(what: Seen):
  """Frame by frame, the last answer is that of the clip in one call; differences reach over the calls."""
  net = Net(Model(**TINY), Head(4), seen=what)
  video = jax.random.randint(jax.random.key(2), (2, 3, 8, 8, 3), 0, 256).astype(jnp.uint8)
  variables = net.init(jax.random.key(0), {"video": video}, train=False)
  variables = jax.tree.map(lambda p: p + 0.1, variables)  # the classifier starts at zero

  @jax.jit
  def stream(state, frame):
    return net.apply(variables, state, {"video": frame}, method="stream")

  state, out = stream(net.initial_state(2, 8, 8), video[:, :1])
  for t in (1, 2):
    state, out = stream(state, video[:, t : t + 1])
  whole = jax.jit(lambda video: net.apply(variables, {"video": video}, train=False))(video)
  np.testing.assert_allclose(out["logits"], whole["logits"], rtol=1e-4, atol=1e-5)
  assert np.abs(whole["logits"]).max() > 0
