"""Songs as words with what each bar sounds like, in one file; and the crops a composer trains on.

Songs that share much of their melody are kept in the same part of the split, so that what is held out was not heard.
"""

import dataclasses
import hashlib
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float16, Int16, Int32, Int64, UInt8

from affetto.generators.music.augment import Augmentation
from affetto.generators.music.songs import SOURCES, Song, read_songs
from affetto.runtime.errors import InvalidInputError
from affetto.runtime.files import atomic_path
from affetto.runtime.progress import ProgressCallback, ProgressEvent
from affetto.tokenizers.attributes import BarAttributes, bar_attributes
from affetto.tokenizers.chords import bar_key_path
from affetto.tokenizers.compound import Words, encode
from affetto.tokenizers.vocabulary import CHORD, FAMILY, METRICAL, PITCH, TEMPO

SPLITS = ("train", "validation", "test")
_HELD_OUT = 0.05  # of the groups, for validation and again for test
_GRAM = 12  # melody notes that identify a tune
_SHARED = 0.03  # of these grams: more means the same tune


@dataclass(frozen=True, kw_only=True, eq=False)
class Excerpt:
    """Some bars of a song: their words, and for each bar its emotion, attributes and key."""

    words: Words
    attributes: BarAttributes
    keys: Int64[np.ndarray, "bar"]  # rows of media.music.KEYS
    song: int
    first_bar: int  # in the song
    bars_left: int  # after the excerpt; 0: it ends with the song

    def vad(self) -> np.ndarray:
        """(bar, 3) valence, arousal, dominance by the formula."""
        return self.attributes.vad()


@dataclass(frozen=True, kw_only=True, eq=False)
class MusicData:
    """All songs end to end. Words of song s are `words[song_words[s]:song_words[s + 1]]`, its bars likewise."""

    words: UInt8[np.ndarray, "word 8"]
    song_words: Int32[np.ndarray, "edge"]
    song_bars: Int32[np.ndarray, "edge"]
    bar_words: Int32[np.ndarray, "bar"]  # the word that opens each bar
    bar_keys: UInt8[np.ndarray, "bar"]  # rows of media.music.KEYS
    bar_vad: Float16[np.ndarray, "bar 3"]  # as recorded, without augmentation
    bar_attributes: Float16[np.ndarray, "bar attribute"]  # as recorded, columns of BarAttributes
    names: np.ndarray  # (song,) text
    sources: UInt8[np.ndarray, "song"]  # rows of SOURCES
    groups: Int16[np.ndarray, "song"]  # songs of one group share their tune
    splits: UInt8[np.ndarray, "song"]  # rows of SPLITS

    @staticmethod
    def load(path: str | Path) -> "MusicData":
        """The data that `build` wrote; raises `InvalidInputError` for another file."""
        try:
            with np.load(path, allow_pickle=False) as file:
                return MusicData(**{each.name: file[each.name] for each in dataclasses.fields(MusicData)})
        except (OSError, ValueError, KeyError) as error:
            raise InvalidInputError(f"{path}: no music data ({error}): build it from the archives") from error

    def songs(self, split: str, *, source: str | None = None) -> np.ndarray:
        """The songs in one part of the split, of one source or all."""
        kept = self.splits == SPLITS.index(split)
        if source is not None:
            kept &= self.sources == SOURCES.index(source)
        return np.flatnonzero(kept)

    def song(self, index: int) -> Words:
        """The words of a song."""
        part = slice(self.song_words[index], self.song_words[index + 1])
        return Words(ids=self.words[part].astype(np.int16))

    def excerpt(
        self,
        song: int,
        *,
        first_bar: int = 0,
        most_words: int = 1024,
        augmentation: Augmentation | None = None,
    ) -> Excerpt:
        """The bars of `song` from `first_bar` that fit in `most_words`, at least one; changed if asked for.

        The end word belongs to the last bar. Tempo and chord in force at the cut are said at the first position.
        """
        bars = slice(int(self.song_bars[song]), int(self.song_bars[song + 1]))
        edges = np.append(self.bar_words[bars], self.song_words[song + 1]) - self.song_words[song]
        fitting = int(np.searchsorted(edges, edges[first_bar] + most_words, side="right")) - 1
        last = min(max(fitting, first_bar + 1), len(edges) - 1)
        whole = self.song(song)
        ids = whole.ids[edges[first_bar] : edges[last]].copy()
        places = np.flatnonzero((ids[:, FAMILY] == METRICAL) & (ids[:, TEMPO] > 0))
        if len(places):
            at = int(edges[first_bar]) + int(places[0])
            ids[places[0], TEMPO] = whole.vocabulary.tempo_ids(whole.bpm[at])
            ids[places[0], CHORD] = whole.chords[at]
        words, semitones = Words(ids=ids), 0
        if augmentation is not None:
            words, semitones = augmentation(words), augmentation.semitones
        keys = self.bar_keys[bars][first_bar:last].astype(np.int64)
        return Excerpt(
            words=words,
            attributes=bar_attributes(words),
            keys=keys // 12 * 12 + (keys % 12 + semitones) % 12,
            song=song,
            first_bar=first_bar,
            bars_left=len(edges) - 1 - last,
        )

    def draw(
        self, rng: np.random.Generator, songs: np.ndarray, *, most_words: int = 1024, augment: bool = True
    ) -> Excerpt:
        """An excerpt from anywhere in one of `songs`, long songs more often, in a random key, tempo and dynamic."""
        weight = np.diff(self.song_words)[songs].astype(np.float64)
        song = int(rng.choice(songs, p=weight / weight.sum()))
        count = int(self.song_bars[song + 1] - self.song_bars[song])
        # begin before the first bar as often as anywhere else, so that beginnings are learned
        first = max(int(rng.integers(-max(count // 8, 1), count)), 0)
        augmentation = Augmentation.draw(rng) if augment else None
        return self.excerpt(song, first_bar=first, most_words=most_words, augmentation=augmentation)


def build(data: Path, output: Path, *, progress: ProgressCallback | None = None) -> MusicData:
    """Read the archives in `data`, write the whole set to `output` (.npz) and return it."""
    songs: list[tuple[Song, Words]] = []
    for song in read_songs(data):
        words = encode(song.score)
        if words.is_note.sum() >= 2 * _GRAM:
            songs.append((song, words))
        if progress is not None and len(songs) % 50 == 0:
            progress(ProgressEvent(stage="songs", done=len(songs), total=1291, message=song.name))
    found = assembled(songs)
    with atomic_path(output) as temporary, temporary.open("wb") as file:
        columns = {each.name: getattr(found, each.name) for each in dataclasses.fields(MusicData)}
        np.savez_compressed(file, **columns)
    return found


def assembled(songs: list[tuple[Song, Words]]) -> MusicData:
    """The set of these songs, each with its bars read and its part of the split chosen."""
    pieces = [words for _, words in songs]
    groups = tune_groups(pieces)
    lengths = np.cumsum([0, *(len(words) for words in pieces)])
    bars = [np.flatnonzero(words.is_bar) for words in pieces]
    read = [bar_attributes(words) for words in pieces]
    return MusicData(
        words=np.concatenate([words.ids for words in pieces]).astype(np.uint8),
        song_words=lengths.astype(np.int32),
        song_bars=np.cumsum([0, *(len(each) for each in bars)]).astype(np.int32),
        bar_words=np.concatenate([each + at for each, at in zip(bars, lengths, strict=False)]).astype(
            np.int32
        ),
        bar_keys=np.concatenate([bar_key_path(words) for words in pieces]).astype(np.uint8),
        bar_vad=np.concatenate([each.vad() for each in read]).astype(np.float16),
        bar_attributes=np.concatenate([each.stack() for each in read]).astype(np.float16),
        names=np.array([song.name for song, _ in songs]),
        sources=np.array([SOURCES.index(song.source) for song, _ in songs], np.uint8),
        groups=groups.astype(np.int16),
        splits=_split([song.name for song, _ in songs], groups),
    )


def melody_grams(words: Words, *, size: int = _GRAM) -> set[int]:
    """Hashes of runs of `size` melody notes: intervals and gaps of the highest notes, so that a key does not matter."""
    steps, pitch = words.steps[words.is_note], words.ids[words.is_note, PITCH].astype(np.int64)
    top = np.diff(steps, prepend=-1) != 0  # words put the highest note of a place first
    steps, pitch = steps[top], pitch[top]
    moves = np.diff(pitch) * 64 + np.minimum(np.diff(steps), 63)
    if len(moves) < size:
        return set()
    runs = np.lib.stride_tricks.sliding_window_view(moves, size)
    return {hash(run.tobytes()) for run in np.ascontiguousarray(runs)}


def tune_groups(pieces: list[Words]) -> Int64[np.ndarray, "song"]:
    """A number for each piece, the same for pieces that share more than 3 % of the shorter one's melody grams."""
    grams = [melody_grams(words) for words in pieces]
    where: defaultdict[int, list[int]] = defaultdict(list)
    for index, found in enumerate(grams):
        for gram in found:
            where[gram].append(index)
    shared: Counter[tuple[int, int]] = Counter()
    for holders in where.values():
        if 1 < len(holders) <= 20:  # a figure in more pieces than that identifies none
            shared.update((a, b) for i, a in enumerate(holders) for b in holders[i + 1 :])
    parent = list(range(len(pieces)))

    def root(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    for (a, b), count in shared.items():
        if count > _SHARED * min(len(grams[a]), len(grams[b])):
            parent[max(root(a), root(b))] = min(root(a), root(b))
    return np.unique([root(index) for index in range(len(pieces))], return_inverse=True)[1].astype(np.int64)


def _split(names: list[str], groups: Int64[np.ndarray, "song"]) -> UInt8[np.ndarray, "song"]:
    """A twentieth of the groups for validation and for test each, chosen by the hash of a group's first name."""
    splits = np.zeros(len(names), np.uint8)
    for group in range(int(groups.max(initial=-1)) + 1):
        members = np.flatnonzero(groups == group)
        splits[members] = SPLITS.index(part_of_split(names[members[0]]))
    return splits


def part_of_split(name: str) -> str:
    """The part of the split a song's name puts it in, when it shares its tune with no other."""
    place = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
    return "validation" if place < _HELD_OUT else "test" if place < 2 * _HELD_OUT else "train"
