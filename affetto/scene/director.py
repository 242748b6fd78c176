"""`Director`: a scene in, everything it asks for out, all from one emotion track and in sync."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch

from affetto.conditioning.calibration import Calibration
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.track import EmotionTrack
from affetto.generators.music.pipeline import MusicPiece
from affetto.generators.music.synth.render import TAIL_S
from affetto.generators.music.synth.render import stream as stream_score
from affetto.media.animation.curves import FaceCurves
from affetto.media.audio import Audio
from affetto.media.previews import curves_preview, notes_preview, sound_preview
from affetto.media.shelf import Shelf
from affetto.runtime.device import resolve_device
from affetto.runtime.errors import UsageError
from affetto.runtime.progress import CancelToken, ProgressCallback
from affetto.scene import mixing, sync
from affetto.scene.lines import Line, read_lines
from affetto.scene.loading import LoadedScene, check_scene, load_scene
from affetto.scene.model import Scene
from affetto.scene.performance import Judge, Performance, SceneChunk, SceneRender, Watch
from affetto.scene.performers import Troupe
from affetto.scene.permission import check_consent
from affetto.scene.pictures import Performer, picture_frames, segments
from affetto.scene.planning import MODELS, Plan, output_names, plan_scene, words_can_be_read
from affetto.scene.recipe import check_inputs
from affetto.scene.scoring import key_hits, turns
from affetto.scene.segments import Segment, canvas
from affetto.scene.timeline import SpokenLine, Timeline, lay_out, speaker_content
from affetto.speech.content import SpeechContent

_CALM = EmotionTrack.constant(Emotion.neutral())
_MEASURED_S = 60.0  # of each speaker that sync is measured on
_TRIES, _NEAR_MS = 3, 15.0  # how often changes of emotion are begun earlier, and how near is near enough


class Director:
    """Makes a scene: voice first, then faces that follow it and music that follows the emotion, mixed and measured.

    `judge` with `best_of` above 1 makes several candidates of each voice, face and piece and keeps the one it prefers.
    Raises PolicyError where consent is required (`AFFETTO_CONSENT=required`) and nobody gave it for a recording or portrait.
    """

    def __init__(
        self,
        scene: Scene | LoadedScene | str | Path,
        *,
        base: str | Path = ".",
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        judge: Judge | None = None,
        best_of: int = 1,
    ) -> None:
        if isinstance(scene, (str, Path)):
            scene = load_scene(scene)
        elif isinstance(scene, Scene):
            check_scene(scene, Path(base))
            scene = LoadedScene(scene=scene, base=Path(base))
        if best_of > 1 and judge is None:
            raise UsageError("best_of needs a judge that chooses")
        if not 1 <= best_of <= 32:
            raise UsageError(f"best_of must lie in 1..32, got {best_of}")
        self.loaded = scene
        self.scene = scene.scene
        check_consent(self.scene, scene.base)
        self.device = resolve_device(device)
        self._judge, self._best_of = judge, best_of
        file = self.scene.calibration_file
        calibration = Calibration.named(self.scene.calibration if file is None else scene.base / file)
        self.troupe = Troupe(scene=self.scene, device=self.device, dtype=dtype, calibration=calibration)
        self._performance: Performance | None = None
        self._shelf = Shelf()
        self._unfelt: dict[str, FaceCurves] = {}

    @cached_property
    def lines(self) -> list[Line]:
        """Every turn with its sound, words and emotion, read (or spoken, or answered) once."""
        check_inputs(self.loaded)
        return read_lines(self.scene, self.loaded.base, self._shelf)

    def plan(self) -> Plan:
        """What will be done: steps, shapes, seconds, memory, models, licences; nothing is made."""
        return plan_scene(self.scene, self.loaded.base, reads_words=words_can_be_read())

    @property
    def models(self) -> tuple[str, ...]:
        """The weights this scene runs."""
        wanted = ["read"] + (["voice"] if any(s.voice.convert for s in self.scene.speakers.values()) else [])
        wanted += ["face"] + (["music"] if self.scene.music is not None else [])
        names = [name for kind in wanted for name in MODELS[kind]]
        if any(speaker.portrait for speaker in self.scene.speakers.values()):
            from affetto.scene.portraits import MODELS as PORTRAIT_MODELS

            names += PORTRAIT_MODELS
        return tuple(names)

    def perform(
        self, *, callback: ProgressCallback | None = None, cancel: CancelToken | None = None
    ) -> Performance:
        """Everything but the pictures; made once and kept."""
        if self._performance is not None:
            return self._performance
        watch = Watch(callback, cancel)
        chosen: dict[str, int] = dict(self.loaded.seeds)
        spoken, heard_s = list[SpokenLine](), 0.0
        for index, line in enumerate(self.lines):
            watch("voice", index, len(self.lines))
            made = self._speak(line, index, chosen, watch)
            measured = heard_s < _MEASURED_S  # of the others nobody asks what was changed
            spoken.append(made.kept(self._shelf, measured=measured))
            heard_s += made.seconds
            heard = spoken[-1].audio
            watch("voice", index + 1, len(self.lines), partial(sound_preview, heard.samples, heard.rate))
        timeline = lay_out(self.scene, spoken)
        curves: dict[str, FaceCurves] = {}
        for name in timeline.speakers:
            curves[name] = self._play(timeline, name, chosen, watch)
            watch("face", len(curves), len(timeline.speakers), partial(curves_preview, curves[name]))
        piece, music = self._compose(timeline, chosen, watch)
        watch("mix", 0, 1)
        stems = {
            name: mixing.stem(
                [(line.start, line.spoken.audio) for line in timeline.of(name)], timeline.seconds
            )
            for name in timeline.speakers
        }
        bed = self.scene.music
        mixed, report = mixing.mix(
            stems,
            music,
            volumes={
                name: (speaker.voice.volume_db, speaker.voice.pan)
                for name, speaker in self.scene.speakers.items()
            },
            music_db=bed.level_db if bed is not None else 0.0,
            ducking_db=bed.ducking_db if bed is not None else 0.0,
            lufs=self.scene.loudness,
        )
        watch("mix", 1, 1, partial(sound_preview, mixed.samples, mixed.rate))
        self._performance = Performance(
            timeline=timeline,
            stems=stems,
            curves=curves,
            piece=piece,
            music=music,
            mix=mixed,
            mix_report=report,
            sync=self._measure(timeline, curves, stems, piece, watch),
            chosen=chosen,
        )
        return self._performance

    def _seed(self, what: str, usual: int) -> int:
        """The seed of one thing; a recipe remembers those that a judge chose."""
        return self.loaded.seeds.get(what, usual)

    def _speak(self, line: Line, index: int, chosen: dict[str, int], watch: Watch) -> SpokenLine:
        first = self._seed(f"voice {index + 1}", self.scene.seed + 31 * index)
        made = [
            self.troupe.speak(line, seed=first + 1009 * take, progress=None, cancel=watch.cancel)
            for take in range(self._best_of if self.scene.speakers[line.speaker].voice.convert else 1)
        ]
        if len(made) == 1 or self._judge is None:
            return made[0]
        scores = [self._judge.voice(each.audio, line.audio, each.tracks["voice"]) for each in made]
        best = int(np.argmax(scores))
        chosen[f"voice {index + 1}"] = first + 1009 * best
        return made[best]

    def _play(self, timeline: Timeline, name: str, chosen: dict[str, int], watch: Watch) -> FaceCurves:
        """The face of one speaker over the whole timeline, the best of several where a judge is asked."""
        first = self._seed(f"face {name}", self.scene.seed + timeline.speakers.index(name))
        seeds = [first + 1009 * take for take in range(self._best_of)]
        made = [self._performed(timeline, name, seed, watch) for seed in seeds]
        best = 0
        if len(made) > 1 and self._judge is not None:
            track = timeline.tracks[name, "face"]
            best = int(np.argmax([self._judge.face(each, track) for each, _ in made]))
            chosen[f"face {name}"] = seeds[best]
        curves, self._unfelt[name] = made[best]
        return curves

    def _performed(
        self, timeline: Timeline, name: str, seed: int, watch: Watch
    ) -> tuple[FaceCurves, FaceCurves]:
        """A performance whose changes of emotion come in time, and the beginning of the same without emotion.

        How late brows and mouth are is measured on a performance of the beginning, and their changes begun earlier by as
        much: the upper face is then taken from one performance and the lower from another.
        """
        part, track = timeline.cut(_MEASURED_S), timeline.tracks[name, "face"]
        said = _said(part, name)

        def play(line: Timeline, course: EmotionTrack) -> FaceCurves:
            return self.troupe.play(
                line, name, seed=seed, track=course, progress=watch.callback, cancel=watch.cancel
            )

        def timed(line: Timeline, early: sync.Early) -> FaceCurves:
            upper, lower = (
                play(line, sync.in_time(track, early.get(what, {})))
                for what in (sync.BROWS_LAG, sync.MOUTH_LAG)
            )
            return sync.joined(upper, lower)

        unfelt, felt = play(part, _CALM), play(part, track)
        early: sync.Early = {}
        tried: list[tuple[FaceCurves, sync.Early, list[tuple[sync.Ramp, sync.Lag]]]] = [
            (felt, early, sync.face_lags(felt, unfelt, track, said))
        ]
        while tried[-1][2] and len(tried) <= _TRIES and _worst(tried[-1][2]) > _NEAR_MS:
            early = sync.earlier(early, tried[-1][2])
            felt = timed(part, early)
            tried.append((felt, early, sync.face_lags(felt, unfelt, track, said)))
        felt, early, _ = min(tried, key=lambda each: _worst(each[2]))
        if part is timeline:
            return felt, unfelt
        return (timed(timeline, early) if early else play(timeline, track)), unfelt

    def replay(self, performance: Performance, name: str, track: EmotionTrack) -> FaceCurves:
        """The face of one speaker with another course of emotion, as the portrait may have."""
        seed = performance.chosen.get(
            f"face {name}", self.scene.seed + performance.timeline.speakers.index(name)
        )
        return self.troupe.play(performance.timeline, name, seed=seed, track=track)

    def _compose(
        self, timeline: Timeline, chosen: dict[str, int], watch: Watch
    ) -> tuple[MusicPiece | None, Audio | None]:
        if self.scene.music is None:
            return None, None
        pieces = [
            self.troupe.compose(
                timeline,
                self.loaded.base,
                seed=self._seed("music", self.scene.seed) + 1009 * take,
                progress=watch.callback,
                cancel=watch.cancel,
            )
            for take in range(self._best_of)
        ]
        best = 0
        if len(pieces) > 1 and self._judge is not None:
            best = int(np.argmax([self._judge.music(piece.score, timeline.music) for piece in pieces]))
            chosen["music"] = self._seed("music", self.scene.seed) + 1009 * best
        watch("instruments", 0, 1, partial(notes_preview, pieces[best].score.timed_notes()))
        score = pieces[best].score
        sound = mixing.gathered(stream_score(score, rate=mixing.RATE), score.seconds + TAIL_S + 1.0)
        watch("instruments", 1, 1)
        return pieces[best], sound

    def _measure(
        self,
        timeline: Timeline,
        curves: Mapping[str, FaceCurves],
        stems: Mapping[str, Audio],
        piece: MusicPiece | None,
        watch: Watch,
    ) -> sync.SyncReport:
        watch("sync", 0, len(curves))
        lags = []
        head = self._head
        heard_s = 0.0
        for line in timeline.lines:
            if heard_s < _MEASURED_S:
                found = sync.voice_lag(line.spoken)
                lags += [found] if found is not None else []
                heard_s += line.spoken.seconds
        for done, (name, played) in enumerate(curves.items()):
            part = timeline.cut(_MEASURED_S)
            frames = round(part.seconds * self.scene.fps)
            found = sync.face_lags(
                played.sliced(0, frames), self._unfelt[name], part.tracks[name, "face"], _said(part, name)
            )
            lags += [lag for _, lag in found]
            heard = self.troupe.animator.plan(stems[name].sliced(0.0, part.seconds)).content
            lip = sync.lips_on_sound(played.sliced(0, frames), heard, head)
            lags += [lip] if lip is not None else []
            watch("sync", done + 1, len(curves))
        keys = key_hits(piece.plan, turns(timeline.music, timeline.seconds)) if piece is not None else []
        return sync.SyncReport(lags=tuple(sync.pooled(lags)), keys=tuple(keys))

    @cached_property
    def _head(self):  # noqa: ANN202  the head model, loaded once
        from affetto.head.model import HeadModel

        return HeadModel.load()

    def segments(self, timeline: Timeline) -> list[Segment]:
        """Who is seen when."""
        return segments(timeline, self.scene.fps, everyone=tuple(self.scene.speakers))

    def performers(self, performance: Performance, picture: str) -> dict[str, Performer]:
        """Everyone who can be seen, as 3D heads (`head`) or portraits (`talking`)."""
        from affetto.scene.stage import open_performers

        return open_performers(self, performance, picture)

    def stream(
        self,
        *,
        picture: str = "head",
        callback: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> Iterator[SceneChunk]:
        """The scene a second at a time, pictures drawn as they are asked for; the sound and the motion are made first."""
        if picture not in ("head", "talking"):
            raise UsageError(f"no picture {picture!r}: use head or talking")
        performance = self.perform(callback=callback, cancel=cancel)
        plan = self.segments(performance.timeline)
        size = canvas(plan, (self.scene.size, self.scene.size))
        held: list[np.ndarray] = []
        sent = 0
        performers = self.performers(performance, picture)
        frames = picture_frames(performers, plan, size)
        total = round(performance.timeline.seconds * self.scene.fps)
        for index, frame in enumerate(frames):
            if cancel is not None:
                cancel.check()
            held.append(frame)
            if len(held) >= self.scene.fps or index + 1 == total:
                yield self._chunk(performance, held, sent)
                sent += len(held)
                held = []
        for performer in performers.values():
            performer.close()

    def _chunk(self, performance: Performance, held: list[np.ndarray], first: int) -> SceneChunk:
        fps, mix = self.scene.fps, performance.mix
        start, stop = (round(frame / fps * mix.rate) for frame in (first, first + len(held)))
        return SceneChunk(
            start_s=first / fps,
            fps=fps,
            frames=np.stack(held),
            sound=mix.samples[:, start:stop],
            rate=mix.rate,
        )

    def render(
        self,
        folder: str | Path,
        *,
        overwrite: bool = False,
        callback: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> SceneRender:
        """Write every output of the scene into `folder`, its sync report and its recipe."""
        from affetto.scene.writing import write_scene

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        present = [name for name in output_names(self.scene) if (folder / name).exists()]
        if present and not overwrite:
            raise UsageError(
                f"{folder / present[0]}: already exists: choose another folder or pass overwrite"
            )
        performance = self.perform(callback=callback, cancel=cancel)
        files = write_scene(self, performance, folder, Watch(callback, cancel))
        return SceneRender(folder=folder, files=tuple(files), performance=performance, scene=self.scene)


def _worst(lags: Sequence[tuple[sync.Ramp, sync.Lag]]) -> float:
    """The largest of some lags, milliseconds."""
    return max((abs(lag.milliseconds) for _, lag in lags), default=0.0)


def _said(timeline: Timeline, name: str) -> SpeechContent:
    """What one speaker says over a timeline."""
    return speaker_content(timeline.of(name), timeline.seconds)
