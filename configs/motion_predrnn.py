"""PredRNN, a forecaster of frames, tells eight motions apart by the hidden states of its top layer.

python -m experiments.launch --config=configs/motion_predrnn.py

Same data as configs/motion_convlstm.py, and frames beside their differences, as there. On six frames alone it learned
99.8 % in one run and 86.5 % in the next, whose first kernels differed by rounding.
99.8 % and 99.5 % test top-1 (seeds 0 and 1, 400 clips, 2026-11-21); five minutes on two CPU cores.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="motion", num_train=1600, num_validation=200, num_test=400)
  c.clip = dict(num_frames=4, sampling="dense", stride_f=1)
  c.pixels = dict(short_side=24, crop=24, flip=False, seen="both")  # a mirrored "left" is a "right"
  c.augment = dict()  # nothing; see vu_jax/data/augmentation/augment.py
  c.loader = dict(batch_size=16)
  c.model = dict(name="predrnn", patch=3, features=32, layers=2, kernel=3, hidden_scale=4.0, forget_bias=-1.0)
  c.task = dict(name="classify")
  c.optim = common.optim(lr_peak=3e-3, warmup_steps=50)
  c.train = common.run(steps=1500, eval_every_steps=500)
  c.eval = dict(clips=1, crops=1)  # views per video at the end; 10 and 3 are usual for long videos
  return c
