"""The studio's login over HTTP, on a real server: slow, shut after five wrong passwords, open again after the window."""

import json
import logging
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from affetto.apps.studio import server
from affetto.apps.studio.server import Doorkeeper, check_address
from affetto.runtime.errors import UsageError

NAME, PASSWORD = "director", "correct horse battery"


class Clock:
    """Time that the test moves, and the waits that were asked for."""

    def __init__(self) -> None:
        self.now, self.waits = 100.0, []

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)


@pytest.fixture(scope="module")
def house():
    """(address, clock) of a page behind a doorkeeper whose clock the test moves."""
    gradio = pytest.importorskip("gradio")
    clock = Clock()
    keeper = Doorkeeper(NAME, PASSWORD, clock=clock, wait=clock.wait)
    with gradio.Blocks(analytics_enabled=False) as page:
        gradio.Markdown("inside")
    _, url, _ = page.launch(
        server_name="127.0.0.1",
        auth=keeper,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        ssr_mode=False,
    )
    yield url, clock
    page.close(verbose=False)


@pytest.fixture(autouse=True)
def open_door(request):
    """Each test begins with an open door."""
    if "house" in request.fixturenames:
        _, clock = request.getfixturevalue("house")
        clock.now += 1000.0
        clock.waits.clear()


def login(url: str, name: str, password: str) -> tuple[int, str]:
    """Status and body of a try to log in."""
    form = urllib.parse.urlencode({"username": name, "password": password}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(f"{url}login", form), timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refused:
        return refused.code, refused.read().decode()


def test_the_right_password_opens_and_nothing_is_served_without_it(house):
    url, _ = house
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{url}gradio_api/info", timeout=20)
    assert login(url, NAME, PASSWORD)[0] == 200


def test_wrong_passwords_get_slower_lock_the_door_and_the_right_one_works_after_the_window(house):
    url, clock = house
    for _ in range(server.TRIES):
        assert login(url, NAME, "wrong password")[0] == 400
    assert clock.waits == sorted(clock.waits)
    assert clock.waits[0] >= 0.5
    assert clock.waits[-1] >= 4 * clock.waits[0]
    assert login(url, NAME, PASSWORD)[0] == 400  # shut, also for the right one
    clock.now += server.LOCKED_S - 1.0
    assert login(url, NAME, PASSWORD)[0] == 400
    clock.now += 2.0
    assert login(url, NAME, PASSWORD)[0] == 200
    clock.waits.clear()
    assert login(url, NAME, PASSWORD)[0] == 200
    assert clock.waits == [0.5]  # and quick again


def test_answers_and_waits_do_not_tell_which_names_exist(house):
    url, clock = house
    answers = [login(url, NAME, "wrong password"), login(url, "nobody", "wrong password")]
    waits = list(clock.waits)
    clock.now += 1000.0
    assert login(url, NAME, PASSWORD)[0] == 200
    clock.waits.clear()
    answers += [login(url, "nobody", "wrong password"), login(url, NAME, "wrong password")]
    assert len(set(answers)) == 1
    assert clock.waits == waits


def test_a_wrong_name_with_the_right_password_stays_outside(house):
    assert login(house[0], "nobody", PASSWORD)[0] == 400


def test_real_waits_are_waited():
    began = time.monotonic()
    assert not Doorkeeper(NAME, PASSWORD)(NAME, "wrong password")
    assert time.monotonic() - began >= 0.5


@pytest.mark.parametrize("auth", ["", "name", "name:short", ":long enough"])
def test_short_passwords_are_refused_without_being_repeated(auth):
    with pytest.raises(UsageError) as refused:
        check_address("0.0.0.0", auth)
    assert "short" not in str(refused.value)
    assert "long enough" not in str(refused.value)


def test_nothing_opens_to_others_without_a_password():
    with pytest.raises(UsageError, match="--auth"):
        check_address("0.0.0.0", None)
    assert check_address("127.0.0.1", None) is None


def test_neither_the_password_nor_a_home_is_in_what_a_login_logs(house, caplog, capfd):
    with caplog.at_level(logging.DEBUG):
        login(house[0], NAME, "a wrong secret")
        login(house[0], NAME, PASSWORD)
    told = caplog.text + "".join(capfd.readouterr())
    assert PASSWORD not in told
    assert "a wrong secret" not in told
    assert json.dumps(str(Path.home()))[1:-1] + "/" not in told
