"""A small ResNet tells eight motions apart by shifting channels along time.

python -m experiments.launch --config=configs/motion_tsm.py

The same network without its shift is configs/motion_resnet.py. --config.model.shift=causal trains the one that can be
streamed. Same data as configs/motion_convlstm.py, on larger and longer clips.
100 % test top-1 (95 %: 99.0-100, 400 clips); one seed, 2026-11-21.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="motion", num_train=1600, num_validation=200, num_test=400)
  c.clip = dict(num_frames=8, sampling="dense", stride_f=1)
  c.pixels = dict(short_side=48, crop=48, flip=False)  # a mirrored "left" is a "right"
  c.augment = dict()  # nothing; see vu_jax/data/augmentation/augment.py
  c.loader = dict(batch_size=32)
  c.model = dict(name="tsm", block="basic", depths=(1, 1, 1), width=16)
  c.task = dict(name="classify")
  c.optim = common.optim(lr_peak=3e-3, warmup_steps=50)
  c.train = common.run(steps=450, eval_every_steps=150)
  c.eval = dict(clips=1, crops=1)  # views per video at the end; 10 and 3 are usual for long videos
  return c
