"""Populations: every member gets what it would get alone, whoever else is trained beside it."""

import dataclasses
import importlib
import pathlib
import sys
import types
from functools import cache
from typing import Any, get_args

import flax.linen as nn
import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from einops import reduce

from experiments.groups.members import MAY_VARY, population_of, program, together, values_of
from experiments.running.assemble import Experiment, assemble
from vu_jax.checkpoint.saving import Checkpoints
from vu_jax.config import names
from vu_jax.errors import UserError
from vu_jax.layers.drop import Dropout, DropPath
from vu_jax.layers.norm import batch_norm
from vu_jax.train.mesh import device_mesh, to_devices
from vu_jax.train.mix import Mix, weights
from vu_jax.train.optim import learning_rate, optimizer
from vu_jax.train.optim_options import Method, Optim, Schedule
from vu_jax.train.population import Lowering, Population, chosen, frozen, member, stacked
from vu_jax.train.step import Steps, TrainState

CONFIG: dict[str, dict[str, Any]] = {
  "data": {"name": "motion"},
  "clip": {"num_frames": 2, "sampling": "dense", "stride_f": 1},
  "pixels": {"short_side": 4, "crop": 4, "flip": False},
  "loader": {"batch_size": 4, "order_seed": 0},
  "model": {"name": "mine.normed", "drop_path": 0.3},
  "task": {"name": "classify"},
  # An eps for which rounding in small gradients stays rounding.
  "optim": {"lr_peak": 0.02, "warmup_steps": 2, "eps": 1e-2},
  "train": {"steps": 20, "eval_every_steps": 10, "ema_decay": 0.5, "max_skipped_steps": 2},
}
# Three members; the first has what is off in others.
MEMBERS: tuple[dict[str, Any], ...] = (
  {"seed": 0, "optim.weight_decay": 0.0, "model.dropout": 0.0, "model.drop_path": 0.0, "optim.warmup_steps": 0},
  {"seed": 1, "optim.lr_peak": 0.01, "task.dropout": 0.3, "task.label_smoothing": 0.1, "train.ema_decay": 0.9},
  {"seed": 2, "optim.weight_decay": 0.5, "model.dropout": 0.2, "optim.clip_norm": 0.0},
)
STEPS = 4
MESH = device_mesh()


class Model(nn.Module):
  """Two linear maps of the pixels, the second one in a branch, with all that training draws or averages."""

  dropout: float = 0.0
  drop_path: float = 0.0

  @nn.compact
  def __call__(self, video: Any, *, train: bool) -> dict[str, Any]:
    x = nn.tanh(batch_norm(train=train)(name="norm")(nn.Dense(8, name="first")(video)))
    x = Dropout(self.dropout, deterministic=not train)(x)
    x = x + DropPath(self.drop_path)(nn.tanh(nn.Dense(8, name="second")(x)), train=train)
    return {"tokens": x, "pooled": reduce(x, "b t h w c -> b c", "mean")}


class Deciding(nn.Module):
  """Drops values only where it is told to."""

  dropout: float = 0.0

  @nn.compact
  def __call__(self, video: Any, *, train: bool) -> dict[str, Any]:
    pooled = reduce(video, "b t h w c -> b c", "mean")
    pooled = Dropout(self.dropout, deterministic=not train)(pooled) if self.dropout > 0 else pooled
    return {"tokens": video, "pooled": pooled}


# Modules of the user's own.
sys.modules["mine.normed"] = sys.modules[__name__]
sys.modules["mine.deciding"] = types.ModuleType("mine.deciding")
vars(sys.modules["mine.deciding"])["Model"] = Deciding


def varied(changes: dict[str, Any]) -> Experiment:
  """The configured experiment with other values at some dotted keys."""
  config: dict[str, Any] = {section: dict(values) for section, values in CONFIG.items()}
  for key, value in changes.items():
    section, _, field = key.partition(".")
    if field:
      config.setdefault(section, {})[field] = value
    else:
      config[key] = value
  return assemble(config).for_classes(4)


@cache
def members() -> tuple[Experiment, ...]:
  return tuple(varied(changes) for changes in MEMBERS)


def batch(step: int) -> dict[str, jax.Array]:
  """The batch of one step; its last clip is padding."""
  rng, label = np.random.default_rng(step), np.arange(4, dtype=np.int32)
  video = rng.integers(0, 256, (4, 2, 4, 4, 3), dtype=np.uint8)
  return to_devices(MESH, {"video": video, "label": label, "index": label, "mask": np.float32([1, 1, 1, 0])})


def run(steps: Steps, state: TrainState, first: int = 0, last: int = STEPS) -> tuple[TrainState, dict[str, Any]]:
  metrics: dict[str, Any] = {}
  for n in range(first, last):
    state, metrics = steps.train(state, batch(n))
  return state, metrics


@cache
def alone(i: int) -> tuple[Steps, TrainState, dict[str, Any]]:
  """A member as a run of its own: its functions, last state and last metrics."""
  steps = members()[i].steps(MESH)
  state, metrics = run(steps, steps.init(members()[i].seed))
  return steps, state, metrics


@cache
def population(lowering: Lowering) -> Population:
  return population_of(MESH, members(), (), lowering)


def start(population: Population) -> tuple[Steps, TrainState]:
  seeds, values = together(members())
  steps = population.steps(values)
  return steps, steps.init(seeds)


def numbers(tree: Any) -> list[np.ndarray]:
  return [
    np.asarray(jax.random.key_data(x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
    for x in jax.tree.leaves(tree)
  ]


def assert_close(a: Any, b: Any) -> None:
  assert jax.tree.structure(a) == jax.tree.structure(b)
  for x, y in zip(numbers(a), numbers(b), strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5 * max(np.abs(y).max(initial=0), 1e-2))


def assert_same(a: Any, b: Any) -> None:
  for x, y in zip(numbers(a), numbers(b), strict=True):
    np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("lowering", get_args(Lowering))
def test_every_member_is_the_same_run_alone(lowering: Lowering):
  """Parameters, statistics, optimizer, average and key after four steps, and the metrics of the last one.

  Members differ in seed, rate, warm-up, decay, dropout, drop path, smoothing, clipping and average; what is 0 for one
  is not for another. All of them learn something else.
  """
  steps, state = start(population(lowering))
  state, metrics = run(steps, state)
  for i in range(len(MEMBERS)):
    _, wanted, figures = alone(i)
    assert_close(member(state, i), wanted)
    assert_close(member({k: metrics[k] for k in figures}, i), figures)
    assert float(metrics["frozen"][0][i]) == 0
  assert len(set(np.asarray(metrics["loss"][0]).round(3))) == 3


def test_evaluation_is_that_of_the_average_of_each_member():
  """A row of the sums equals those of the member alone."""
  steps, state = start(population("unroll"))
  state, _ = run(steps, state)
  sums, out = steps.evaluate(state, batch(9))
  own, wanted, _ = alone(1)
  assert_close(member(sums, 1), own.evaluate(wanted, batch(9))[0])
  assert out["logits"].shape == (3, 4, 4)


def test_other_members_use_the_same_program():
  """Values are arguments: after a run with others nothing has been compiled again."""
  on = population("unroll")
  steps, state = start(on)
  state, _ = run(steps, state, last=1)
  size = on.train._cache_size()
  seeds, values = together(members()[::-1])
  other, _ = run(on.steps(values), on.init(seeds), last=1)
  assert on.train._cache_size() == size == 1
  assert_same(chosen(other, [2, 1, 0]).params, state.params)


def test_a_member_that_diverges_stops_and_the_others_do_not_notice():
  """With a rate and a decay of 1e38 updates overflow, as soon as the warm-up is above 0.

  They are skipped twice, which is the limit; then the member's state stays as it is, its step included, and its metrics
  have no weight. The others are those of the population in which it behaves, bit for bit.
  """
  on = population("unroll")
  steps, state = start(on)
  healthy, _ = run(steps, state)
  seeds, values = together(members())
  mad = {"optim.lr_peak": np.float32([0.02, 1e38, 0.02]), "optim.weight_decay": np.float32([0, 1e38, 0.5])}
  steps, state, seen = on.steps(values | mad), on.init(seeds), []
  for n in range(STEPS):
    state, metrics = steps.train(state, batch(n))
    seen.append([float(metrics[key][0][1]) for key in ("skipped", "skipped_in_a_row", "frozen")])
    assert float(metrics["loss"][1][1]) == (3 if n == 0 else 0)
    assert metrics["frozen"][0].sum() == seen[-1][2]
  assert seen == [[0, 0, 0], [1, 1, 0], [1, 2, 1], [0, 2, 1]]
  assert list(frozen(state, 2)) == [False, True, False]
  assert list(state.step) == [4, 3, 4]
  assert all(np.isfinite(x).all() for x in numbers(state.params))
  assert_same(chosen(state, [0, 2]), chosen(healthy, [0, 2]))


def test_a_population_goes_on_from_its_checkpoint(tmp_path: pathlib.Path):
  """Saved after two steps and restored, it ends where the unbroken one does, bit for bit."""
  steps, state = start(population("unroll"))
  state, _ = run(steps, state, last=2)
  store(tmp_path, 2, state)
  unbroken, _ = run(steps, state, first=2)
  checkpoints = Checkpoints(tmp_path)
  restored = checkpoints.restore(steps.shapes)
  checkpoints.close()
  assert_same(run(steps, restored, first=2)[0], unbroken)


def store(workdir: pathlib.Path, step: int, state: Any) -> None:
  checkpoints = Checkpoints(workdir)
  checkpoints.save(step, state, iter(grain.MapDataset.range(9).to_iter_dataset()))
  checkpoints.close()


def test_a_member_becomes_an_ordinary_run(tmp_path: pathlib.Path):
  """Its checkpoint is restored by the run's own functions, which go on as the population does."""
  steps, state = start(population("unroll"))
  state, _ = run(steps, state, last=2)
  store(tmp_path, 2, member(state, 1))
  wanted = member(run(steps, state, first=2)[0], 1)
  own = alone(1)[0]
  checkpoints = Checkpoints(tmp_path)
  restored = checkpoints.restore(own.shapes)
  checkpoints.close()
  assert_close(run(own, restored, first=2)[0], wanted)


def test_stacking_and_choosing():
  """Members are rows; a chosen order is kept, keys included."""
  trees = [{"w": jnp.full(2, float(i)), "key": jax.random.key(i)} for i in range(3)]
  all_of_them = stacked(trees)
  assert all_of_them["w"].shape == (3, 2)
  assert_same(member(all_of_them, 1), trees[1])
  assert_same(member(chosen(all_of_them, [2, 0]), 0), trees[2])


def test_values_of_members():
  """Only what differs becomes an array; a norm that is not cut is cut to infinity."""
  seeds, values = together(members())
  assert seeds == [0, 1, 2]
  assert set(values) == {key for changes in MEMBERS for key in changes} - {"seed"}
  assert values["optim.warmup_steps"].dtype == np.int32
  assert values["optim.warmup_steps"].tolist() == [0, 2, 2]
  assert values["optim.clip_norm"].tolist() == [1, 1, np.inf]
  np.testing.assert_array_equal(values["task.dropout"], np.float32([0, 0.3, 0]))
  assert values_of("optim.lr_peak", [1, 2]).dtype == np.float32
  assert len({program(e) for e in members()}) == 1
  assert together(members()[:1], ["optim.b1", "seed"])[1].keys() == {"optim.b1"}
  with pytest.raises(UserError, match=r"config\.model\.width: may not differ .* may: seed, optim\.lr_peak"):
    together(members(), ["model.width"])
  with pytest.raises(ValueError, match=r"the program takes .*'optim\.clip_norm'"):
    population("unroll").steps({"optim.lr_peak": np.zeros(3)})


def test_seeds_alone_make_a_population():
  """Two members of one config begin at other parameters, and see the same batches."""
  both = [varied({"seed": seed}) for seed in (0, 5)]
  assert [e.order_seed for e in both] == [0, 0]
  assert varied({"seed": 5, "loader.order_seed": -1}).order_seed == 5
  seeds, values = together(both)
  assert (seeds, values) == ([0, 5], {})
  on = population_of(MESH, both)
  state = on.init(seeds)
  state, metrics = jax.eval_shape(on.steps(values).train, state, batch(0))
  assert metrics["loss"][0].shape == (2,)
  kernels = on.init(seeds).params["backbone"]["first"]["kernel"]
  assert not np.allclose(kernels[0], kernels[1])
  assert on.init([2**31 + 7, 0]).key[0] == jax.random.split(jax.random.key(2**31 + 7))[1]


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"optim.method": "sgd"}, r"config\.optim\.method: 'adamw' and 'sgd', .* may: seed, optim\.lr_peak, .*ema_decay$"),
    ({"train.ema_decay": 0.0}, r"config\.train\.ema_decay: 0 for some members and above 0 for others"),
    ({"seed": 3, "loader.order_seed": -1}, r"config\.loader\.order_seed: set it, such as to 0, as members"),
  ],
)
def test_what_may_not_vary_is_refused(changes: dict[str, Any], words: str):
  """The message names the key, and all that may vary; a sweep sees it before, by the program."""
  other = varied(changes)
  assert program(other) != program(members()[0])
  with pytest.raises(UserError, match=words):
    together([members()[0], other])


def test_a_model_that_decides_by_a_value_is_refused():
  """One line with the values that vary; such a model is fine where they do not."""
  config = CONFIG | {"model": {"name": "mine.deciding"}}
  some = [assemble(config | {"seed": n, "model": config["model"] | {"dropout": n / 4}}) for n in range(2)]
  with pytest.raises(UserError, match=r"mine\.deciding .* decides by a value .*: model\.dropout$"):
    population_of(MESH, some)
  population_of(MESH, [some[1], dataclasses.replace(some[1], seed=7)])


RATES = ("dropout", "drop_path")


def models_with_rates() -> list[str]:
  modules = {name: importlib.import_module(f"vu_jax.models.{name}") for name in names("model")}
  return [n for n, m in modules.items() if hasattr(m, "Model") and any(hasattr(m.Model, rate) for rate in RATES)]


@pytest.mark.parametrize("name", models_with_rates())
def test_rates_of_every_model_may_be_traced(name: str):
  """No model decides by a rate what it computes, so that members may differ in it."""
  module = importlib.import_module(f"vu_jax.models.{name}")
  rates = {field: jax.ShapeDtypeStruct((), jnp.float32) for field in RATES if hasattr(module.Model, field)}
  video = jax.ShapeDtypeStruct((2, *getattr(module, "TINY_CLIP", (3, 16, 16)), 3), jnp.float32)

  def out(video: Any, rates: Any) -> Any:
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    return module.Model(**{**module.TINY, **rates}).init_with_output(keys, video, train=True)[0]

  assert jax.eval_shape(out, video, rates)["pooled"].shape[0] == 2


@pytest.mark.parametrize("method", get_args(Method))
def test_options_of_every_method_may_be_traced(method: Method):
  """Momenta, decay, eps and clipping, too."""
  params = {"backbone": {"first": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}}}
  keys = [key.removeprefix("optim.") for key in MAY_VARY if key.startswith("optim.")]
  known = Optim(method=method, warmup_steps=2)

  def update(values: Any) -> Any:
    tx = optimizer(dataclasses.replace(known, **values), 10)
    return tx.update(params, optimizer(known, 10).init(params), params)[0]

  assert jax.tree.structure(jax.eval_shape(update, {key: getattr(known, key) for key in keys})) == jax.tree.structure(
    params
  )


@pytest.mark.parametrize("schedule", get_args(Schedule))
def test_a_warm_up_may_be_traced(schedule: Schedule):
  """A compiled rate takes 0 and 7 steps of warm-up, and is that of schedules which know them."""

  def options(warmup: Any, peak: Any) -> Optim:
    return Optim(lr_peak=peak, schedule=schedule, warmup_steps=warmup, warmup_from_frac=0.1, milestones=(0.5,))

  steps = np.arange(40)
  traced = jax.jit(lambda warmup, peak, n: learning_rate(options(warmup, peak), 40)(n) * jnp.ones(n.shape))
  for warmup in (0, 7):
    rate = learning_rate(options(warmup, 0.3), 40)
    wanted = [float(rate(n)) for n in steps]
    np.testing.assert_allclose(traced(warmup, 0.3, steps), wanted, rtol=1e-5, atol=1e-7)


def test_strengths_of_mixing_may_be_traced():
  """Alphas of 0 are off, one by one; with both on each clip gets what one of them would give it; half are mixed."""
  key = jax.random.key(3)
  traced = jax.jit(lambda up, cut, frac: weights(key, (64, 2, 6, 6, 3), Mix(4, up, cut, mix_frac=frac)))
  assert (traced(0.0, 0.0, 1.0) == 1).all()
  blended, cut, either = (np.asarray(traced(*alphas, 1.0)) for alphas in ((0.4, 0.0), (0.0, 1.0), (0.4, 1.0)))
  assert np.ptp(blended, axis=(2, 3)).max() == 0
  assert 0 <= blended.min() < 0.1 < 0.9 < blended.max() <= 1
  assert set(cut.flatten()) == {0, 1}
  from_blended, from_cut = ((either == part).all((1, 2, 3, 4)) for part in (blended, cut))
  assert (from_blended | from_cut).all()
  assert 20 < from_blended.sum() < 44
  assert 20 < (traced(0.4, 0.0, 0.5) == 1).all((1, 2, 3, 4)).sum() < 44


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_dropout_is_that_of_flax(rate: float):
  """Values and gradients, bit for bit, with a known rate; with a traced one to rounding; and none where rate is 1."""
  x = jax.random.normal(jax.random.key(0), (8, 4, 3))

  def out(layer: Any, x: Any, rate: Any) -> Any:
    return layer(rate, broadcast_dims=(1,), deterministic=False).apply({}, x, rngs={"dropout": jax.random.key(1)})

  ours, theirs = out(Dropout, x, rate), out(nn.Dropout, x, rate)
  np.testing.assert_array_equal(ours, theirs)
  assert (rate == 0) == bool((ours != 0).all())
  np.testing.assert_allclose(jax.jit(lambda r: out(Dropout, x, r))(rate), theirs, rtol=1e-6)
  slope = jax.jit(jax.grad(lambda x, r: out(Dropout, x, r).sum()))(x, rate)
  np.testing.assert_allclose(slope, (ours != 0) / max(1 - rate, 0.1), rtol=1e-6)
