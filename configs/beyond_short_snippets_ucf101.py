"""UCF101, official split 1: GoogLeNet on 30 frames and five LSTM layers of 512 units over them.

python -m experiments.launch --config=configs/beyond_short_snippets_ucf101.py --config.data.root=/path/to/ucf101

Ng et al., CVPR 2015, "Beyond Short Snippets", sections 3.2 and 4: 30 frames at 6 per second, cut to 220 px from a short
side of 256, SGD with a peak rate of 30 x 1e-5, momentum 0.9, weight decay 5e-4.
Differs from the paper: a cosine in place of its exponential decay; batch and number of steps are ours, as it states
none; the mean over frames in place of weights that rise from 0 to 1; it starts from Sports-1M.

The paper: 82.6 % top-1 from frames alone with its best model of them (pooling over 120 frames), 88.6 % for this one
with optical flow beside the frames; mean of the three splits. Four GPUs of 16 GB should hold a step. Not measured here.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", layout="ucf101", split=1, validation_frac=0.1, short_side=240)
  c.clip = dict(num_frames=30, sampling="rate", rate_hz=6.0, short="loop")
  c.pixels = dict(short_side=256, crop=220, flip=True, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
  c.augment = dict()
  c.loader = dict(batch_size=32)
  c.model = dict(name="cnn_rnn", preset="beyond_short_snippets")
  c.task = dict(name="classify")
  c.optim = dict(
    method="sgd", lr_peak=3e-4, schedule="cosine", warmup_steps=500, momentum=0.9, nesterov=False, weight_decay=5e-4
  )
  c.train = common.run(steps=30000, eval_every_steps=3000)
  c.eval = dict(clips=4, crops=1, average="probabilities")
  return c
