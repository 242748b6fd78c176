"""Chord progressions in C major and A minor: counted from songs, drawn so that they begin and close as asked."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int64
from scipy.ndimage import correlate1d

from affetto.media.music import mode_valence
from affetto.tokenizers.attributes import KEY_NEAR
from affetto.tokenizers.chords import chord_root, chord_tones
from affetto.tokenizers.vocabulary import FIRST_CHORD, QUALITIES, chord_id

MAJOR, MINOR = 1, 2
_TONIC = {MAJOR: ("C_M",), MINOR: ("A_m",)}
_DOMINANT = {MAJOR: ("G_M", "G_7", "G_sus4"), MINOR: ("E_M", "E_7", "E_sus4", "E_m")}
_BEFORE_TONIC = {MAJOR: ("F_M", "F_m", "D_m", "D_m7"), MINOR: ("D_m", "F_M", "G_M", "D_m7")}
_TILT = 1.2  # nats towards major chords at the brightest
_NATURAL = 0.5  # how bright a major key is by itself, and a minor key dark
_BORROWED = 0.4  # chords from outside the key are rarer than in songs, which change key
_HELD = 0.1  # a chord is held over a bar line less often than in songs, whose intros and endings stand still
_ORDERS = (0.72, 0.22, 0.06)  # weight of what follows two chords, one chord, none
_BRIGHT = {
    "M": 1.0,
    "7": 0.5,
    "M7": 0.8,
    "+": 0.2,
    "sus2": 0.1,
    "sus4": 0.1,
    "m": -1.0,
    "m7": -0.8,
}  # others -1


@dataclass(frozen=True, kw_only=True, eq=False)
class HarmonyModel:
    """How chords follow each other, half a bar at a time, by mode and place in the bar."""

    chords: Int64[np.ndarray, "chord"]  # ids of the vocabulary
    counts: Float32[
        np.ndarray, "2 2 before chord then"
    ]  # mode - 1, half of the bar, two chords ago (last = none), ...

    @classmethod
    def fit(
        cls,
        songs: Sequence[tuple[Int64[np.ndarray, "bar slot"], Int64[np.ndarray, "bar"]]],
        *,
        most: int = 34,
    ) -> "HarmonyModel":
        """The model of songs given as (chords of each bar in quarters, mode of each bar)."""
        halves = [chords[:, [0, 2]].reshape(-1) for chords, _ in songs]
        seen = np.bincount(np.concatenate(halves), minlength=FIRST_CHORD + 12 * len(QUALITIES))
        seen[:FIRST_CHORD] = 0
        kept = np.sort(np.argsort(-seen, kind="stable")[:most])
        index = np.full(len(seen), -1)
        index[kept] = np.arange(most)
        counts = np.zeros((2, 2, most + 1, most, most), np.float32)
        for line, (_, mode) in zip(halves, songs, strict=True):
            own = index[line]
            for at in range(1, len(own)):
                before = own[at - 2] if at > 1 else -1
                if own[at - 1] >= 0 and own[at] >= 0:
                    counts[mode[at // 2] - 1, at % 2, before, own[at - 1], own[at]] += 1
        return cls(chords=kept, counts=counts)

    def _table(self, mode: int, half: int) -> Float64[np.ndarray, "before chord then"]:
        """P(then | before, chord), from counts of two chords, one and none."""
        counts = self.counts[mode - 1, half].astype(np.float64)
        longer = counts + 1e-9
        one = counts.sum(axis=0) + 1e-9
        none = one.sum(axis=0)
        enough = counts.sum(axis=2, keepdims=True) / (counts.sum(axis=2, keepdims=True) + 4.0)
        first = _ORDERS[0] * enough
        rest = 1.0 - first
        share = _ORDERS[1] / (_ORDERS[1] + _ORDERS[2])
        return (
            first * longer / longer.sum(axis=2, keepdims=True)
            + rest * share * (one / one.sum(axis=1, keepdims=True))[None]
            + rest * (1 - share) * (none / none.sum())[None, None]
        )

    def draw(
        self,
        rng: np.random.Generator,
        bars: int,
        *,
        modes: Sequence[int],
        bright: Float[np.ndarray, "bar"],
        busy: Float[np.ndarray, "bar"],
        before: int | None = None,
        ending: str = "open",
        temperature: float = 0.75,
        count: int = 1,
        missed: Callable[[Int64[np.ndarray, "draw some 2"]], Float64[np.ndarray, "draw"]] | None = None,
    ) -> Int64[np.ndarray, "draw bar 2"]:
        """Chord ids for each half of `bars` bars, `count` times, drawn given how they must end.

        `modes` holds MAJOR or MINOR for each bar, `bright` (-1..1) favours major or minor chords, `busy` (-1..1) changes within the bar. `before` is the chord that
        sounded last. `ending`: `cadence` closes on the tonic after a dominant, `half` hangs on the dominant, `turn` leads
        back to the beginning, `open` is free.
        """
        size, steps = len(self.chords), 2 * bars
        wanted = self._wishes(modes, bright=bright, ending=ending, fresh=before is None)
        tables = []
        for step in range(steps):
            table = self._table(modes[step // 2], step % 2) ** (1.0 / temperature)
            if step % 2:  # the second half stays, the quieter the more
                table = table * np.where(np.eye(size, dtype=bool), np.exp(0.5 - 0.9 * busy[step // 2]), 1.0)
            else:
                table = table * np.where(np.eye(size, dtype=bool), _HELD, 1.0)
            table = table * wanted[step]
            tables.append(table)
        messages = _backward(tables)
        start = None if before is None else self._index(before)
        line = np.zeros((count, steps), np.int64)
        for step in range(steps):
            if step == 0 and start is None:
                usual = self.counts[modes[0] - 1].sum(axis=(0, 1, 2)).astype(np.float64)
                p = np.tile(usual * wanted[0] * messages[0].mean(axis=0), (count, 1))
            else:
                one = np.full(count, start) if step == 0 else line[:, step - 1]
                none = np.full(count, -1 if start is None or step == 0 else start)
                two = line[:, step - 2] if step > 1 else none
                p = tables[step][two, one] * messages[step][one]
            edges = np.cumsum(p, axis=1)
            drawn = (edges < rng.random((count, 1)) * edges[:, -1:]).sum(axis=1)
            line[:, step] = np.minimum(drawn, size - 1)
            if missed is not None and step % 2:  # the better a line is so far, the more of it go on
                fitness = np.exp(-missed(self.chords[line[:, : step + 1]].reshape(count, -1, 2)))
                edges = np.cumsum(fitness / fitness.sum())
                line = line[np.searchsorted(edges, (np.arange(count) + 0.5) / count).clip(max=count - 1)]
        return self.chords[line].reshape(count, bars, 2)

    def _among(self, names: Sequence[str]) -> Bool[np.ndarray, "chord"]:
        return np.isin(self.chords, [chord_id(name) for name in names])

    def _index(self, chord: int) -> int | None:
        found = np.flatnonzero(self.chords == chord)
        return int(found[0]) if len(found) else None

    def _wishes(
        self, modes: Sequence[int], *, bright: np.ndarray, ending: str, fresh: bool
    ) -> Float64[np.ndarray, "half chord"]:
        bars, mode = len(modes), modes[-1]
        brightness = np.array([_brightness(int(chord)) for chord in self.chords])
        even = bright - _NATURAL * np.where(np.array(modes) == MAJOR, 1.0, -1.0)
        wanted = np.exp(_TILT * np.repeat(even, 2)[:, None] * brightness)
        borrowed = np.array([not chord_classes_of(int(chord)) <= SCALE for chord in self.chords])
        usual = {each: self._among(_TONIC[each] + _DOMINANT[each]) for each in (MAJOR, MINOR)}
        for half, each in enumerate(np.repeat(modes, 2)):
            wanted[half] *= np.where(borrowed & ~usual[int(each)], _BORROWED, 1.0)
        if fresh:
            wanted[0] *= np.where(self._among(_TONIC[modes[0]]), 200.0, 1.0)
        sets = {
            name: self._among(table[mode])
            for name, table in (("tonic", _TONIC), ("dominant", _DOMINANT), ("before", _BEFORE_TONIC))
        }
        if ending == "cadence":
            wanted[-2:] *= np.where(sets["tonic"], 1.0, 0.0)
            if bars > 1:
                wanted[-3] *= np.where(sets["dominant"], 40.0, np.where(sets["before"], 4.0, 0.02))
                wanted[-4] *= np.where(sets["before"] | sets["dominant"], 3.0, 1.0)
        elif ending in ("half", "turn"):
            wanted[-1] *= np.where(
                sets["dominant"], 12.0 if ending == "half" else 40.0, np.where(sets["tonic"], 0.2, 1.0)
            )
        return wanted


def _brightness(chord: int) -> float:
    """How major a chord of the scale is, -1..1; 0 for borrowed chords, which are no way to sound glad."""
    if not chord_classes_of(chord) <= SCALE:
        return 0.0
    return _BRIGHT.get(QUALITIES[(chord - FIRST_CHORD) % len(QUALITIES)], -1.0)


def _backward(tables: Sequence[Float64[np.ndarray, "before chord then"]]) -> list[np.ndarray]:
    """For each step how well things can still end, given the chord before and the one drawn there."""
    size = tables[0].shape[1]
    ahead = np.ones((size, size))
    messages = [ahead]
    for table in reversed(tables[1:]):
        ahead = np.einsum("abc,bc->ab", table[:size], messages[-1])
        ahead = ahead / max(ahead.max(), 1e-300)
        messages.append(ahead)
    return messages[::-1]


def implied_valence(chords: Int64[np.ndarray, "*draw bar half"]) -> Float64[np.ndarray, "*draw bar"]:
    """What the tones of chords add to the valence of each bar (`mode_valence`), heard among its neighbours."""
    found, index = np.unique(chords, return_inverse=True)
    weights = np.zeros((len(found), 12))
    for row, chord in enumerate(found.tolist()):
        for place, tone in enumerate(chord_tones(QUALITIES[(chord - FIRST_CHORD) % len(QUALITIES)])):
            weights[row, (chord_root(chord) + tone) % 12] += 1.6 if place == 0 else 1.0
    classes = weights[index.reshape(chords.shape)].sum(axis=-2)
    return mode_valence(correlate1d(classes, KEY_NEAR, axis=-2, mode="constant"))


def chord_classes_of(chord: int) -> frozenset[int]:
    """The pitch classes of a chord id; empty for no chord."""
    root = chord_root(chord)
    if root < 0:
        return frozenset()
    tones = chord_tones(QUALITIES[(chord - FIRST_CHORD) % len(QUALITIES)])
    return frozenset((root + tone) % 12 for tone in tones)


SCALE = frozenset((0, 2, 4, 5, 7, 9, 11))
"""The white keys: C major, and A minor without its leading note."""


def scale_classes(chord: int) -> frozenset[int]:
    """The pitch classes that fit while a chord sounds: its own, and those of the scale that do not rub against it."""
    own = chord_classes_of(chord)
    rubbing = {(tone + step) % 12 for tone in own - SCALE for step in (1, -1)}
    return own | (SCALE - rubbing)
