"""A project from what a file says of itself, when its render is gone."""

import json

import numpy as np

from affetto.apps.studio.project import Key, Project, ProjectFolder, Trim
from affetto.apps.studio.restoring import restored_project
from affetto.media.audio import Audio, save_audio
from affetto.media.notes import write_note
from affetto.provenance.recipes import note_recipe, recipe_of, recorded
from affetto.scene.loading import load_scene
from affetto.scene.recipe import travelling_recipe

TONE = Audio(samples=np.sin(np.arange(24_000, dtype=np.float32) / 20)[None] * np.float32(0.3), rate=24_000)


def test_the_settings_of_a_render_come_back_from_one_of_its_files_alone(tmp_path):
    recording = save_audio(tmp_path / "me.wav", TONE)
    folder = ProjectFolder(tmp_path / "projects" / "one")
    project = Project(
        title="Monologue", words="Hello there", seed=7, size=256, music_key="D minor", convert_voice=False,
        speech=folder.take_speech(recording), trims={**Project().trims, "voice": Trim(gain=0.5, lag=0.1)},
        keys=[Key(t=0.0, label="neutral", i=0.0), Key(t=1.5, label="happy", i=0.8)],
    )  # fmt: skip
    loaded = load_scene(folder.write_scene(project, folder.new_render(), preview=False))
    lost = save_audio(tmp_path / "lost.wav", TONE)
    with recorded(travelling_recipe(loaded.scene, loaded, {})):
        note_recipe(lost, recipe_of("scene", {}))
    assert str(tmp_path) not in lost.read_bytes().decode("latin-1")
    restored = restored_project(lost)
    assert restored is not None
    same = (
        "title",
        "words",
        "seed",
        "size",
        "music_key",
        "convert_voice",
        "speech",
        "trims",
        "music",
        "language",
    )
    assert {name: getattr(restored, name) for name in same} == {name: getattr(project, name) for name in same}
    assert str(restored.track) == str(project.track)


def test_files_without_a_usable_recipe_restore_nothing(tmp_path):
    lost = save_audio(tmp_path / "lost.wav", TONE)
    assert restored_project(lost) is None
    for scene in (
        {"speech": {"emotion": "no such feeling"}},
        {"speech": 3},
        {"speech": {}, "size": 10**9},
        3,
    ):
        write_note(lost, json.dumps({"affetto": "1", "scene": scene}))
        assert restored_project(lost) is None
        save_audio(lost, TONE)
