"""`MusicComposer`: an emotion and a length in, a piece of music out."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float64

from affetto.generators.music.arrange import ENSEMBLES, levelled, score_of
from affetto.generators.music.compose import Composer, Composition, Forced, note_rows
from affetto.generators.music.composer_net import FADERS
from affetto.generators.music.copycheck import CopyCheck, CopyReport
from affetto.generators.music.form import Feeling, MusicPlan, MusicRequest, plan_piece, valence_at
from affetto.generators.music.like import Material, infill_plan, like_plan, read_material, spliced
from affetto.generators.music.model import ComposerModel
from affetto.generators.music.ringing import coloured
from affetto.generators.music.sampling import BarWriter, SamplingOptions
from affetto.media.midi import Score, save_midi
from affetto.media.music import ATTRIBUTES, CENTRE, SCALE, WEIGHTS
from affetto.provenance.manifests import Origin
from affetto.provenance.sealing import save_marked_audio, sealed
from affetto.runtime.device import resolve_device, resolve_dtype
from affetto.runtime.errors import MissingResourceError, PolicyError, UsageError
from affetto.runtime.files import check_writable
from affetto.runtime.progress import CancelToken, ProgressCallback
from affetto.tokenizers.attributes import BarAttributes, bar_attributes
from affetto.tokenizers.compound import Words, encode

SUFFIXES = (".mid", ".midi", ".wav", ".png")
MODES = ("vary", "continue", "rhythm", "harmony")
_ATTEMPTS = 4
_SOFT = 16.0 / 1.8  # velocities that move the formula's arousal by one before it saturates
_WIDER = 1.25  # EMOPIA's quadrants lie further out on the formula (0.86) than emotions called by name (0.6)
_MOST_MOVE = 6  # steps of four velocities
_MOST_COLOUR = 2.4  # valence, before it saturates, that mode and clarity are asked for


@dataclass(frozen=True, kw_only=True, eq=False)
class MusicPiece:
    """A finished piece, the plan behind it, and whether it is like anything that was learned from."""

    score: Score
    plan: MusicPlan
    composition: Composition
    copy: CopyReport

    @property
    def seconds(self) -> float:
        """How long the piece lasts, its last bar included."""
        return float(self.score.seconds_of(len(self.plan.bars) * self.plan.beats))

    @cached_property
    def words(self) -> Words:
        """The compound words of the piece as it sounds."""
        return encode(self.score)

    def attributes(self) -> BarAttributes:
        """What each bar sounds like, measured on the notes."""
        return bar_attributes(self.words)

    def emotion_curve(self) -> Float64[np.ndarray, "bar 7"]:
        """For each bar its start in seconds, the valence, arousal and dominance asked for, and those measured."""
        count = len(self.plan.bars)
        measured = np.zeros((count, 3))
        found = self.attributes().vad()[:count]
        measured[: len(found)] = found
        asked = np.array([bar.vad for bar in self.plan.bars], np.float64)
        return np.concatenate([self.plan.starts[:-1, None], asked, measured], axis=1)

    def save(self, path: str | Path, *, rate: int = 44_100, soundfont: str | Path | None = None) -> Path:
        """Write a .mid file; a .wav file played by built-in instruments, or fluidsynth with a soundfont; a .png picture.

        The sound rings out after the last bar; that of a loop ends with it and rings into its beginning.
        """
        path = Path(path)
        if path.suffix.lower() in (".mid", ".midi"):
            with sealed(path, self._origin) as temporary:
                save_midi(temporary, self.score)
        elif path.suffix.lower() == ".wav":
            from affetto.generators.music.synth import render  # instruments are heavy and often not wanted

            loop_s = self.seconds if self.plan.ending == "loop" else None
            sound = render(self.score, rate=rate, loop_s=loop_s, soundfont=soundfont)
            save_marked_audio(path, sound, self._origin)
        elif path.suffix.lower() == ".png":
            from affetto.generators.music.picture import draw_rolls  # so is drawing

            with sealed(path, self._origin) as temporary:
                draw_rolls(temporary, {"": (self.plan, self.composition, self.emotion_curve())})
        else:
            known = ", ".join(SUFFIXES)
            raise UsageError(
                f"{path}: no music is written as {path.suffix or 'a file without suffix'}: use {known}"
            )
        return path

    @property
    def _origin(self) -> Origin:
        return Origin(generator="music", recipe={"seed": self.plan.seed})

    def save_stems(
        self,
        path: str | Path,
        *,
        rate: int = 44_100,
        soundfont: str | Path | None = None,
        overwrite: bool = True,
    ) -> list[Path]:
        """One .wav for each part beside `path`, named after both (song-melody.wav, song-bass.wav); their sum is the mix.

        Raises UsageError for a stem that is there already, unless `overwrite`.
        """
        from affetto.generators.music.synth import render_stems  # instruments are heavy and often not wanted

        path = Path(path)
        loop_s = self.seconds if self.plan.ending == "loop" else None
        written: list[Path] = []
        for name, stem in render_stems(self.score, rate=rate, loop_s=loop_s, soundfont=soundfont).items():
            part = (
                re.sub(r"[^0-9a-z]+", "-", name.lower()).strip("-") or "part"
            )  # names of files come from outside
            target = path.with_name(f"{path.stem}-{part}.wav")
            if target in written:
                target = path.with_name(f"{path.stem}-{part}-{len(written) + 1}.wav")
            check_writable(target, overwrite=overwrite)
            save_marked_audio(target, stem, self._origin, overwrite=overwrite, subtype="FLOAT")
            written.append(target)
        return written


class MusicComposer:
    """Composes for an emotion curve, after MusER and Music FaderNets: a plan, then bars by a small transformer."""

    def __init__(
        self,
        model: ComposerModel,
        *,
        device: torch.device,
        dtype: torch.dtype,
        check: CopyCheck,
        options: SamplingOptions | None = None,
    ) -> None:
        self.device = device
        self.model = model
        self.check = check
        self.options = options or SamplingOptions()
        self._writer = BarWriter(model.net.to(device), device=device, dtype=dtype)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = "embedded",
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
    ) -> "MusicComposer":
        """Load the `embedded` composer, or one that the recipe wrote (a path); it runs on `device` in `dtype`."""
        where = resolve_device(device)
        if name != "embedded" and not Path(name).is_file():
            raise MissingResourceError(
                f"no composer {str(name)!r} here: use 'embedded' or a file of the recipe"
            )
        model = ComposerModel.load(None if name == "embedded" else name)
        return cls(model, device=where, dtype=resolve_dtype(dtype, where), check=CopyCheck.load())

    def __call__(
        self,
        emotion: Feeling = None,
        *,
        seconds: float | None = None,
        bars: int | None = None,
        key: str | None = None,
        tempo: float | None = None,
        metre: str | None = None,
        faders: Mapping[str, float] | None = None,
        chords: Sequence[str] | None = None,
        seed: int = 0,
        like: str | Path | Score | None = None,
        mode: str = "vary",
        infill: tuple[int, int] | None = None,
        loop: bool = False,
        ending: str = "cadence",
        ensemble: str = "piano",
        callback_on_step_end: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> MusicPiece:
        """A piece that feels like `emotion` (text, value or track; None is neutral), 30 s long unless told.

        `seconds` is exact; with `bars` too, the tempo follows. `faders` set levels 0..8 by name, `chords` the harmony.
        With `like`, a MIDI file or score: `mode` `vary` (its harmony and the rhythm of its tune, new notes), `continue`,
        `rhythm` (only its onsets) or `harmony` (only its chords); `infill` (first, last) writes these bars anew, from 1.
        `loop` leads back to the beginning. The same seed gives the same piece on the same machine. Raises PolicyError
        when every attempt contains a tune of the training songs.
        """
        request = MusicRequest(
            emotion=emotion,
            seconds=seconds,
            bars=bars,
            key=key,
            tempo=tempo,
            metre=metre or "4/4",
            faders=faders or {},
            ending="loop" if loop else ending,
            seed=seed,
        )
        if ensemble not in ENSEMBLES:
            raise UsageError(f"unknown ensemble {ensemble!r}: use {', '.join(ENSEMBLES)}")
        if like is None and infill is not None:
            raise UsageError("infill needs a piece to fill in: give like=")
        plan, forced, material = self._planned(request, like, mode, infill, metre)
        if chords is not None:
            plan = plan.with_chords(chords)
        return self.perform(
            plan,
            forced=forced,
            ensemble=ensemble,
            material=material if infill is not None or mode == "continue" else None,
            callback_on_step_end=callback_on_step_end,
            cancel=cancel,
        )

    def plan(
        self,
        emotion: Feeling = None,
        *,
        seconds: float | None = None,
        bars: int | None = None,
        key: str | None = None,
        tempo: float | None = None,
        metre: str = "4/4",
        faders: Mapping[str, float] | None = None,
        ending: str = "cadence",
        seed: int = 0,
    ) -> MusicPlan:
        """Key, tempo, form, chords and feelings of a new piece, to be edited and then given to `perform`."""
        request = MusicRequest(
            emotion=emotion,
            seconds=seconds,
            bars=bars,
            key=key,
            tempo=tempo,
            metre=metre,
            faders=faders or {},
            ending=ending,
            seed=seed,
        )
        return plan_piece(request, self.model.harmony)

    def perform(
        self,
        plan: MusicPlan,
        *,
        forced: Forced | None = None,
        material: Material | None = None,
        ensemble: str = "piano",
        callback_on_step_end: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> MusicPiece:
        """The piece of a plan. A tune that stands in the training songs is composed again, up to four times."""
        composer = Composer(self._writer, self.model.scale, self.options)
        longest = 0
        for attempt in range(_ATTEMPTS):
            composition = composer(
                plan,
                seed=plan.seed + 1_000_003 * attempt,
                forced=forced,
                progress=callback_on_step_end,
                cancel=cancel,
            )
            if material is None:
                composition = self._levelled(_recoloured(composition, plan), plan)
            score = score_of(composition, plan, ensemble=ensemble)
            if material is not None:
                score = spliced(score, plan, material)
            copy = self.check.report(encode(score))
            if not copy.copied or material is not None:  # what was given may be one of those songs
                return MusicPiece(score=score, plan=plan, composition=composition, copy=copy)
            longest = max(longest, copy.longest)
        raise PolicyError(
            f"every attempt repeats {longest} notes of a song that was learned from: use another --seed"
        )

    def _planned(
        self,
        request: MusicRequest,
        like: str | Path | Score | None,
        mode: str,
        infill: tuple[int, int] | None,
        metre: str | None,
    ) -> tuple[MusicPlan, Forced | None, Material | None]:
        if like is None:
            return plan_piece(request, self.model.harmony), None, None
        if mode not in MODES:
            raise UsageError(f"unknown mode {mode!r}: use {', '.join(MODES)}")
        material = read_material(like)
        if metre is not None and metre != material.metre:
            raise UsageError(f"{material.name} is in {material.metre}, not in {metre}: leave --metre away")
        request = dataclasses.replace(request, metre=material.metre)
        if infill is not None:
            plan, forced = infill_plan(request, material, infill)
        else:
            plan, forced = like_plan(request, material, mode, self.model.harmony)
        return plan, forced, material

    def _levelled(self, composition: Composition, plan: MusicPlan) -> Composition:
        """The same notes played louder or softer where the arousal, or a velocity that was asked for, is missed."""
        found = bar_attributes(encode(score_of(composition, plan)))
        count = len(plan.bars)
        if "velocity" in plan.bars[0].told:
            middles = self.model.scale.middles[FADERS.index("velocity")]
            level = np.array([bar.faders["velocity"] for bar in plan.bars])
            missed = np.interp(level, np.arange(len(middles)), middles) - _padded(found.velocity, count)
        else:
            asked = np.arctanh(np.clip([bar.vad[1] for bar in plan.bars], -0.95, 0.95))
            missed = (2.0 * _WIDER * asked - _padded(_arousal(found), count)) * _SOFT
        moves = np.clip(np.round(missed / 4.0), -_MOST_MOVE, _MOST_MOVE).astype(np.int64)
        return dataclasses.replace(composition, bars=levelled(composition.bars, moves.tolist()))


def _recoloured(composition: Composition, plan: MusicPlan) -> Composition:
    """The same notes held longer or shorter where the valence, or a mode that was asked for, is missed."""
    if "mode" in plan.bars[0].told:
        wanted = valence_at(np.array([bar.faders["mode"] for bar in plan.bars]))
    else:
        found = _standard(bar_attributes(encode(score_of(composition, plan))))
        beside = np.where(np.isin(ATTRIBUTES, ("major", "clarity")), 0.0, WEIGHTS[0])
        asked = 2.0 * np.arctanh(np.clip([bar.vad[0] for bar in plan.bars], -0.95, 0.95))
        wanted = np.clip(asked - _padded(found @ beside, len(plan.bars)), -_MOST_COLOUR, _MOST_COLOUR)
    rows = coloured(note_rows(composition.bars, plan.steps), plan, wanted)
    return dataclasses.replace(composition, lengths=rows[:, 1])


def _standard(found: BarAttributes) -> Float64[np.ndarray, "bar attribute"]:
    """The attributes of each bar as the formula weighs them."""
    values = np.stack([getattr(found, name) for name in ATTRIBUTES], axis=1).astype(np.float64)
    return (values - CENTRE) / SCALE


def _arousal(found: BarAttributes) -> Float64[np.ndarray, "bar"]:
    """The formula's arousal of each bar before it saturates."""
    return _standard(found) @ WEIGHTS[1]


def _padded(values: np.ndarray, count: int) -> Float64[np.ndarray, "bar"]:
    """The values of the first bars; what lies past the last note sounds like it."""
    return np.append(values, np.repeat(values[-1:], max(count - len(values), 0)))[:count].astype(np.float64)
