"""Training windows of the composer: stretches of songs, gaps to fill, and returns of far passages."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int16

from affetto.generators.music.composer_data import (
    FaderScale,
    SongBars,
    attribute_vad,
    bar_conditions,
    shifted_attributes,
)
from affetto.generators.music.composer_net import (
    BAR_COLUMNS,
    CHORD_SLOTS,
    COLUMN_INDEX,
    FADERS,
    ComposerBatch,
)
from affetto.generators.music.grammar import END, MELODY, SIZES


class Windows:
    """Training windows drawn from songs: whole stretches, gaps between two sides, and stretches after a far passage."""

    def __init__(self, songs: Sequence[SongBars], scale: FaderScale, *, words: int = 512) -> None:
        self.songs = [song for song in songs if len(song) >= 4]
        self.scale, self.words = scale, words
        sizes = np.array([len(song.words) for song in self.songs], np.float64)
        self.weight = sizes / sizes.sum()

    def batch(
        self, count: int, rng: np.random.Generator, *, plain: bool = False
    ) -> tuple[ComposerBatch, torch.Tensor]:
        """`count` windows and which of their words (from the second on) are to be predicted."""
        rows = [self._window(rng, plain=plain) for _ in range(count)]
        most = max(len(row["bars"]) for row in rows)
        fields_ = {
            "words": np.zeros((count, self.words, 6), np.int64),
            "segment": np.zeros((count, self.words), np.int64),
            "bar_of": np.zeros((count, self.words), np.int64),
            "bars": np.zeros((count, most, len(BAR_COLUMNS)), np.int64),
            "vad": np.zeros((count, most, 3), np.float32),
            "vad_known": np.zeros((count, most), bool),
            "counted": np.zeros((count, self.words), bool),
        }
        for index, row in enumerate(rows):
            for name, values in row.items():
                fields_[name][index, : len(values)] = values
        counted = torch.from_numpy(fields_.pop("counted"))
        return ComposerBatch(**{name: torch.from_numpy(values) for name, values in fields_.items()}), counted[
            :, 1:
        ]

    def _window(self, rng: np.random.Generator, *, plain: bool) -> dict[str, np.ndarray]:
        song = self.songs[rng.choice(len(self.songs), p=self.weight)]
        kind = 0.0 if plain else rng.random()
        parts = self._parts(song, rng, kind)
        pieces, segments, counted = [], [], []
        for words, segment in parts:
            pieces.append(words)
            segments.append(np.full(len(words), segment))
            count = np.ones(len(words), bool)
            count[0] = False  # the word that opens a part is given
            counted.append(count)
        words = np.concatenate(pieces)[: self.words].astype(np.int64)
        louder = 0 if plain or song.source == "chorale" else int(rng.integers(-11, 4))
        sounds = words[:, 0] >= MELODY
        words[sounds, 5] = np.clip(words[sounds, 5] + louder, 1, SIZES["velocity"] - 1)
        first = int(words[:, 1].min())
        last = int(words[:, 1].max())
        told = self._told(song, first, last + 1, rng, louder=4.0 * louder, plain=plain)
        bar_of = words[:, 1] - first
        words[:, 1] = bar_of
        return {
            "words": words,
            "segment": np.concatenate(segments)[: self.words],
            "bar_of": bar_of,
            "counted": np.concatenate(counted)[: self.words],
            **told,
        }

    def _parts(self, song: SongBars, rng: np.random.Generator, kind: float) -> list[tuple[np.ndarray, int]]:
        """(words, segment) of the parts of a window in the order they are read; segment 0 is what is written."""
        count, starts = len(song), song.starts
        begin = int(rng.integers(0, max(count - 3, 1))) if rng.random() > 0.1 else 0

        def take(a: int, b: int) -> np.ndarray:
            return song.words[starts[a] : starts[min(b, count)]]

        end = int(np.searchsorted(starts, starts[begin] + self.words, side="right"))
        end = min(max(end, begin + 2), count)
        if kind < 0.5 or end - begin < 6:
            return [(self._closed(song, take(begin, end), end), 0)]
        if kind < 0.75:
            gap = int(rng.integers(1, min(8, end - begin - 3) + 1))
            at = int(rng.integers(begin + 1, end - gap))
            target = np.concatenate([take(at, at + gap), _end_word(at + gap - 1)])
            return [(take(begin, at), 1), (take(at + gap, end), 2), (target, 0)]
        alike = [
            bar for bar in range(begin, end) if song.source_bar[bar] >= 0 and song.source_bar[bar] < begin - 1
        ]
        if not alike:
            return [(self._closed(song, take(begin, end), end), 0)]
        source = int(song.source_bar[alike[len(alike) // 2]])
        far = max(source - int(rng.integers(0, 4)), 0)
        until = min(far + int(rng.integers(3, 8)), begin)
        head = take(far, until)
        room = self.words - len(head)
        stop = int(np.searchsorted(starts, starts[begin] + max(room, 64), side="right"))
        stop = min(max(stop, begin + 2), count)
        return [(head, 1), (self._closed(song, take(begin, stop), stop), 0)]

    @staticmethod
    def _closed(song: SongBars, words: np.ndarray, end: int) -> np.ndarray:
        return np.concatenate([words, _end_word(end - 1)]) if end >= len(song) else words

    def _told(
        self, song: SongBars, first: int, last: int, rng: np.random.Generator, *, louder: float, plain: bool
    ) -> dict[str, np.ndarray]:
        """What the plan tells about the bars of a window, some of it withheld."""
        bars = slice(first, last)
        count = last - first
        shift = 0 if plain else int(rng.integers(-6, 6))
        faster = 1.0 if plain else float(np.exp(rng.uniform(-0.25, 0.25)))
        attributes = shifted_attributes(
            song.attributes[bars], semitones=float(shift), louder=louder, faster=faster
        )
        levels = self.scale.levels(attributes[:, : len(FADERS)])
        vad = attribute_vad(attributes)
        known = np.ones(count, bool)
        rows = bar_conditions(
            levels=levels,
            mode=song.mode[bars],
            bpm=song.bpm[bars] * faster,
            remaining=len(song) - 1 - np.arange(first, last),
            shift=np.full(count, shift),
            steps=song.steps[bars],
            melody=song.melody[bars],
            lag=song.lag[bars],
            likeness=song.likeness[bars],
            chords=song.chords[bars],
            next_chord=np.append(song.chords[1:, 0], song.chords[-1:, 0])[bars],
        )
        if song.source == "chorale":
            rows[:, COLUMN_INDEX["fader_velocity"]] = 0
            known[:] = False
        if not plain:
            self._withhold(rows, known, rng)
        return {"bars": rows, "vad": vad.astype(np.float32), "vad_known": known}

    @staticmethod
    def _withhold(rows: np.ndarray, known: np.ndarray, rng: np.random.Generator) -> None:
        if rng.random() < 0.15:
            known[:] = False
        everything = rng.random() < 0.1
        for name in FADERS:
            if everything or rng.random() < 0.3:
                rows[:, COLUMN_INDEX[f"fader_{name}"]] = 0
        for name, chance in (
            ("tempo", 0.1),
            ("remaining", 0.1),
            ("melody", 0.15),
            ("shift", 0.1),
            ("mode", 0.1),
        ):
            if rng.random() < chance:
                rows[:, COLUMN_INDEX[name]] = 0
        if rng.random() < 0.2:
            rows[:, [COLUMN_INDEX["lag"], COLUMN_INDEX["likeness"]]] = 0
        if rng.random() < 0.05:
            for slot in range(CHORD_SLOTS + 1):
                rows[:, [COLUMN_INDEX[f"root_{slot}"], COLUMN_INDEX[f"quality_{slot}"]]] = 0


def _end_word(bar: int) -> Int16[np.ndarray, "1 6"]:
    return np.array([[END, bar, 0, 0, 0, 0]], np.int16)
