"""Pages in headless Chromium: what they ask for, what their console says, and what a driver finds in them."""

import base64
import functools
import hashlib
import http.server
import json
import re
import shutil
import subprocess
import threading
from html import unescape
from typing import NamedTuple

import pytest

__all__ = ["Browsed", "browse", "drive"]


class Browsed(NamedTuple):
    """What is left when a page has run."""

    dom: str
    asked: list[str]
    console: list[str]


def browse(folder, name="page.html", *flags):
    """Opens a page of a folder, which is served, so that all that the page asks for is known."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium: apt install chromium")
    asked = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format, *args):
            asked.append(self.path)

    handler = functools.partial(Handler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        given = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        given += ["--enable-logging=stderr", f"--user-data-dir={folder / 'profile'}", "--dump-dom", *flags]
        address = f"http://127.0.0.1:{server.server_port}/{name}"
        done = subprocess.run([browser, *given, address], capture_output=True, text=True, timeout=60, check=True)
        server.shutdown()
    return Browsed(done.stdout, asked, [line for line in done.stderr.splitlines() if "CONSOLE" in line])


def drive(folder, page, script, *flags):
    """Runs the body of an asynchronous function in a page, in time that passes as fast as the page is ready, and
    returns what it returns. The page's policy is widened by that script alone."""
    code = (
        "{const wait = (time) => new Promise((done) => setTimeout(done, time));"
        "const put = (found) => {document.documentElement.dataset.found = JSON.stringify(found);};"
        f"(async () => {{{script}}})().then(put, (error) => put({{error: error.stack}}));}}"
    )
    digest = base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()
    page = page.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    (folder / "page.html").write_text(page.replace("</body>", f"<script>{code}</script>\n</body>"), "utf-8")
    browsed = browse(folder, "page.html", "--virtual-time-budget=60000", *flags)
    assert browsed.asked == ["/page.html"]
    assert browsed.console == [], "an error, or something that the page's policy forbids"
    found = json.loads(unescape(re.search(r'data-found="(.*?)"', browsed.dom)[1]))
    assert not (isinstance(found, dict) and "error" in found), found
    return found
