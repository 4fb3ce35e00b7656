"""Something-Something V2 with the temporal shift module on ResNet-50 (Lin et al. 2019, "TSM").

python -m experiments.launch --config=configs/tsm_ssv2.py --config.data.root=/path/to/something-something-v2
python -m experiments.launch --config=configs/tsm_ssv2.py:tsm_r101 ...    # or another preset of tsm

The recipe of the authors' code: one frame of each of 8 parts of the video, crops of 168 to 256 px shown at 224, never
mirrored, since labels say "left" and "right"; SGD with momentum 0.9 on 64 clips per step, 50 epochs of 168,913 videos
at a rate of 0.01, a tenth of it from epochs 20 and 40 on; weight decay 5e-4, dropout 0.5, gradients cut to 20, and the
new classifier at five times the rate (its bias at ten). Differs: sides of crops are drawn from a range and equal,
theirs from four sizes each.

Validation top-1 from ImageNet's weights, which this config does not have unless they are imported: ResNet-50 61.2, with
16 frames 63.1, ResNet-101 63.3, two clips with three crops of 256 px each. Not measured here.
"""

from ml_collections import ConfigDict

from configs import common, tsm_k400

EPOCH = 168_913 // 64  # steps


def get_config(arg: str = "tsm_r50") -> ConfigDict:
  c = tsm_k400.get_config(arg)
  c.data.layout = "something_something"
  c.pixels.flip = False
  c.loader.batch_size = 64
  c.optim.lr_peak = 0.01
  c.optim.weight_decay = 5e-4
  c.train = common.run(steps=50 * EPOCH, eval_every_steps=EPOCH)
  c.eval = dict(clips=2, crops=3, average="logits")
  return c
