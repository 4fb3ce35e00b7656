"""Known datasets as they are published: their own lists, their own folders, nothing renamed.

  ucf101               classInd.txt, trainlist01.txt, testlist01.txt; v_CLASS_g01_c01.avi
  hmdb51               CLASS_test_split1.txt with the codes 0, 1, 2
  jhmdb                the same kind of lists, or one table jhmdb_splits.csv
  kinetics             CSV of label, youtube_id, time_start, time_end, split; videos have vanished from the web
  something_something  JSON lists with templates; ID.webm
  activitynet          one JSON database; every annotated segment is a clip
  ava                  CSV of boxes with actions; the three seconds around an annotated moment are a clip

A file is a layout, and its name is the value of `layout` in a config. It defines

  list_clips(root, split) -> list[Clip]   the clips of an official split, with their source as `group`. Clips whose
                                          file does not exist are listed, too, unless none exists; raises UserError.
  VIDEOS_VANISH: bool                     whether some files are missing everywhere, so that it is no fault

Lists are looked for in the root and in the folders that archives unpack to, videos anywhere below the root, by name
without its ending (so re-encoded copies are found).
"""
