"""Kinetics-400 with ir-CSN or ip-CSN (Tran et al. 2019, "Video classification with channel-separated networks").

python -m experiments.launch --config=configs/csn_k400.py --config.data.root=/path/to/kinetics400
python -m experiments.launch --config=configs/csn_k400.py:ip_csn_152 ...    # or another preset of vu_jax/models/csn.py

The paper's recipe, section 4.1: 32 frames, every second one at 30 Hz, crops of 224; SGD with momentum 0.9 on 64 GPUs
with 8 clips each, 45 epochs of a million clips: 10 of warm-up to a rate of 0.64 and 35 of half a cosine wave. The rate
is for 512 clips per step: scale it with loader.batch_size. Weight decay 1e-4 is that of the authors' code; the range of
short sides, 256 to 320 px, is usual for networks of this size and a guess here.

Validation top-1 / top-5 from scratch (VMZ, 10x3 views, crops of 256): ir-CSN-152 76.5 / 92.1, ip-CSN-152 77.8 / 92.8;
ir-CSN-101 77.0 top-1 in PyTorchVideo, with another recipe. Not measured here.
"""

from ml_collections import ConfigDict

from configs import common

EPOCH = 1_000_000 // 512  # steps


def get_config(arg: str = "ir_csn_101") -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", layout="kinetics", short_side=256)  # root is asked for
  c.clip = dict(num_frames=32, sampling="rate", rate_hz=15.0, short="repeat")
  c.pixels = dict(
    short_side=256,
    crop=224,
    window="jitter",
    jitter=(1.0, 1.25),
    flip=True,
    mean=(0.43216, 0.394666, 0.37645),
    std=(0.22803, 0.22145, 0.216989),
  )
  c.augment = dict()
  c.loader = dict(batch_size=512)
  c.model = dict(name="csn", preset=arg, dtype="bfloat16")
  c.task = dict(name="classify")
  c.optim = dict(
    method="sgd",
    lr_peak=0.64,
    schedule="cosine",
    warmup_steps=10 * EPOCH,
    weight_decay=1e-4,
    momentum=0.9,
    nesterov=True,
    clip_norm=0.0,
  )
  c.train = common.run(steps=45 * EPOCH, eval_every_steps=EPOCH)
  c.eval = dict(clips=10, crops=3, average="probabilities")
  return c
