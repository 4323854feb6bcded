"""A real browser opens a page, runs a script in it, and tells what it drew and complained of."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class Seen:
    """What the browser made of a page.

    Attributes:
        dom: the drawn page, its scripts left out.
        complaints: lines of the console, where requests that the page's policy stops appear too.
    """

    dom: str
    complaints: list[str]


def see(page, folder, script=""):
    """Open a page in headless Chromium without any network; `script` runs once it is drawn."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if browser is None:
        if os.environ.get("CI"):
            pytest.fail("Chromium is missing in CI")
        pytest.skip("needs Chromium (Debian: apt install chromium)")
    file = folder / "page.html"
    end = page.rindex("</body>")
    added = f"<script>window.addEventListener('load', function () {{ {script} }});</script>"
    file.write_text(page[:end] + added + page[end:], encoding="utf-8")
    words = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000"]
    words += ["--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND"]
    done = subprocess.run(
        [browser, *words, f"--user-data-dir={folder / 'browser'}", "--dump-dom", file.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return Seen(re.sub(r"<script.*?</script>", "", done.stdout, flags=re.S), complaints)
