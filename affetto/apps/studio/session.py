"""What a page does with its project: every change saved, every answer a plain value for the components."""

import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from affetto.apps.studio.desk import JobDesk, read_json
from affetto.apps.studio.project import (
    PRESETS,
    Project,
    ProjectFolder,
    keys_of,
    label_points,
    loudness_peaks,
    read_recipe_project,
    speech_onsets,
    with_timeline,
)
from affetto.apps.studio.reading import WordReader
from affetto.apps.studio.restoring import restored_project
from affetto.apps.studio.stage import staged, url
from affetto.conditioning.track import EmotionTrack
from affetto.provenance.consent import ConsentBook, settle_consent
from affetto.runtime.errors import PolicyError, UsageError
from affetto.runtime.files import atomic_path

EXAMPLE_SPEECH = Path(__file__).parents[2] / "media" / "data" / "hello.flac"
EXAMPLE_WORDS = (
    "Hello, I am so happy to meet you! Maybe people and puppets can be moved. Wow, what a beautiful surprise!"
)


_WELCOMED = ".affetto/welcomed"


@dataclass(frozen=True, kw_only=True)
class Studio:
    """The studio's home on disk and its desk of jobs."""

    home: Path
    desk: JobDesk
    reader: WordReader = field(default_factory=WordReader)

    @property
    def is_new(self) -> bool:
        """Whether nobody has closed the first start's report on this machine yet."""
        return not (self.home / _WELCOMED).exists()

    def welcomed(self) -> None:
        """Remember that the first start's report was closed."""
        (self.home / _WELCOMED).touch()

    def folder(self, name: str) -> ProjectFolder:
        """A project by its name; raises UsageError for a name that leaves the home."""
        if not name or not all(letter.isalnum() or letter in "-_" for letter in name):
            raise UsageError("a project's name has letters, digits, - and _ only")
        return ProjectFolder(self.home / "projects" / name)

    def names(self) -> list[str]:
        """All projects, the one changed last first."""
        files = (self.home / "projects").glob("*/project.json")
        return [file.parent.name for file in sorted(files, key=lambda file: -file.stat().st_mtime)]

    def new_name(self) -> str:
        """A name that no project has."""
        taken, number = set(self.names()), 1
        while f"project-{number}" in taken:
            number += 1
        return f"project-{number}"

    # ---- what the page asks for

    def timeline(self, folder: ProjectFolder, project: Project) -> dict[str, Any]:
        """The timeline's value."""
        return {
            "project": folder.name,
            "keys": [key.model_dump() for key in project.keys],
            "trims": {name: trim.model_dump() for name, trim in project.trims.items()},
            "duration": folder.duration(project),
            "labels": label_points(),
            "snaps": self._cached(folder, project, "onsets"),
        }

    def stage(self, folder: ProjectFolder, project: Project) -> dict[str, Any]:
        """The stage's value: the newest finished render, or the recording alone."""
        done = self.desk.newest_done(f"projects/{folder.name}/renders/", kind="render")
        if done is not None:
            return self.shown_render((self.home / done.output).parent)
        if project.speech is None:
            return {"duration": folder.duration(project)}
        return {
            "audio": url(folder.path / project.speech),
            "peaks": self._cached(folder, project, "peaks"),
            "duration": folder.duration(project),
            "words": self.words(folder, project) or [],
        }

    def words(self, folder: ProjectFolder, project: Project) -> list[list[Any]] | None:
        """When each word of the recording is said, or None while that is being found out."""
        if project.speech is None or not (folder.path / project.speech).is_file():
            return []
        return self.reader.words(folder.path / project.speech, project.words, project.language)

    def shown_render(self, folder: Path) -> dict[str, Any]:
        """A finished render as the stage shows it, with the words of its recording once they are known."""
        cache = folder / ".stage-2.json"
        value = read_json(cache)
        if not value:
            value = staged(folder)
            with atomic_path(cache) as temporary:
                temporary.write_text(_dumps(value), encoding="utf-8")
        project = read_recipe_project(folder)
        words = None if project is None else self.words(ProjectFolder(folder.parents[1]), project)
        return value | {"words": words or []}

    def set_speech(self, folder: ProjectFolder, project: Project, source: Path) -> Project:
        """The project with another recording."""
        changed = project.model_copy(update={"speech": folder.take_speech(source)})
        folder.save(changed)
        return changed

    def set_portrait(self, folder: ProjectFolder, project: Project, source: Path | None) -> Project:
        """The project with another picture, or none."""
        name = None if source is None else folder.take_portrait(source)
        changed = project.model_copy(update={"portrait": name, "points": None})
        folder.save(changed)
        return changed

    def set_timeline(self, folder: ProjectFolder, project: Project, value: dict[str, Any]) -> Project:
        """The project with the emotion that was drawn."""
        changed = with_timeline(project, value)
        folder.save(changed)
        return changed

    def set_track(self, folder: ProjectFolder, project: Project, track: EmotionTrack) -> Project:
        """The project with a course of emotion from elsewhere, such as a preset or a suggestion."""
        changed = project.model_copy(update={"keys": keys_of(track)})
        folder.save(changed)
        return changed

    def set_preset(self, folder: ProjectFolder, project: Project, name: str) -> Project:
        """The project with a ready course of emotion."""
        return self.set_track(folder, project, EmotionTrack.parse(PRESETS[name]))

    def suggest(self, folder: ProjectFolder, project: Project) -> Project:
        """The project with the emotion that its words suggest; raises UsageError when there are none."""
        from affetto.scene.lines import sentence_times, suggested

        if not project.words.strip():
            raise UsageError("write the words first: the suggestion is read from them")
        times = sentence_times(project.words, folder.duration(project), None)
        return self.set_track(folder, project, suggested(project.words, times))

    def set_example(self, folder: ProjectFolder) -> Project:
        """The ready example: a recording, its words, and an emotion."""
        project = folder.load().model_copy(
            update={"speech": folder.take_speech(EXAMPLE_SPEECH), "words": EXAMPLE_WORDS, "title": "Hello"}
        )
        book = ConsentBook()
        settle_consent(
            folder.path / str(project.speech), "synthetic: a recorded voice of Flite", what="voice", book=book
        )
        track = "0:neutral; 0.7:happy@0.9~cosine; 2.5:happy@0.6; 4.6:happy@0.9; 5.0:surprised"
        return self.set_track(folder, project, EmotionTrack.parse(track))

    def consent_missing(self, folder: ProjectFolder, project: Project) -> list[str]:
        """The identities of which nobody has said whose they are."""
        book = ConsentBook()
        asked = {"voice": project.speech, "face": project.portrait}
        return [
            what for what, name in asked.items() if name is not None and book.of(folder.path / name) is None
        ]

    def state_consent(self, folder: ProjectFolder, project: Project, ground: str) -> None:
        """Remember on what ground the voice and face of this project may be used."""
        for what in self.consent_missing(folder, project):
            name = project.speech if what == "voice" else project.portrait
            settle_consent(folder.path / str(name), ground, what=what)

    def render(self, folder: ProjectFolder, project: Project, *, preview: bool) -> str:
        """Queue a render of the project as it is now; the output's name. Raises PolicyError while consent is missing."""
        if missing := self.consent_missing(folder, project):
            raise PolicyError(f"say first whose {' and '.join(missing)} this is (below the recording)")
        target = folder.new_render()
        scene = folder.write_scene(project, target, preview=preview)
        output = (target / "recipe.json").relative_to(self.home).as_posix()
        title = f"{project.title}, {'preview' if preview else 'render'} {int(target.name)}"
        spec = {"generator": "render", "scene": str(scene), "output": output, "id": f"{folder.name}: {title}"}
        self.desk.submit(spec, priority=1 if preview else 0)
        return output

    def restore(self, file: Path) -> Project:
        """The project that made a file: an output of this studio, or a recipe or project file, or what a file says of itself."""
        if file.suffix.lower() == ".json":
            document = read_json(file)
            if "keys" in document:
                return Project.model_validate(document)
        folder = self.desk.find_recipe(file)
        project = restored_project(file) if folder is None else read_recipe_project(folder)
        if project is None:
            raise UsageError(
                f"{file.name}: was not made here, or its render is gone: drop an output of this studio"
            )
        return project

    def export(self, output: str) -> Path:
        """A zip of everything a render wrote."""
        folder = (self.home / output).parent
        exports = self.home / "exports"
        exports.mkdir(exist_ok=True)
        archive = shutil.make_archive(str(exports / f"{folder.parents[1].name}-{folder.name}"), "zip", folder)
        return Path(archive)

    def _cached(self, folder: ProjectFolder, project: Project, what: str) -> list[float]:
        """Peaks or onsets of the recording, computed once."""
        if project.speech is None:
            return []
        source = folder.path / project.speech
        cache = folder.path / f".{project.speech}.{what}.json"
        if not cache.is_file():
            found = loudness_peaks(source)[0] if what == "peaks" else speech_onsets(source)
            with atomic_path(cache) as temporary:
                temporary.write_text(_dumps({what: found}), encoding="utf-8")
        return read_json(cache).get(what, [])


def _dumps(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))
