"""The one error that is the user's to mend."""


class UserError(ValueError):
  """What the user gave cannot be used.

  The message is one line: what is wrong, where, and how to mend it. Programs print it without a traceback and
  exit with code 2 (`experiments/cli.py`); every other exception is a defect of ours and keeps its traceback.
  """
