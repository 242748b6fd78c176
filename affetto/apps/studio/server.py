"""Opening the studio: where it listens, what it may read, and that it asks nobody else for anything."""

import hmac
import importlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from affetto.apps.studio.starting import quick_start
from affetto.runtime.errors import MissingResourceError, UsageError

LOOPBACK = "127.0.0.1"
MAX_UPLOAD = "200mb"
TRIES, LOCKED_S = 5, 60.0
_DELAY_S, _MOST_S = 0.5, 8.0


class Doorkeeper:
    """Checks one name and password: each wrong try in a row doubles the wait, and five shut the door for a minute."""

    def __init__(
        self,
        name: str,
        password: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self._name, self._password = name, password
        self._clock, self._wait = clock, wait
        self._wrong, self._shut_until = 0, 0.0
        self._guard = threading.Lock()

    @classmethod
    def parse(cls, text: str) -> "Doorkeeper":
        """From NAME:PASSWORD; raises UsageError for a short or missing password."""
        name, colon, password = text.partition(":")
        if not colon or not name or len(password) < 8:
            raise UsageError("--auth: write NAME:PASSWORD with at least 8 characters of password")
        return cls(name, password)

    def __call__(self, name: str, password: str) -> bool:
        """Whether name and password are right and the door is not shut."""
        with self._guard:
            wrong = self._wrong
        self._wait(min(_DELAY_S * 2**wrong, _MOST_S))
        with self._guard:
            if self._clock() < self._shut_until:
                return False
            right = hmac.compare_digest(name.encode(), self._name.encode()) & hmac.compare_digest(
                password.encode(), self._password.encode()
            )
            self._wrong = 0 if right else self._wrong + 1
            if self._wrong >= TRIES:
                self._wrong, self._shut_until = 0, self._clock() + LOCKED_S
            return bool(right)


def prepare_environment(home: Path) -> None:
    """Set what Gradio and its hub library look at before they are imported: no telemetry, no network, a private folder."""
    temporary = home / "uploads"
    temporary.mkdir(parents=True, exist_ok=True, mode=0o700)
    os.environ.update(
        {
            "GRADIO_ANALYTICS_ENABLED": "False",
            "HF_HUB_OFFLINE": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "GRADIO_TEMP_DIR": str(temporary),
            "MPLBACKEND": "agg",  # Gradio asks for it around every event: else a window system is looked for
        }
    )


def check_address(address: str, auth: str | None) -> Doorkeeper | None:
    """The doorkeeper; raises UsageError when the studio would be open to others without one."""
    keeper = None if auth is None else Doorkeeper.parse(auth)
    if address not in (LOOPBACK, "localhost", "::1") and keeper is None:
        raise UsageError(f"--listen {address} opens the studio to others: give --auth NAME:PASSWORD too")
    return keeper


class OpenStudio:
    """A studio that runs; `close` stops the server and the jobs."""

    def __init__(self, url: str, page: Any, desk: Any) -> None:
        self.url, self._page, self._desk = url, page, desk

    def wait(self) -> None:
        """Until interrupted."""
        self._page.block_thread()

    def close(self) -> None:
        """Stop; running jobs go back to the queue."""
        self._page.close(verbose=False)
        self._desk.close()


def open_studio(
    home: Path,
    *,
    address: str = LOOPBACK,
    port: int | None = None,
    auth: str | None = None,
    workers: int = 1,
    device: str = "auto",
    dtype: str = "auto",
    mcp: bool = False,
    browser: bool = False,
    workshop: Callable[..., Any] | None = None,
) -> OpenStudio:
    """Start the studio over the folder `home`; returns once it answers. `workshop` opens what makes the outputs.

    Raises UsageError for an unsafe address, MissingResourceError without the extra `studio`, TryAgainError while another
    studio works in the same folder.
    """
    keeper = check_address(address, auth)
    home = home.expanduser().absolute()
    home.mkdir(parents=True, exist_ok=True)
    prepare_environment(home)
    with quick_start():
        desk = _desk(home, workers=workers, device=device, dtype=dtype, workshop=workshop)
        try:
            url, page = _launched(
                home, desk, address=address, port=port, keeper=keeper, mcp=mcp, browser=browser
            )
        except BaseException:
            desk.close()
            raise
    return OpenStudio(url, page, desk)


def _desk(home: Path, **options: Any) -> Any:
    """The desk that works on the jobs of `home`, once gradio is known to be here."""
    try:
        importlib.import_module("gradio")
    except ImportError as error:
        raise MissingResourceError("the studio needs gradio: run pip install 'affetto[studio]'") from error
    from affetto.apps.studio.desk import JobDesk
    from affetto.provenance.certificates import signing_identity
    from affetto.provenance.manifests import can_sign

    if can_sign():
        signing_identity()  # made now, so that no render waits for it

    return JobDesk(home, **options)


def _launched(
    home: Path,
    desk: Any,
    *,
    address: str,
    port: int | None,
    keeper: Doorkeeper | None,
    mcp: bool,
    browser: bool,
) -> tuple[str, Any]:
    """The page's address, and the page, served."""
    import gradio as gr

    from affetto.apps.studio.look import theme
    from affetto.apps.studio.page import Page
    from affetto.apps.studio.session import Studio
    from affetto.apps.studio.widgets import ASSETS, head

    empty = home / "empty"  # Gradio serves its working folder: there must be nothing in it
    empty.mkdir(exist_ok=True)
    os.chdir(empty)
    gr.set_static_paths([str(ASSETS)])
    page = Page(Studio(home=home, desk=desk)).build()
    page.queue(max_size=64, default_concurrency_limit=8)
    _, url, _ = page.launch(
        server_name=address, server_port=port, auth=keeper, share=False, quiet=True, inbrowser=browser,
        prevent_thread_lock=True, show_error=False, max_file_size=MAX_UPLOAD, enable_monitoring=False, run_history=False,
        allowed_paths=[str(home / "projects"), str(home / "singles"), str(home / "batch"), str(home / "exports")],
        blocked_paths=[str(home / ".affetto")], state_session_capacity=200, ssr_mode=False, mcp_server=mcp,
        css_paths=[str(ASSETS / "studio.css")], head=head(), footer_links=["api"],
        theme=theme(),
    )  # fmt: skip
    return url, page
