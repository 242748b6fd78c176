"""The studio in a real browser."""

import json
import re
import time

import numpy as np
import psutil
import pytest

from affetto.media.audio import Audio, save_audio

IDLE_MIB = 400


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


def test_a_reload_in_the_middle_loses_nothing_and_cancelling_stops_the_job(visit, studio):
    new_project(visit, studio, "slow")
    visit.page.get_by_role("button", name="Render", exact=True).click()
    visit.job("running")
    visit.open()
    job = visit.job("running")
    assert "acting" in job.inner_text() or visit.page.wait_for_selector("text=acting")
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


def test_the_health_page_tells_the_licence_of_each_model(visit):
    visit.page.get_by_role("tab", name="Models & Health").click()
    line = visit.page.locator("#health li", has_text="face-motion").first
    assert "Apache-2.0" in line.inner_text()
    assert visit.page.locator("#health li", has_text="emote").first.inner_text()


def test_a_program_makes_music_through_the_same_jobs(studio):
    client = pytest.importorskip("gradio_client").Client(studio[0], verbose=False)
    output = client.predict(
        None, "happy@0.8", None, 8, "", "piano", False, 3, ".mid", api_name="/make_music"
    )[0]
    for _ in range(300):
        job = client.predict(output, api_name="/job")
        if job["state"] == "done":
            break
        time.sleep(0.1)
    assert job["made"] == str(studio[1] / output)
    assert (studio[1] / output).read_bytes() == b"made"


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


def test_an_idle_studio_stays_small(studio):
    assert psutil.Process(studio[2]).memory_info().rss / 2**20 < IDLE_MIB
