"""Something-Something V2 with S3D-G (Xie et al. 2018, "Rethinking spatiotemporal feature learning").

python -m experiments.launch --config=configs/s3d_ssv2.py --config.data.root=/path/to/something-something-v2

The paper's recipe for Something-Something V1: 64 consecutive frames, 256 px, crops of 224; SGD with momentum 0.9 on 10
GPUs with 6 clips each, 10k steps at rate 0.1; weight decay 1e-7 and dropout 0.2 as in configs/s3d_k400.py. Clips are
never mirrored, since labels say "left" and "right". Another preset is --config=configs/s3d_ssv2.py:s3d.

Validation top-1 / top-5 on V1: S3D 47.3 / 78.1, S3D-G 48.2 / 78.7, begun from an ImageNet network, which this config
does not do; the authors report nothing on V2. Not measured here.
"""

from ml_collections import ConfigDict

from configs import common


def get_config(arg: str = "s3dg") -> ConfigDict:
  c = ConfigDict()
  c.seed = 0
  c.data = dict(name="video_folder", layout="something_something", short_side=256)  # root is asked for
  c.clip = dict(num_frames=64, sampling="dense", stride_f=1, short="loop")
  c.pixels = dict(short_side=256, crop=224, flip=False, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
  c.augment = dict()
  c.loader = dict(batch_size=60)
  c.model = dict(name="s3d", preset=arg, dtype="bfloat16")
  c.task = dict(name="classify", dropout=0.2)
  c.optim = dict(
    method="sgd",
    lr_peak=0.1,
    schedule="constant",
    warmup_steps=0,
    weight_decay=1e-7,
    momentum=0.9,
    nesterov=False,
    clip_norm=0.0,
  )
  c.train = common.run(steps=10_000, eval_every_steps=1000)
  c.eval = dict(clips=1, crops=1)
  return c
