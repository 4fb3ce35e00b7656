"""Damaged videos by the dozen: each reading ends with frames or one line; no crash, no hang, no growth of memory."""

import json
import os
import pathlib
import subprocess
import sys

COUNT = int(os.environ.get("BAD_FILES", "40"))  # 300 for a thorough look
GROWN_MB = 25.0


def test_bad_files_are_read_or_refused():
  """In a process of its own, since what is looked for may end it."""
  command = [sys.executable, pathlib.Path(__file__).with_name("bad_files.py"), str(COUNT)]
  found = subprocess.run(command, capture_output=True, text=True, timeout=150 + COUNT)
  assert found.returncode == 0, f"file {found.stderr[-3000:]}"
  about = json.loads(found.stdout)
  assert about["wrong"] == {}
  assert about["files"] == COUNT
  assert min(about["answers"][kind] for kind in ("frames", "refused")) > COUNT  # of six readings of each
  assert about["grown_mb"] < GROWN_MB
