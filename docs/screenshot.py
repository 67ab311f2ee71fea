"""Make docs/gallery.png: the demo's workspace with a second job for Mary, seen by Debian's chromium.

Run: `just screenshot`. Needs `uv sync --group browser` and `apt-get install -y chromium`.
"""

import io
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect, sync_playwright

SHOWN = Path(__file__).with_name("gallery.png")
PIPELINE = [sys.executable, "-m", "pipeline"]
SIZE = {"width": 1280, "height": 860}
MOST = 400_000  # bytes
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"]
MORE = """\
character: Mary
prompt:
  - at the harbour, fishing boats at dusk
  - walking through the mountains in autumn
  - on the sea under a full moon
quantity: 2
seed: 301          # the demo's back end refuses 303: a placeholder
width: 1216
height: 832
labels: [journey]
"""


def main() -> None:
    """Fill a workspace, serve it, and take the picture."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "pipeline-demo")
        told = subprocess.run([*PIPELINE, "demo", folder], check=True, capture_output=True, text=True).stdout
        token = re.search(r"Bearer (\S+?)\"", told)[1]  # type: ignore[index]
        (folder / "jobs" / "journey.yaml").write_text(MORE)
        made = subprocess.run([*PIPELINE, "run", "--once"], cwd=folder, capture_output=True, check=False)
        assert made.returncode == 1, made.stderr  # there is a placeholder
        with subprocess.Popen([*PIPELINE, "serve"], cwd=folder, stderr=subprocess.PIPE, text=True) as server:
            try:
                assert server.stderr is not None
                address = next(line.split()[-1] for line in server.stderr if line.startswith("serving at"))
                picture = _seen(f"{address}gallery/mary#t={token}")
            finally:
                server.terminate()
    SHOWN.write_bytes(picture)
    print(f"{SHOWN}: {len(picture) / 1000:.0f} kB")


def _seen(address: str) -> bytes:
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=shutil.which("chromium"), args=ARGUMENTS)
        page = chromium.new_page(viewport=SIZE, color_scheme="light", reduced_motion="reduce")  # type: ignore[arg-type]
        page.goto(address)
        page.locator(".tile img.seen").first.wait_for()
        expect(page.locator(".tile img:not(.seen)")).to_have_count(0)
        page.locator('a[href="#9"]').hover()
        page.wait_for_timeout(500)
        seen = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
        chromium.close()
    for colours in (None, 256, 128):
        out = io.BytesIO()
        (seen if colours is None else seen.quantize(colours)).save(out, "PNG", optimize=True)
        if out.tell() <= MOST:
            break
    return out.getvalue()


if __name__ == "__main__":
    main()
