"""A headless Chromium, driven over its debugging pipe: what a page logs, asks for and looks like.

python tests/browser.py PAGE.html PICTURE.png [--width=1200] [--dark] [--colours=48]

The pipe needs no port and no library: messages are JSON texts that end with a zero byte, read by Chromium from file
descriptor 3 and written to 4.
"""

import argparse
import base64
import io
import json
import os
import pathlib
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars")
_QUIET = ("--no-first-run", "--disable-extensions", "--disable-background-networking", "--disable-component-update")
_PATIENCE_S = 60
# The widest element that is not inside of a box that scrolls by itself, and the page's own width.
_TOO_WIDE = """(() => {
  const page = document.documentElement.clientWidth, found = [];
  for (const e of document.body.querySelectorAll('*')) {
    if (e.closest('svg') && e.tagName !== 'svg') continue;
    if (e.parentElement.closest('.scroll, .visually-hidden')) continue;
    const box = e.getBoundingClientRect();
    if (box.width > 0 && (box.right > page + 0.5 || box.left < -0.5)) found.push(e.tagName + '.' + e.className);
  }
  if (document.documentElement.scrollWidth > page) found.push('the page scrolls sideways');
  return found;
})()"""


@dataclass
class Seen:
  """What a page did while it was open: errors in its console, addresses that it asked for, elements too wide for it."""

  errors: list[str] = field(default_factory=list)
  requests: list[str] = field(default_factory=list)
  too_wide: list[str] = field(default_factory=list)
  height_px: int = 0


def find_browser() -> str | None:
  """The path of an installed Chromium, or None."""
  return next((path for path in map(shutil.which, _NAMES) if path), None)


class Browser:
  """One tab of a running Chromium; see `browser`."""

  def __init__(self, to_browser: int, from_browser: int):
    self._write, self._read, self._waiting = to_browser, from_browser, [b""]
    self._last, self._session = 0, ""
    self.events: list[dict[str, Any]] = []
    target = self._call("Target.createTarget", url="about:blank")["targetId"]
    self._session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
    for domain in ("Page", "Runtime", "Log", "Network"):
      self._call(f"{domain}.enable")

  def open(self, page: pathlib.Path, width: int, height: int, *, dark: bool = False) -> Seen:
    """Loads a page at a size, in CSS pixels, and reports what it did."""
    size = dict(width=width, height=height, deviceScaleFactor=1, mobile=width < 600)
    self._call("Emulation.setDeviceMetricsOverride", **size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    self._call("Emulation.setEmulatedMedia", features=[scheme])
    self.events.clear()
    self._call("Page.navigate", url=page.resolve().as_uri())
    while not any(event["method"] == "Page.loadEventFired" for event in self.events):
      self.events.append(self._message())
    seen = Seen(too_wide=self.evaluate(_TOO_WIDE), height_px=self.evaluate("document.documentElement.scrollHeight"))
    for event in self.events:
      _note(seen, event["method"], event["params"])
    seen.requests.remove(page.resolve().as_uri())
    return seen

  def evaluate(self, expression: str) -> Any:
    """The value of a JavaScript expression in the page."""
    return self._call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

  def screenshot(self, target: pathlib.Path, width: int, height: int, *, colours: int = 0) -> None:
    """Writes the page's upper `height` pixels as PNG; `colours` > 0 makes the file small with a palette."""
    clip = dict(x=0, y=0, width=width, height=height, scale=1)
    picture = self._call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)["data"]
    image = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
    (image.quantize(colours, dither=Image.Dither.NONE) if colours else image).save(target, optimize=True)

  def close(self) -> None:
    self._session = ""
    with suppress(OSError, EOFError):
      self._call("Browser.close")

  def _call(self, method: str, **params: Any) -> dict[str, Any]:
    self._last += 1
    message: dict[str, Any] = {"id": self._last, "method": method, "params": params}
    if self._session:
      message["sessionId"] = self._session
    os.write(self._write, json.dumps(message).encode() + b"\0")
    while (answer := self._message()).get("id") != self._last:
      self.events.append(answer)
    if "error" in answer:
      raise RuntimeError(f"{method}: {answer['error']['message']}")
    return answer["result"]

  def _message(self) -> dict[str, Any]:
    while b"\0" not in self._waiting[-1]:
      if not select.select([self._read], [], [], _PATIENCE_S)[0]:
        raise TimeoutError(f"Chromium said nothing for {_PATIENCE_S} s")
      self._waiting.append(os.read(self._read, 1 << 16))
      if not self._waiting[-1]:
        raise EOFError("Chromium ended")
    text, _, rest = b"".join(self._waiting).partition(b"\0")
    self._waiting = [rest]
    return json.loads(text)


def _note(seen: Seen, method: str, params: dict[str, Any]) -> None:
  if method == "Runtime.exceptionThrown":
    seen.errors.append(str(params["exceptionDetails"]))
  elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
    seen.errors.append(str(params["args"]))
  elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
    seen.errors.append(params["entry"]["text"])
  elif method == "Network.requestWillBeSent" and not params["request"]["url"].startswith("data:"):
    seen.requests.append(params["request"]["url"])


@contextmanager
def browser() -> Iterator[Browser]:
  """Starts the installed Chromium with a fresh profile, and ends it."""
  path = find_browser()
  assert path, "no Chromium is installed"
  (child_reads, we_write), (we_read, child_writes) = os.pipe(), os.pipe()
  with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:

    def at_3_and_4() -> None:
      reads, writes = os.dup(child_reads), os.dup(child_writes)  # numbers above 4, whatever they were before
      os.dup2(reads, 3)
      os.dup2(writes, 4)

    process = subprocess.Popen(
      [path, *_FLAGS, *_QUIET, f"--user-data-dir={profile}", "--remote-debugging-pipe", "about:blank"],
      preexec_fn=at_3_and_4,
      close_fds=False,
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    os.close(child_reads)
    os.close(child_writes)
    tab = Browser(we_write, we_read)
    try:
      yield tab
    finally:
      tab.close()
      os.close(we_write)
      os.close(we_read)
      try:
        process.wait(10)
      except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument("page", type=pathlib.Path)
  parser.add_argument("picture", type=pathlib.Path)
  parser.add_argument("--width", type=int, default=1200)
  parser.add_argument("--height", type=int, default=0, help="of the picture (default: the whole page)")
  parser.add_argument("--dark", action="store_true")
  parser.add_argument("--colours", type=int, default=0, help="of a palette, for a small file")
  args = parser.parse_args()
  with browser() as tab:
    seen = tab.open(args.page, args.width, 900, dark=args.dark)
    tab.screenshot(args.picture, args.width, args.height or seen.height_px, colours=args.colours)
  print(seen)


if __name__ == "__main__":
  main()
