"""A small TimeSformer tells eight motions apart: attention over time, then over space.

python -m experiments.launch --config=configs/motion_timesformer.py

Same data as configs/motion_convlstm.py, on longer clips. Patches span two frames, where the paper's span one: what
moves by less than a patch per frame is hard to find by comparing patches. --config.model.form=space looks at such pairs
of frames one by one. 99.5 % test top-1 (seed 0, 400 clips, 2026-11-21).
"""

from ml_collections import ConfigDict

from configs import common
from vu_jax.search import Space, choice, integers, log_uniform


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="motion", num_train=1600, num_validation=200, num_test=400)
  c.clip = dict(num_frames=6, sampling="dense", stride_f=1)
  c.pixels = dict(short_side=24, crop=24, flip=False)  # a mirrored "left" is a "right"
  c.augment = dict()  # nothing; see vu_jax/data/augmentation/augment.py
  c.loader = dict(batch_size=32)
  c.model = dict(name="timesformer", width=64, depth=4, heads=4, hidden=128, patch=(2, 4, 4), form="divided")
  c.task = dict(name="classify")
  c.optim = common.optim(lr_peak=2e-3, warmup_steps=100, weight_decay=0.05)
  c.train = common.run(steps=1500, eval_every_steps=500)
  c.eval = dict(clips=1, crops=1)  # views per video at the end; 10 and 3 are usual for long videos
  return c


def get_sweep() -> Space:
  """What experiments/sweep.py tries: a schedule for each of two forms of attention."""
  return {
    "model.form": choice("divided", "space"),
    "optim.lr_peak": log_uniform(2e-4, 5e-3),
    "optim.weight_decay": log_uniform(1e-3, 0.3),
    "optim.warmup_steps": integers(50, 400),
  }
