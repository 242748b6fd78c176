import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
]  # fmt: skip

SERVE = """
import importlib.util, sys
from pathlib import Path
from affetto.apps.studio.server import open_studio
from tests.apps.studio.fake import FakeScenes
if __name__ == "__main__":
    opened = open_studio(Path(sys.argv[1]), workshop=FakeScenes, mcp=importlib.util.find_spec("mcp") is not None)
    print(opened.url, flush=True)
    opened.wait()
"""


@pytest.fixture(scope="session")
def studio(tmp_path_factory):
    """A running studio in a process of its own: (address, its folder, its process id, processor seconds until it served)."""
    pytest.importorskip("gradio")
    folder = tmp_path_factory.mktemp("studio")
    script = folder / "serve.py"
    script.write_text(SERVE)
    environment = {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(Path.cwd()),
        "HOME": str(folder),
        "AFFETTO_HOME": str(folder / "me"),
    }
    process = subprocess.Popen(
        [sys.executable, str(script), str(folder / "home")],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stdout is not None
    lines = (line.strip() for line in process.stdout)
    address = next((line for line in lines if line.startswith("http://127.0.0.1")), "")
    assert address, "the studio did not start"
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address, timeout=5).read()
            break
        except OSError:
            time.sleep(0.2)
    spent = psutil.Process(process.pid).cpu_times()
    yield address, folder / "home", process.pid, spent.user + spent.system
    process.terminate()
    process.wait(timeout=20)


@pytest.fixture(scope="session")
def browser():
    """One headless Chromium for all tests."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium (apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


class Visit:
    """A page of the studio with its own storage, and what went wrong on it."""

    def __init__(self, browser, address: str) -> None:
        self.context = browser.new_context(viewport={"width": 1440, "height": 1000})
        self.page = self.context.new_page()
        self.outside: list[str] = []
        self.errors: list[str] = []
        self.address = address
        self.page.set_default_timeout(60_000)
        self.page.on("request", self._asked)
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: message.type == "error" and self.errors.append(message.text))
        self.open()

    def open(self) -> None:
        self.page.goto(self.address)
        self.page.wait_for_selector(".tl-chips button")

    def job(self, state: str, timeout: float = 60_000):
        return self.page.wait_for_selector(f'#jobs-widget [data-state="{state}"]', timeout=timeout)

    def _asked(self, request) -> None:
        if not request.url.startswith((self.address.rstrip("/"), "data:", "blob:")):
            self.outside.append(request.url)


@pytest.fixture
def visit(browser, studio):
    """A newcomer's page; at the end it has asked nobody else for anything and reported no error."""
    opened = Visit(browser, studio[0])
    yield opened
    opened.context.close()
    assert opened.outside == []
    assert opened.errors == []
