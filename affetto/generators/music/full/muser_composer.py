"""`MusERComposer`: pieces of the four quadrants from MusER's weights, and elements of one piece given to another."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from affetto.conditioning.emotion import Emotion
from affetto.conditioning.track import EmotionTrack
from affetto.generators.music.adapter import music_vad
from affetto.generators.music.full.muser import ELEMENTS
from affetto.generators.music.full.muser_decoding import MuserSampling, PieceSampler
from affetto.generators.music.full.muser_weights import (
    NETWORK_ID,
    PRIOR_ID,
    MuserWeights,
    prior_path,
)
from affetto.media.midi import Score, load_midi, save_midi
from affetto.provenance.manifests import Origin
from affetto.provenance.sealing import save_marked_audio, sealed
from affetto.runtime.device import resolve_device, resolve_dtype
from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError
from affetto.runtime.progress import CancelToken, ProgressCallback
from affetto.tokenizers.chords import with_chords
from affetto.tokenizers.compound import Words, decode
from affetto.tokenizers.muser_words import MUSER, encode_muser
from affetto.tokenizers.vocabulary import EMOTION, FAMILY, METRICAL, MOOD, NOTE_WORD, is_chord
from affetto.weights.registry import REGISTRY
from affetto.weights.store import weight_path

Feeling = str | Emotion | EmotionTrack | None

_GRID_S = 0.5
_SHORTEST_S = 4.0  # of a section; briefer turns of the emotion belong to the section before
_DEFAULT_S = 30.0
_BAR_S = 2.0  # of a bar, where only their number is known
_EMPTY_PIECES = 8  # in a row, after which a network counts as untrained
_SHORTEST_BEATS = 0.125  # of a note whose duration the words round to nothing


@dataclass(frozen=True, kw_only=True, eq=False)
class MuserPiece:
    """A finished piece, its words, and its sections: (second where it begins, quadrant 1..4)."""

    score: Score
    words: Words
    sections: tuple[tuple[float, int], ...]

    @property
    def seconds(self) -> float:
        """How long the piece lasts, its last bar included."""
        return float(self.score.seconds_of(4.0 * len(self.words.bar_steps)))

    def save(self, path: str | Path, *, rate: int = 44_100, soundfont: str | Path | None = None) -> Path:
        """Write a .mid file, or a .wav file played by the built-in piano, or by fluidsynth with a soundfont."""
        path = Path(path)
        origin = Origin(generator="music")
        if path.suffix.lower() in (".mid", ".midi"):
            with sealed(path, origin) as temporary:
                save_midi(temporary, self.score)
        elif path.suffix.lower() == ".wav":
            from affetto.generators.music.synth import render  # instruments are heavy and often not wanted

            save_marked_audio(path, render(self.score, rate=rate, soundfont=soundfont), origin)
        else:
            raise UsageError(f"{path}: music is written as .mid or .wav: change the suffix")
        return path


class MusERComposer:
    """Composes with MusER. It knows four feelings, the quadrants of valence and arousal, one for each section."""

    def __init__(
        self,
        weights: MuserWeights,
        *,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        sampling: MuserSampling | None = None,
    ) -> None:
        self.weights, self.device = weights, device
        self.network = weights.network.to(device).eval()
        prior = None if weights.prior is None else weights.prior.to(device).eval()
        self.sampler = PieceSampler(
            self.network, weights.ids, prior=prior, compact=weights.compact, sampling=sampling, dtype=dtype
        )

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path = NETWORK_ID,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
    ) -> "MusERComposer":
        """Load `muser` and `muser-prior` of the store, or a file of the recipe; it runs on `device` in `dtype`."""
        where, known = resolve_device(device), str(name) in REGISTRY
        if known and str(name) != NETWORK_ID:
            raise UsageError(f"{name!r} is no MusER network: use {NETWORK_ID!r} or a file")
        path = weight_path(NETWORK_ID) if known else _own_file(Path(name))
        weights = MuserWeights.load(path)
        if weights.needs_prior:
            weights = weights.with_prior(weight_path(PRIOR_ID) if known else _own_file(prior_path(path)))
        return cls(weights, device=where, dtype=resolve_dtype(dtype, where))

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
    ) -> MuserPiece:
        """A piece that feels like `emotion`, 30 s long unless told; called as `MusicComposer` is.

        The track is read on the music chart; each stretch within one quadrant is a section of its own (neutral is Q4),
        made of as many drawn pieces as it needs. `seconds` is kept to the bar, `bars` exactly. `like` gives its latents
        instead of drawn ones. What MusER cannot be told (key, tempo, faders ...) raises UsageError.
        """
        refused = {
            "key": key, "tempo": tempo, "faders": faders, "chords": chords, "infill": infill, "loop": loop or None,
            "metre": None if metre in (None, "4/4") else metre, "mode": None if mode == "vary" else mode,
            "ensemble": None if ensemble == "piano" else ensemble,
            "ending": None if ending == "cadence" else ending,
        }  # fmt: skip
        for option, value in refused.items():
            if value is not None:
                raise UsageError(
                    f"MusER cannot be told its {option}: leave it away, or use the embedded composer"
                )
        if (seconds is not None and not 1.0 <= seconds <= 3600.0) or (
            bars is not None and not 1 <= bars <= 999
        ):
            raise UsageError("MusER composes 1..3600 seconds and 1..999 bars: change --seconds or --bars")
        total = seconds or (_BAR_S * bars if bars else _DEFAULT_S)
        latents = None if like is None else self.latents_of(like)
        tell: dict[str, Any] = {"progress": callback_on_step_end, "cancel": cancel}
        return self._composed(sections_of(emotion, total, seed=seed), total, bars, seed, latents, tell)

    @torch.inference_mode()
    def latents_of(self, piece: str | Path | Score) -> Tensor:
        """The quantised latents (1, word, 112) of a MIDI file or score in bars of 4/4; its first 1,024 words count."""
        config = self.network.config
        if config.latent != "codes" or config.encodes != "target":
            raise UsageError("this variant of MusER gives no latents of elements: use MusER_TRANS_CA_GE")
        score = piece if isinstance(piece, Score) else load_midi(piece)
        ids = self.weights.ids.to_network(score_words(score, quadrant=1))[1 : config.length + 1]
        target = np.zeros((config.length, 8), np.int64)
        target[:, :EMOTION] = self.sampler.grammar.nothing
        target[: len(ids)] = ids
        return self.network.quantise(torch.from_numpy(target)[None].to(self.device)).z

    def transfer(
        self,
        piece: str | Path | Score,
        donor: str | Path | Score,
        *,
        elements: Sequence[str],
        quadrant: int,
        seed: int = 0,
        callback_on_step_end: ProgressCallback | None = None,
        cancel: CancelToken | None = None,
    ) -> MuserPiece:
        """`piece` with the latent slices of `elements` (names of `ELEMENTS`) from `donor`, written under `quadrant` 1..4.

        The places of the two pieces are not aligned: what lies on a bar word of one may lie on a note of the other.
        """
        if quadrant not in (1, 2, 3, 4):
            raise UsageError(f"quadrant {quadrant} is none of 1, 2, 3, 4")
        latents = spliced_latents(self.latents_of(piece), self.latents_of(donor), elements)
        tell: dict[str, Any] = {"progress": callback_on_step_end, "cancel": cancel}
        rng = np.random.default_rng([seed, 0])
        drawn = self._drawn(quadrant, rng, latents, tell)
        if not drawn:
            raise InvalidInputError("the network wrote no notes: it is not trained, or use another --seed")
        return _joined(drawn, ((0.0, quadrant),))

    def _composed(
        self,
        sections: Sequence[tuple[float, int]],
        total: float,
        bars: int | None,
        seed: int,
        latents: Tensor | None,
        tell: dict[str, Any],
    ) -> MuserPiece:
        written: list[Words] = []
        begins: list[tuple[float, int]] = []
        clock = 0.0
        for index, (_, quadrant) in enumerate(sections):
            final = index + 1 == len(sections)
            end = total if final else sections[index + 1][0]
            begins.append((clock, quadrant))
            stream = self._bars(quadrant, np.random.default_rng([seed, index]), latents, tell)
            while (len(written) < bars if bars and final else clock < end - _BAR_S / 4) and (
                not bars or len(written) < bars
            ):
                bar, lasts = next(stream)
                written.append(bar)
                clock += lasts
        return _joined(written, tuple(begins))

    def _bars(
        self, quadrant: int, rng: np.random.Generator, latents: Tensor | None, tell: dict[str, Any]
    ) -> Iterator[tuple[Words, float]]:
        """Bars of one quadrant and their seconds, from one drawn piece after another."""
        empty = 0
        while empty < _EMPTY_PIECES:
            found = self._drawn(quadrant, rng, latents, tell)
            empty = 0 if found else empty + 1
            bpm = 120.0
            for bar in found:
                bpm = float(np.median(_tempos(bar, bpm)))
                yield bar, 240.0 / bpm
        raise InvalidInputError(f"the network wrote {empty} pieces without notes: train it longer")

    def _drawn(
        self, quadrant: int, rng: np.random.Generator, latents: Tensor | None, tell: dict[str, Any]
    ) -> list[Words]:
        """The bars of one drawn piece, those without notes left out."""
        if latents is None:
            latents = self.sampler.latents([quadrant], [rng], **tell)
        ids = self.sampler.words(latents, [quadrant], [rng], **tell)[0]
        return sounding_bars(self.weights.ids.from_network(ids))


def _own_file(path: Path) -> Path:
    if not path.is_file():
        raise MissingResourceError(
            f"no MusER weights at {path}: train them with affetto train music-muser, or use {NETWORK_ID!r}"
        )
    return path


def quadrants_of(vad: np.ndarray) -> Int64[np.ndarray, "time"]:
    """The quadrant 1..4 of points on the music chart; the centre is Q4, the calm one."""
    pleasant, active = vad[:, 0] >= 0, vad[:, 1] > 0
    return np.where(active, np.where(pleasant, 1, 2), np.where(pleasant, 4, 3)).astype(np.int64)


def sections_of(emotion: Feeling, seconds: float, *, seed: int = 0) -> list[tuple[float, int]]:
    """(second, quadrant) where the track enters another quadrant and stays for four seconds."""
    times = np.arange(0.0, seconds, _GRID_S)
    quadrants = quadrants_of(music_vad(emotion, times, seed=seed))
    changes = np.flatnonzero(np.diff(quadrants, prepend=0))
    found: list[tuple[float, int]] = []
    for change, until in zip(changes, np.append(changes[1:], len(times)), strict=True):
        lasts = (until - change) * _GRID_S
        if not found or (lasts >= _SHORTEST_S and found[-1][1] != quadrants[change]):
            found.append((float(times[change]), int(quadrants[change])))
    return found


def sounding_bars(words: Words) -> list[Words]:
    """The bars of a piece that hold notes; MusER's reader leaves gaps of a bar out too."""
    found = []
    for bar in range(len(words.bar_steps)):
        inside = (words.bars == bar) & np.isin(words.ids[:, FAMILY], (METRICAL, NOTE_WORD))
        if (inside & words.is_note).any():
            found.append(dataclasses.replace(words, ids=words.ids[inside]))
    return found


def spliced_latents(latents: Tensor, donor: Tensor, elements: Sequence[str]) -> Tensor:
    """`latents` with the slices of `elements` from `donor`; raises UsageError for a name that is none of `ELEMENTS`."""
    width = latents.shape[-1] // len(ELEMENTS)
    spliced = latents.clone()
    for name in elements:
        if name not in ELEMENTS:
            raise UsageError(f"MusER has no element {name!r}: use {', '.join(ELEMENTS)}")
        own = slice(ELEMENTS.index(name) * width, (ELEMENTS.index(name) + 1) * width)
        spliced[..., own] = donor[..., own]
    return spliced


def score_words(score: Score, *, quadrant: int) -> Words:
    """A score as MusER reads it, its chords recognised where none are marked."""
    if len(score.pitched().notes) == 0:
        raise InvalidInputError("the piece holds no notes: give one with some")
    if not any(is_chord(text) for _, text in score.markers):
        score = with_chords(score)
    return encode_muser(score, quadrant=quadrant)


def _tempos(bar: Words, before: float) -> np.ndarray:
    values = bar.vocabulary.values[0][bar.ids[:, 0]]
    said = values[~np.isnan(values)]
    return said if len(said) else np.array([before])


def _joined(bars: Sequence[Words], sections: tuple[tuple[float, int], ...]) -> MuserPiece:
    """The piece of these bars, with a marker where each section begins."""
    mood = np.zeros((1, 8), np.int16)
    mood[:, FAMILY], mood[:, EMOTION] = MOOD, sections[0][1]
    words = Words(
        ids=np.concatenate([mood, *(bar.ids for bar in bars), np.zeros((1, 8), np.int16)]), vocabulary=MUSER
    )
    score = decode(words)
    notes = score.notes.copy()
    notes["duration"] = np.maximum(notes["duration"], _SHORTEST_BEATS)
    marks = tuple((float(score.beats_of(second)), f"Q{quadrant}") for second, quadrant in sections)
    score = dataclasses.replace(score, notes=notes, markers=tuple(sorted((*score.markers, *marks))))
    return MuserPiece(score=score, words=words, sections=sections)
