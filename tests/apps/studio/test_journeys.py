"""The studio in a real browser."""

import asyncio
import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import psutil
import pytest
import skimage.data
from PIL import Image

from affetto.apps.studio.reading import face_points
from affetto.media.audio import Audio, save_audio

IDLE_MIB, READY_S = 400, 5.0


def project_of(visit, studio):
    """The project on disk that the page works on."""
    return studio[1] / "projects" / visit.page.get_by_label("Project", exact=True).input_value()


def read(folder):
    return json.loads((folder / "project.json").read_text())


def until(visit, condition, seconds=40.0):
    """Wait until something on disk is so."""
    for _ in range(int(seconds * 10)):
        if condition():
            return
        visit.page.wait_for_timeout(100)
    raise AssertionError("it did not come to be")


def fresh(visit):
    """Another project, shown."""
    box = visit.page.get_by_label("Project", exact=True)
    before = box.input_value()
    visit.page.get_by_role("button", name="New project").click()
    until(visit, lambda: box.input_value() != before)


def new_project(visit, studio, title):
    """Another project with the example and this title; its folder."""
    fresh(visit)
    visit.page.get_by_role("button", name="Load the example").click()
    box = visit.page.get_by_role("textbox", name="Title", exact=True)
    until(visit, lambda: box.input_value() == "Hello")
    box.fill(title)
    box.press("Tab")
    until(visit, lambda: read(project_of(visit, studio)).get("title") == title)
    return project_of(visit, studio)


def test_a_newcomer_goes_from_an_empty_page_to_a_finished_scene_and_back_into_it(visit, studio, tmp_path):
    page = visit.page
    folder = new_project(visit, studio, "First")
    before = len(read(folder)["keys"])
    timeline = page.get_by_role("application", name=re.compile("Emotion timeline"))
    box = timeline.bounding_box()
    timeline.click(position={"x": box["width"] * 0.5, "y": 150})
    timeline.press("Enter")
    page.get_by_role("group", name="Named emotions").get_by_role("button", name="angry").click()
    until(visit, lambda: len(read(folder)["keys"]) == before + 1)
    until(visit, lambda: any(key["label"] == "angry" for key in read(folder)["keys"]))
    timeline.press("Control+z")
    timeline.press("Control+z")
    until(visit, lambda: len(read(folder)["keys"]) == before)
    timeline.press("Control+Shift+z")
    until(visit, lambda: len(read(folder)["keys"]) == before + 1)
    page.get_by_label("How the way to the next key runs").select_option("cosine")
    until(visit, lambda: any(key["ease"] == "cosine" for key in read(folder)["keys"]))

    page.get_by_role("button", name="Render", exact=True).click()
    visit.job("done")
    page.wait_for_selector(".st-view video")
    page.locator(".st-transport .play").click()
    page.wait_for_function("document.querySelector('.st-view video').currentTime > 0.1")
    page.get_by_role("region", name="Stage").press("k")

    page.get_by_role("textbox", name="Title", exact=True).fill("Changed since")
    page.keyboard.press("Tab")
    until(visit, lambda: read(folder)["title"] == "Changed since")
    page.get_by_text("Take it with you").click()
    with page.expect_file_chooser() as chooser:
        page.locator("#restore").get_by_role("button").first.click()
    chooser.value.set_files(str(folder / "renders" / "001" / "mix.wav"))
    until(visit, lambda: read(folder)["title"] == "First")
    page.get_by_role("button", name="Export the newest render").click()
    page.get_by_text(re.compile(r"\.zip")).first.wait_for()
    assert list((studio[1] / "exports").glob("*.zip"))


class Timeline:
    """The timeline on the page, in its own units."""

    EDGE, TOP, BOTTOM = 14, 52, 204  # of the canvas, as timeline.js draws it

    def __init__(self, page) -> None:
        self.page = page
        self.canvas = page.get_by_role("application", name=re.compile("Emotion timeline"))
        self.canvas.scroll_into_view_if_needed()
        self.box = self.canvas.bounding_box()
        self.seconds = page.evaluate("Affetto.heard.value.duration")

    def at(self, second: float, height: float) -> tuple[float, float]:
        """A point of the page: `height` is 0 at the bottom of the curves and 1 at their top."""
        along = self.EDGE + second / self.seconds * (self.box["width"] - 2 * self.EDGE)
        return self.box["x"] + along, self.box["y"] + self.BOTTOM - height * (self.BOTTOM - self.TOP)

    def drag(self, start: tuple[float, float], stop: tuple[float, float]) -> None:
        """Press at one point and let go at another."""
        self.page.mouse.move(*start)
        self.page.mouse.down()
        self.page.mouse.move(*stop, steps=5)
        self.page.mouse.up()


def test_a_handle_bends_an_ease_and_a_moved_key_jumps_to_the_beginning_of_a_word(visit, studio):
    pytest.importorskip("espeakng_loader")
    page = visit.page
    folder = new_project(visit, studio, "Bent")
    page.wait_for_function("Affetto.heard.value.words && Affetto.heard.value.words.length === 20")
    timeline = Timeline(page)
    page.mouse.click(*timeline.at(0.7, 0.02))  # chooses the second key, happy from 0.7 to 2.5 by a cosine
    timeline.drag(timeline.at(0.7 + 0.3642 * 1.8, 0.0), timeline.at(0.7 + 0.8 * 1.8, 0.25))
    until(visit, lambda: read(folder)["keys"][1]["ease"].startswith("bezier("))
    x, y = (float(number) for number in read(folder)["keys"][1]["ease"][7:-1].split(",")[:2])
    assert x == pytest.approx(0.8, abs=0.02)
    assert y == pytest.approx(0.25, abs=0.03)

    starts = [word[1] for word in page.evaluate("Affetto.heard.value.words")]
    maybe = min(starts, key=lambda start: abs(start - 2.57))
    timeline.drag(timeline.at(2.5, 0.5), timeline.at(maybe + 0.05, 0.5))
    until(visit, lambda: read(folder)["keys"][2]["t"] == pytest.approx(maybe, abs=1e-6))


def test_a_point_of_the_face_is_dragged_and_the_job_is_made_from_where_it_is(visit, studio, tmp_path):
    page = visit.page
    picture = tmp_path / "face.png"
    Image.fromarray(skimage.data.astronaut()).save(picture)
    speech = save_audio(
        tmp_path / "hum.wav", Audio(samples=np.full((1, 16_000), 0.1, np.float32), rate=16_000)
    )
    page.get_by_role("tab", name="Portrait").click()
    inputs = page.locator("[role=tabpanel]:visible input[type=file]")
    inputs.nth(0).set_input_files(str(picture))
    page.wait_for_selector("#talk-points .pt-tools:not([hidden])")
    page.locator("[role=tabpanel]:visible .speech input[type=file]").set_input_files(str(speech))
    board = page.get_by_role("application", name=re.compile("Points of the face"))
    board.press(".")
    board.press("Shift+ArrowRight")
    page.get_by_text("1 moved").wait_for()
    page.locator("#talk-names").get_by_role("button", name="sad").click()
    page.wait_for_function(
        "document.querySelector('#talk-emotion textarea, #talk-emotion input').value === 'sad@0.8'"
    )
    page.locator("#talk-go").click()
    page.get_by_text("Whose voice or face is this?").and_(page.locator(":visible")).first.wait_for()
    page.locator("[role=tabpanel]:visible").get_by_text("self: it is I").click()
    page.locator("#talk-go").click()
    page.wait_for_selector('#talk-jobs [data-state="done"]')
    (marks,) = (studio[1] / "projects" / "singles").glob("*.points.json")
    moved = json.loads(marks.read_text())["points"]
    found = face_points(picture)["faces"][0]
    assert moved[0][0] == pytest.approx(found[0][0] + 10, abs=0.11)
    assert moved[1:] == found[1:]


def test_a_reload_in_the_middle_loses_nothing_and_cancelling_stops_the_job(visit, studio):
    new_project(visit, studio, "slow")
    visit.page.get_by_role("button", name="Render", exact=True).click()
    visit.job("running")
    visit.open()
    job = visit.job("running")
    assert "acting" in job.inner_text() or visit.page.wait_for_selector("text=acting")
    visit.page.wait_for_selector("#jobs-widget .jb-look canvas")
    visit.page.get_by_role("button", name=re.compile("^Cancel:")).first.click()
    visit.job("cancelled", timeout=15_000)
    assert visit.page.get_by_role("button", name=re.compile("^Try again:")).first.is_visible()


def test_two_tabs_see_the_same_jobs(visit, studio, browser):
    new_project(visit, studio, "Shared")
    visit.page.get_by_role("button", name="Quick preview").click()
    visit.job("done")
    second = visit.context.new_page()
    second.goto(visit.address)
    second.wait_for_selector('#jobs-widget [data-state="done"]', timeout=60_000)
    assert "Shared, preview" in second.locator("#jobs-widget").inner_text()


def test_two_renders_are_compared_side_by_side_on_one_clock(visit, studio):
    new_project(visit, studio, "Pair")
    page = visit.page
    for count in (1, 2):
        page.get_by_role("button", name="Quick preview").click()
        page.wait_for_function(
            "count => document.querySelectorAll('#jobs-widget [data-state=\"done\"]').length === count",
            arg=count,
        )
    page.get_by_role("button", name=re.compile("^Compare: .*preview 1")).click()
    page.get_by_text("A: Pair 2").wait_for()
    page.get_by_text("B: Pair 1").wait_for()
    page.get_by_role("button", name="Hear B").click()
    assert page.locator(".st-view video").evaluate_all("all => all.map(each => each.muted)") == [True, False]
    page.get_by_role("button", name="End comparison").click()
    page.wait_for_function("document.querySelectorAll('.st-view video').length === 1")

    page.get_by_role("tab", name="Library").click()
    page.locator(".lb-card", has_text="Pair, preview 2").wait_for()
    for number in (1, 2):
        card = page.locator(".lb-card", has_text=f"Pair, preview {number}")
        card.get_by_role("button", name="Compare").click()
    pair = page.get_by_role("region", name="Two outputs compared")
    assert pair.locator("figure").count() == 2
    pair.get_by_role("button", name="Hear B").click()
    assert pair.locator("video").evaluate_all("all => all.map(each => each.muted)") == [True, False]
    pair.get_by_role("button", name="Play both").click()
    page.wait_for_function(
        "() => { const [a, b] = document.querySelectorAll('.lb-two video'); "
        "return a.currentTime > 0.2 && Math.abs(a.currentTime - b.currentTime) < 0.2; }"
    )


def test_the_first_start_tells_what_this_machine_can_do_until_it_is_closed(visit):
    card = visit.page.get_by_role("status", name="First start")
    card.get_by_text("This machine is ready").wait_for()
    assert re.search(r"\d+ models are here", card.inner_text())
    card.get_by_role("button", name="Close").click()
    visit.open()
    visit.page.wait_for_timeout(2500)
    assert card.count() == 0


def test_the_health_page_tells_the_licence_of_each_model(visit):
    visit.page.get_by_role("tab", name="Models & Health").click()
    line = visit.page.locator("#health li", has_text="face-motion").first
    assert "Apache-2.0" in line.inner_text()
    assert visit.page.locator("#health li", has_text="emote").first.inner_text()


def test_a_program_makes_music_through_the_same_jobs(studio):
    client = pytest.importorskip("gradio_client").Client(studio[0], verbose=False)
    output = client.predict(emotion="happy@0.8", seconds=8, seed=3, suffix=".mid", api_name="/make_music")
    output = output[0] if isinstance(output, (list, tuple)) else output
    for _ in range(300):
        job = client.predict(output, api_name="/job")
        if job["state"] == "done":
            break
        time.sleep(0.1)
    assert job["made"] == str(studio[1] / output)
    assert (studio[1] / output).read_bytes() == b"made"


def test_an_agent_finds_the_jobs_as_tools_and_makes_music_with_one(studio):
    pytest.importorskip("mcp")
    from mcp import ClientSession
    from mcp.client.streamable_http import streamable_http_client

    async def ask() -> tuple[set[str], dict, str]:
        async with (
            streamable_http_client(f"{studio[0]}gradio_api/mcp/") as (reading, writing, _),
            ClientSession(reading, writing) as session,
        ):
            await session.initialize()
            tools = {tool.name: tool for tool in (await session.list_tools()).tools}
            made = await session.call_tool("make_music", {"emotion": "sad", "seconds": 6, "suffix": ".mid"})
            output = re.search(r"singles/music-\d+\.mid", str(made.content))
            assert output is not None, made
            state = await session.call_tool("job", {"output": output[0]})
            return set(tools), tools["make_music"].inputSchema["properties"], str(state.content)

    with ThreadPoolExecutor(1) as apart:  # the browser's driver has a loop of its own in this thread
        names, parameters, state = apart.submit(lambda: asyncio.run(ask())).result()
    assert names == {
        "make_voice",
        "make_face",
        "make_talk",
        "make_music",
        "job",
        "cancel",
        "projects",
        "render",
    }
    assert {"emotion", "seconds", "key", "ensemble", "seed", "suffix"} <= set(parameters)
    assert re.search(r"queued|running|done", state)


def test_what_fails_is_told_as_text_and_never_run_as_markup(visit, studio):
    new_project(visit, studio, "broken")
    visit.page.get_by_role("button", name="Render", exact=True).click()
    visit.job("dead")
    error = visit.page.locator("#jobs-widget .jb-error").first
    assert "<b>broken</b> on purpose" in error.inner_text()


@pytest.mark.parametrize(("name", "words"), [("text.wav", "text"), ("empty.wav", "empty")])
def test_a_wrong_file_is_refused_in_one_line_that_names_it(visit, studio, tmp_path, name, words):
    fresh(visit)
    path = tmp_path / name
    path.write_text("no sound at all\n" * 50 if name == "text.wav" else "")
    visit.page.locator("#speech input[type=file]").first.set_input_files(str(path))
    toast = visit.page.get_by_text(re.compile(rf"{re.escape(name)}: .*{words}")).first
    toast.wait_for()
    visit.page.wait_for_timeout(500)
    own = re.compile(
        r"waveform|range.not.satisfiable", re.IGNORECASE
    )  # Gradio's player cannot draw such a file
    visit.errors[:] = [error for error in visit.errors if not own.search(error)]


def test_a_batch_tells_its_errors_with_their_lines_before_anything_runs(visit, studio, tmp_path):
    page = visit.page
    sound, wrong = (
        '{"generator": "music", "seconds": 4, "output": "a.mid"}',
        '{"generator": "opera", "output": "b.mid"}',
    )
    page.get_by_role("tab", name="Batch").click()
    box = page.locator("[role=tabpanel]:visible input[type=file]")
    (tmp_path / "two.jsonl").write_text(f"{sound}\n{wrong}\n")
    box.set_input_files(str(tmp_path / "two.jsonl"))
    page.locator(".pl-errors li", has_text="line 2").get_by_text("opera").wait_for()
    assert page.get_by_role("button", name="Run these jobs").is_disabled()
    page.locator("[role=tabpanel]:visible").get_by_role(
        "button", name=re.compile("Remove|Clear")
    ).first.click()
    (tmp_path / "one.jsonl").write_text(sound)
    box.set_input_files(str(tmp_path / "one.jsonl"))
    page.get_by_text("Every line is sound").wait_for()
    page.get_by_role("button", name="Run these jobs").click()
    page.wait_for_selector('#batch-jobs [data-state="done"]')
    assert (studio[1] / "batch" / "one" / "a.mid").read_bytes() == b"made"


def test_a_real_voice_is_rendered_only_after_someone_said_whose_it_is(visit, studio, tmp_path):
    fresh(visit)
    noise = 0.1 * np.random.default_rng(0).standard_normal((1, 32_000))
    path = save_audio(tmp_path / "me.wav", Audio(samples=noise.astype(np.float32), rate=16_000))
    visit.page.locator("#speech input[type=file]").first.set_input_files(str(path))
    visit.page.get_by_text("Whose voice and face is this?").wait_for()
    visit.page.get_by_role("button", name="Render", exact=True).click()
    visit.page.get_by_text("Say first whose voice this is").first.wait_for()
    visit.page.locator("#consent").get_by_text("self: it is I").click()
    visit.page.get_by_text("Whose voice and face is this?").wait_for(state="hidden")
    visit.page.get_by_role("button", name="Render", exact=True).click()
    visit.job("done")


def test_the_page_is_served_after_less_than_five_seconds_of_computing(studio):
    assert studio[3] < READY_S


def test_an_idle_studio_stays_small(studio):
    assert psutil.Process(studio[2]).memory_info().rss / 2**20 < IDLE_MIB
