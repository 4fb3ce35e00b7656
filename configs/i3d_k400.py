"""Kinetics-400 with I3D, colour stream (Carreira & Zisserman 2017, "Quo vadis, action recognition?").

python -m experiments.launch --config=configs/i3d_k400.py --config.data.root=/path/to/kinetics400

The recipe that comes with the published weights (kinetics-i3d): 64 frames at 25 Hz, short side 256 px, crops of 224,
pixels in -1 to 1; SGD with momentum 0.9 on 64 GPUs with 6 clips each, 115k steps from rate 0.1, a tenth of it from
step 97k on and again from 108k; weight decay 1e-7, dropout 0.5. The rate is for 384 clips per step: scale it with
loader.batch_size. The flow stream is the same network on 2 channels.

Top-1 / top-5 on the test set from scratch: 68.4 / 88.0 (71.1 / 89.3 from an ImageNet network), all frames of a video in
one centre crop, logits averaged over time. Not measured here.
"""

from ml_collections import ConfigDict

from configs import common


def get_config() -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", layout="kinetics", short_side=256)  # root is asked for
  c.clip = dict(num_frames=64, sampling="rate", rate_hz=25.0, short="loop")
  c.pixels = dict(short_side=256, crop=224, flip=True, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
  c.augment = dict()
  c.loader = dict(batch_size=384)
  c.model = dict(name="i3d", preset="i3d", dtype="bfloat16")
  c.task = dict(name="classify", dropout=0.5)
  c.optim = dict(
    method="sgd",
    lr_peak=0.1,
    schedule="step",
    milestones=(97_000, 108_000),
    warmup_steps=0,
    weight_decay=1e-7,
    momentum=0.9,
    nesterov=False,
    clip_norm=0.0,
  )
  c.train = common.run(steps=115_000, eval_every_steps=5000)
  c.eval = dict(clips=4, crops=1, average="logits")  # four times 64 frames are all of 10 s
  return c
