"""The plan of a piece: key, tempo, phrases that come back, chords with cadences, and what every bar should feel like.

A plan is plain data. Edit it with `dataclasses.replace` or `MusicPlan.with_bar` and give it to `MusicComposer.perform`.
"""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float, Float64, Int64

from affetto.conditioning.emotion import Emotion
from affetto.conditioning.track import EmotionTrack
from affetto.generators.music.adapter import faders_of, music_vad, tempo_of
from affetto.generators.music.composer_data import canonical_shift
from affetto.generators.music.composer_net import FADERS
from affetto.generators.music.harmony import MAJOR, MINOR, HarmonyModel, implied_valence
from affetto.media.music import KEYS
from affetto.runtime.errors import UsageError
from affetto.tokenizers.vocabulary import chord_id, chord_name, transposed_chords

METRES: Mapping[str, int] = {"4/4": 16, "3/4": 12, "2/4": 8}
"""Metres that can be composed in, with their sixteenths."""
ENDINGS = ("cadence", "open", "loop")
MIN_BPM, MAX_BPM = 30.0, 240.0
MAX_BARS = 512
Feeling = str | Emotion | EmotionTrack | None
_PHRASE = 4
_FORMS = {1: "A", 2: "AA", 3: "ABA", 4: "AABA", 5: "AABCA", 6: "AABBCA", 7: "AABACCA"}
_BLOCKS = ("AABA", "CCDA", "EEBA")
_ALL_MINOR, _ALL_MAJOR = 2.9, 3.8
"""Mean level of the mode fader over two bars at which they are surely in either mode; between, a share is in minor."""

_PROGRESSIONS = 96  # drawn for each phrase
_STRICT = 2.0  # how soon those are left behind that miss the valence asked for
_STILL = 0.3  # cost of a bar on the chord of the one before, in units of valence
_VALENCE_OF_LEVEL = 0.5  # of the formula, before it saturates, for a level of the mode fader
_DARKNESS_OF_LEVEL = (
    0.65  # below the middle: over eight seconds minor chords sound less dark than each by itself
)
_OTHERS = 0.2  # what length, density and register add to the valence of usual bars
_REACH = (-2.2, 2.2)  # what mode and clarity can add
_SAME_MODE = 1.0  # levels of the mode fader within which a section may bring its chords back
_TONICS = (0, 2, 3, 5, 7, 9, 10)  # keys to choose from when none is asked for, as major tonics
_RITARD = (0.93, 0.84)  # of the tempo in the last bars before an ending


@dataclass(frozen=True, kw_only=True)
class BarPlan:
    """One bar: where it stands in the form, its chords, its pace and its feeling."""

    phrase: int  # index of the phrase
    section: str  # letter, with a prime for each return
    mode: str  # major or minor
    chords: tuple[str, ...]  # sounding names such as G_M, one for each quarter of the bar
    bpm: float
    vad: tuple[float, float, float]  # on the music chart
    faders: Mapping[str, float] = field(default_factory=dict)  # levels 0..8
    told: tuple[str, ...] = ()  # faders that were asked for, not derived from the emotion
    repeats: int | None = None  # the bar it brings back
    alike: int = 0  # how closely, 1..4
    melody: bool = True  # whether the tune sounds


@dataclass(frozen=True, kw_only=True)
class MusicPlan:
    """A piece before its notes: see the module."""

    tonic: int  # of the major key that shares the signature, 0 = C
    metre: str
    bars: tuple[BarPlan, ...]
    ending: str  # one of ENDINGS
    seed: int

    @property
    def steps(self) -> int:
        """Sixteenths in a bar."""
        return METRES[self.metre]

    @property
    def beats(self) -> float:
        """Quarter notes in a bar."""
        return self.steps / 4

    @property
    def shift(self) -> int:
        """Semitones from C major or A minor to what sounds, -6..5."""
        return -int(canonical_shift(self.tonic))

    @property
    def key(self) -> str:
        """The key the piece ends in, such as `F major`."""
        minor = self.bars[-1].mode == "minor"
        return KEYS[12 + (self.tonic + 9) % 12] if minor else KEYS[self.tonic]

    @property
    def bar_seconds(self) -> Float64[np.ndarray, "bar"]:
        """How long each bar lasts."""
        return np.array([self.beats * 60.0 / bar.bpm for bar in self.bars])

    @property
    def starts(self) -> Float64[np.ndarray, "edge"]:
        """When each bar begins, and when the last ends, in seconds."""
        return np.concatenate([[0.0], np.cumsum(self.bar_seconds)])

    @property
    def seconds(self) -> float:
        """How long the piece lasts."""
        return float(self.starts[-1])

    def with_bar(self, index: int, **changes: Any) -> "MusicPlan":
        """The same plan with fields of one bar changed."""
        bars = list(self.bars)
        bars[index] = dataclasses.replace(bars[index], **changes)
        return dataclasses.replace(self, bars=tuple(bars))

    def with_chords(self, chords: Sequence[str]) -> "MusicPlan":
        """The same plan over other chords: one for each bar, or several in a bar joined by `|`; repeated to fill it."""
        if not chords:
            raise UsageError("no chords were given: write names such as C_M A_m F_M G_7")
        bars = []
        for index, bar in enumerate(self.bars):
            names = chords[index % len(chords)].split("|")
            for name in names:
                chord_id(name)
            slots = tuple(names[slot * len(names) // 4] for slot in range(4))
            bars.append(dataclasses.replace(bar, chords=slots))
        return dataclasses.replace(self, bars=tuple(bars))


@dataclass(frozen=True, kw_only=True)
class MusicRequest:
    """What a piece should be, before it is planned; None leaves the choice to the composer."""

    emotion: Feeling = None
    seconds: float | None = None
    bars: int | None = None
    key: str | None = None
    tempo: float | None = None
    metre: str = "4/4"
    faders: Mapping[str, float] = field(default_factory=dict)
    ending: str = "cadence"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.metre not in METRES:
            raise UsageError(f"no music is composed in {self.metre!r}: use {', '.join(METRES)}")
        if self.ending not in ENDINGS:
            raise UsageError(f"unknown ending {self.ending!r}: use {', '.join(ENDINGS)}")
        if self.bars is not None and not 1 <= self.bars <= MAX_BARS:
            raise UsageError(f"a piece has 1 to {MAX_BARS} bars, got {self.bars}")
        if self.seconds is not None and not 1.0 <= self.seconds <= 1800.0:
            raise UsageError(f"a piece lasts 1 to 1800 s, got {self.seconds:g}")
        if self.tempo is not None and not MIN_BPM <= self.tempo <= MAX_BPM:
            raise UsageError(
                f"a tempo lies in {MIN_BPM:g}..{MAX_BPM:g} quarter notes a minute, got {self.tempo:g}"
            )
        for name, level in self.faders.items():
            if name not in FADERS:
                raise UsageError(f"no fader is called {name!r}: use {', '.join(FADERS)}")
            if not 0.0 <= level <= 8.0:
                raise UsageError(f"fader {name} lies in 0..8, got {level:g}")


def parse_key(text: str) -> tuple[int, str | None]:
    """(the major tonic that shares its signature, mode or None) of a key such as `F major`, `c# minor`, `Am` or `Bb`."""
    names = {"c": 0, "d": 2, "e": 4, "f": 5, "g": 7, "a": 9, "b": 11}
    word = text.strip()
    head, rest = word[:1].lower(), word[1:]
    if head not in names:
        raise UsageError(f"unknown key {text!r}: write C, F# major, Bb minor or Am")
    tonic = names[head]
    while rest[:1] in ("#", "b", "\u266f", "\u266d"):
        tonic += 1 if rest[0] in "#\u266f" else -1
        rest = rest[1:]
    mode = {"": None, "major": "major", "maj": "major", "minor": "minor", "min": "minor", "m": "minor"}
    rest = rest.strip(" -_:")
    if rest != "M" and rest.lower() not in mode:
        raise UsageError(f"unknown key {text!r}: write C, F# major, Bb minor or Am")
    found = "major" if rest == "M" else mode[rest.lower()]
    return (tonic + (3 if found == "minor" else 0)) % 12, found


def phrase_lengths(bars: int) -> list[int]:
    """Phrases of four bars; what remains lengthens the last, or is a phrase of three."""
    if bars < 2 * _PHRASE - 1:
        return [bars]
    whole, left = divmod(bars, _PHRASE)
    if left == 3:
        return [_PHRASE] * whole + [3]
    return [_PHRASE] * (whole - 1) + [_PHRASE + left]


def section_letters(phrases: int) -> str:
    """The letters of a piece's phrases, such as AABA; equal letters are the same music."""
    if phrases in _FORMS:
        return _FORMS[phrases]
    text = "".join(_BLOCKS[block % len(_BLOCKS)] for block in range(-(-phrases // 4)))
    return text[: phrases - 1] + "A"


def plan_piece(request: MusicRequest, harmony: HarmonyModel) -> MusicPlan:
    """The plan of a new piece; the same request gives the same plan."""
    rng = np.random.default_rng([request.seed, 1])
    tonic, fixed_mode = _key(request, rng)
    count, vad, bpm = _timing(request)
    levels = faders_of(vad)
    for name, level in request.faders.items():
        levels[:, FADERS.index(name)] = level
    lengths = phrase_lengths(count)
    letters = section_letters(len(lengths))
    starts = np.concatenate([[0], np.cumsum(lengths)])
    mode_level = levels[:, FADERS.index("mode")]
    modes = _modes(mode_level, starts, fixed_mode, seed=request.seed)
    bars: list[BarPlan] = []
    first_of: dict[str, int] = {}
    returns: dict[str, int] = {}
    line: np.ndarray = np.zeros((0, 2), np.int64)
    for phrase, (letter, length) in enumerate(zip(letters, lengths, strict=True)):
        at = int(starts[phrase])
        source = first_of.get(letter)
        final = phrase == len(lengths) - 1
        ending = _phrase_ending(request.ending, final=final, half=phrase % 2 == 0)
        here = slice(at, at + length)
        own = modes[here]
        kept = 0  # bars of the section's first appearance that come back, up to where it must close otherwise
        same_mode = source is not None and own[:2] == modes[source : source + 2]
        if source is not None and same_mode:
            kept = max(min(length, lengths[letters.index(letter)]) - (2 if final else 1), 0)
            kept = _alike(mode_level[here], mode_level[source:], kept)
        chords = _chosen(
            rng,
            harmony,
            own,
            mode_level[here],
            np.clip(vad[here, 1], -1, 1),
            earlier=line[-2:],
            ending=ending,
            returned=line[source : source + kept] if source is not None else line[:0],
        )
        line = np.concatenate([line, chords])
        returns[letter] = returns.get(letter, -1) + 1
        for offset in range(length):
            index = at + offset
            repeats, alike = _return(rng, offset, length, source if same_mode else None, at, final=final)
            bars.append(
                BarPlan(
                    phrase=phrase,
                    section=letter + "'" * returns[letter],
                    mode=modes[index],
                    chords=_sounding(chords[offset], tonic),
                    bpm=float(bpm[index]),
                    vad=(float(vad[index, 0]), float(vad[index, 1]), float(vad[index, 2])),
                    faders={name: float(levels[index, i]) for i, name in enumerate(FADERS)},
                    told=tuple(request.faders),
                    repeats=repeats,
                    alike=alike,
                )
            )
        first_of.setdefault(letter, at)
    return MusicPlan(
        tonic=tonic, metre=request.metre, bars=tuple(bars), ending=request.ending, seed=request.seed
    )


def _key(request: MusicRequest, rng: np.random.Generator) -> tuple[int, str | None]:
    drawn = int(rng.choice(_TONICS))  # drawn in any case, so that naming a key changes nothing else
    return (drawn, None) if request.key is None else parse_key(request.key)


def _phrase_ending(ending: str, *, final: bool, half: bool) -> str:
    if final:
        return {"cadence": "cadence", "loop": "turn", "open": "open"}[ending]
    return "half" if half else "open"


def _modes(level: Float[np.ndarray, "bar"], starts: np.ndarray, fixed: str | None, *, seed: int) -> list[str]:
    """The mode of each bar, two bars at a time: of what is only a little dark a share is in the relative minor.

    What one pair of bars has too much of either mode is made good by the next; the seed says who begins.
    """
    modes: list[str] = []
    owed = float(np.random.default_rng([seed, 4]).uniform(-0.5, 0.5))
    for a, b in itertools.pairwise(starts.tolist()):
        for at in range(a, b, 2):
            until = min(at + 2, b) if b - at != 3 else b
            if len(modes) >= until:
                continue
            dark = float(np.clip((_ALL_MAJOR - level[at:until].mean()) / (_ALL_MAJOR - _ALL_MINOR), 0.0, 1.0))
            minor = dark >= 1.0 or (dark > 0.0 and owed + dark >= 0.5)
            owed = 0.0 if dark in (0.0, 1.0) else owed + dark - float(minor)
            modes += [fixed or ("minor" if minor else "major")] * (until - at)
    return modes


def _alike(level: np.ndarray, source: np.ndarray, most: int) -> int:
    """How many bars from the first, at most `most`, should be as major as those they would bring back."""
    apart = np.abs(level[:most] - source[:most]) > _SAME_MODE
    return int(apart.argmax()) if apart.any() else most


def _chosen(
    rng: np.random.Generator,
    harmony: HarmonyModel,
    modes: list[str],
    level: Float[np.ndarray, "bar"],
    busy: Float[np.ndarray, "bar"],
    *,
    earlier: Int64[np.ndarray, "before 2"],
    ending: str,
    returned: Int64[np.ndarray, "kept 2"],
) -> Int64[np.ndarray, "bar 2"]:
    """Of many progressions the one whose tones are, bar by bar, as bright as they should be; what returns is kept."""
    wanted = valence_at(level)
    kept = len(returned)

    def missed(chords: Int64[np.ndarray, "draw some 2"]) -> Float64[np.ndarray, "draw some"]:
        """How far each bar is from its valence, after the bars before it and with those that return, and what stands still."""
        bars = chords.shape[1]
        known = np.concatenate([earlier, returned[:bars]])
        heard = np.concatenate(
            [np.broadcast_to(known, (len(chords), *known.shape)), chords[:, kept:]], axis=1
        )
        far = np.abs(implied_valence(heard) - np.append(np.zeros(len(earlier)), wanted)[: heard.shape[1]])
        far[:, 1:] += _STILL * ((heard[:, 1:] == heard[:, :-1, 1:]).all(axis=2))
        return far[:, len(earlier) :]

    drawn = harmony.draw(
        rng,
        len(modes),
        modes=[MINOR if mode == "minor" else MAJOR for mode in modes],
        bright=np.clip((level - 4.0) / 4.0, -1, 1),
        busy=busy,
        before=int(earlier[-1, 1]) if len(earlier) else None,
        ending=ending,
        count=_PROGRESSIONS,
        missed=lambda chords: _STRICT * missed(chords)[:, -1],
    )
    best = drawn[int(missed(drawn).mean(axis=1).argmin())]
    return np.concatenate([returned, best[kept:]])


def valence_at(level: Float[np.ndarray, "*bar"]) -> Float64[np.ndarray, "*bar"]:
    """What mode and clarity should add to the valence of bars (`mode_valence`) at a level of the mode fader."""
    away = np.asarray(level, np.float64) - 4.0
    steep = np.where(away < 0, _DARKNESS_OF_LEVEL, _VALENCE_OF_LEVEL)
    return np.asarray(np.clip(away * steep - _OTHERS, *_REACH), np.float64)


def _return(
    rng: np.random.Generator, offset: int, length: int, source: int | None, at: int, *, final: bool
) -> tuple[int | None, int]:
    """Which earlier bar a bar brings back, and how closely (1..4)."""
    drawn = rng.random()
    closing = length - (2 if final else 1)
    if source is not None and offset < closing and offset < _PHRASE:
        return source + offset, 4
    if offset >= 2 and offset < closing + 1 and drawn < 0.5:  # a motif within the phrase
        return at + offset - 2, 2
    return None, 0


def _sounding(halves: np.ndarray, tonic: int) -> tuple[str, ...]:
    names = [chord_name(int(chord)) for chord in transposed_chords(halves, tonic)]
    return (names[0], names[0], names[1], names[1])


def _timing(
    request: MusicRequest,
) -> tuple[int, Float64[np.ndarray, "bar 3"], Float64[np.ndarray, "bar"]]:
    """The number of bars, the emotion and the tempo of each.

    When a bar sounds depends on the tempo and the tempo on what is felt there, so both are settled in turns.
    """
    beats = METRES[request.metre] / 4
    seconds = request.seconds if request.seconds is not None or request.bars is not None else 30.0
    nudge = float(np.exp(0.05 * np.random.default_rng([request.seed, 3]).uniform(-1, 1)))

    def pace(vad: np.ndarray) -> np.ndarray:
        return np.full(len(vad), request.tempo) if request.tempo is not None else tempo_of(vad) * nudge

    count = request.bars
    if count is None:
        assert seconds is not None
        ticks = np.arange(0.0, seconds, 0.25)
        count = max(
            round(
                float((pace(music_vad(request.emotion, ticks, seed=request.seed)) / 60 * 0.25).sum()) / beats
            ),
            1,
        )
    length = np.full(count, (seconds or count * beats * 0.65) / count)
    vad, bpm = np.zeros((count, 3)), np.full(count, 90.0)
    for _ in range(6):
        centres = np.cumsum(length) - length / 2
        vad = music_vad(request.emotion, centres, seed=request.seed)
        bpm = pace(vad)
        if request.ending == "cadence" and request.tempo is None and count >= 4:
            bpm[-2:] *= _RITARD
        length = beats * 60.0 / bpm
        if seconds is not None:
            bpm *= length.sum() / seconds
            length = beats * 60.0 / bpm
    if not (bpm.min() >= MIN_BPM and bpm.max() <= MAX_BPM):
        raise UsageError(
            f"{count} bars in {seconds:g} s need {bpm.mean():.0f} quarter notes a minute, outside {MIN_BPM:g}..{MAX_BPM:g}:"
            " give other --bars or --seconds"
        )
    return count, vad, bpm


def bar_feeling_distance(a: BarPlan, b: BarPlan) -> float:
    """How differently two bars should feel: the largest of their differences in VAD and, in shares, in faders."""
    vad = max(abs(x - y) for x, y in zip(a.vad, b.vad, strict=True))
    faders = max(
        (abs(a.faders[name] - b.faders[name]) / 8 for name in a.faders if name in b.faders), default=0.0
    )
    return max(vad, faders) if not math.isnan(vad) else faders
