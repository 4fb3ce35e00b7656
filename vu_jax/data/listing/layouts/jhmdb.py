"""JHMDB: 928 clips of 21 actions of HMDB51, 15 to 40 frames each, three splits (Jhuang et al., ICCV 2013).

Either the lists of http://jhmdb.is.tue.mpg.de, in splits/ or the root, in the form of HMDB51 (`hmdb51`), with the
videos below ReCompress_Videos/CLASS/ or CLASS/; or one table, jhmdb_splits.csv, with a row per clip:
  clip,label,source_video,split1,split2,split3
  brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.mp4,brush_hair,April_09,test,train,train

The splits have 660 / 268, 658 / 270 and 663 / 265 clips. Within a class no source video is on both sides. Across
classes 24, 22 and 25 of the 336 are (films, mostly), with 48, 39 and 56 test clips; groups are the sources themselves.
"""

import pathlib
from dataclasses import replace

from vu_jax.data.listing.clip_table import Columns, clips_in_table
from vu_jax.data.listing.division import check_groups
from vu_jax.data.listing.folders import Clip, check_root
from vu_jax.data.listing.layouts.hmdb51 import coded_clips
from vu_jax.errors import UserError

VIDEOS_VANISH = False
TABLE = "jhmdb_splits.csv"


def list_clips(root: pathlib.Path, split: int) -> list[Clip]:
  """Lists the clips of split 1, 2 or 3, in the order of the lists or of the table.

  Raises:
    UserError: neither lists nor table, no such split, a faulty line, a video listed twice, a source video on both
      sides of a class, or no video at all.
  """
  check_root(root)
  for folder in (root / "splits", root):
    if any(folder.glob("*_test_split*.txt")):
      clips, source = coded_clips(root, folder, split), str(folder)
      break
  else:
    if not (root / TABLE).is_file():
      raise UserError(
        f"no CLASS_test_split{split}.txt in {root / 'splits'} and no {root / TABLE}; put one of them there"
      )
    columns = Columns(path="clip", split=f"split{split}", group="source_video")
    clips, source = clips_in_table(root, root / TABLE, columns), str(root / TABLE)
  check_groups([replace(clip, group=f"{clip.label}/{clip.group}") for clip in clips], source)
  return clips
