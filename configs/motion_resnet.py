"""The control with batch norm: a ResNet averaged over frames cannot see order, so it must stay near 12.5 %.

python -m experiments.launch --config=configs/motion_resnet.py

Same data, clips and training as configs/motion_tsm.py; the temporal shift is all that differs. 16.5 % test top-1
(seed 0, 400 clips, 2026-11-21): near chance, 12.5 %.
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
  c.model = dict(name="resnet", depths=(1, 1, 1), width=16)
  c.task = dict(name="classify")
  c.optim = common.optim(lr_peak=3e-3, warmup_steps=50)
  c.train = common.run(steps=450, eval_every_steps=150)
  c.eval = dict(clips=1, crops=1)  # views per video at the end; 10 and 3 are usual for long videos
  return c
