"""HMDB51, official split 1: three LSTM layers, the first of which chooses where to look in GoogLeNet's maps.

python -m experiments.launch --config=configs/attention_lstm_hmdb51.py --config.data.root=/path/to/hmdb51

Sharma et al. 2015, "Action Recognition using Visual Attention", section 4, with values of the authors' release: 30
frames at full rate, 7x7 positions of 1,024 channels from a CNN that stays as it is, LSTMs of 1,024 units, dropout 0.5
on all that does not recur, 128 clips per step, Adam, weight decay 1e-5, no penalty on attention (their lambda = 0).
Differs from the paper: see `vu_jax/models/st_lstm.py`; the mean over all frames, theirs over the last 16; 25,000 steps,
about as many as its 15 epochs of every window of 30 frames; it states no rate, so that is ours.

The CNN is frozen, so this says something with ImageNet weights in `backbone/trunk` only. The paper: 41.3 % top-1, and
40.5 % for the same LSTMs on the mean of the maps. One GPU should hold a step. Not measured here.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", layout="hmdb51", split=1, validation_frac=0.1, short_side=240)
  c.clip = dict(num_frames=30, sampling="dense", stride_f=1, short="repeat")
  c.pixels = dict(short_side=224, crop=224, flip=True, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
  c.augment = dict()
  c.loader = dict(batch_size=128)
  c.model = dict(name="st_lstm", preset="visual_attention", features=1024, norm_frozen=True)
  c.task = dict(name="classify", dropout=0.5)
  c.optim = dict(
    method="adam",
    lr_peak=1e-4,
    schedule="constant",
    warmup_steps=500,
    weight_decay=1e-5,
    frozen=("backbone/trunk",),
  )
  c.train = common.run(steps=25000, eval_every_steps=2500)
  c.eval = dict(clips=4, crops=1, average="probabilities")
  return c
