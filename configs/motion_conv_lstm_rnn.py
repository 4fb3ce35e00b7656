"""A ConvGRU on maps and a GRU over the frames tell eight motions apart.

python -m experiments.launch --config=configs/motion_conv_lstm_rnn.py

Same data and clips as configs/motion_convlstm.py. With LSTMs for both
(`conv_cell`, `cell`) it reaches 89.0 % in as many steps, with two layers on maps it stays at chance.
98.5 % test top-1 (seed 0, 400 clips), 171 s on two CPU cores, drawing included; 2026-11-21.
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
  c.loader = dict(batch_size=32)
  c.model = dict(
    name="conv_lstm_rnn",
    stem=((8, 2), (16, 1)),
    hidden=(24,),
    conv_cell="gru",
    cell="gru",
    features=64,
    pool="mean",
  )
  c.task = dict(name="classify")
  c.optim = common.optim(lr_peak=1.5e-3, warmup_steps=50)
  c.train = common.run(steps=900, eval_every_steps=300)
  c.eval = dict(clips=1, crops=1)  # views per video at the end; 10 and 3 are usual for long videos
  return c
