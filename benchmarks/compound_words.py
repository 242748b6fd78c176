"""What compound words lose, how far chords and keys agree with given ones, what the songs cover, how well beats are found.

python benchmarks/compound_words.py DATA [--songs 100] [--tracker FILE]

DATA holds music/pop909.zip and music/chorales_and_tunes.zip; with music/emopia_train_val.zip beside them, recorded
performances are put on beats too, and the formula is held against their quadrant labels.
"""

import argparse
import zipfile
from pathlib import Path

import numpy as np

from affetto.generators.music.dataset import assembled
from affetto.generators.music.songs import Song, chorales, pop909
from affetto.generators.music.train_beats import tracker_scores
from affetto.media.midi import Score, parse_midi
from affetto.media.music import KEYS, attributes_of
from affetto.tokenizers.attributes import bar_attributes
from affetto.tokenizers.beat_grid import grid_error, on_beats
from affetto.tokenizers.beat_tracker import BeatTracker
from affetto.tokenizers.chords import recognised_chords, song_key
from affetto.tokenizers.compound import decode, encode, quantisation
from affetto.tokenizers.vocabulary import FIRST_CHORD, NO_CHORD, QUALITIES, chord_id

MINOR = [QUALITIES.index(quality) for quality in ("m", "o", "m7", "o7", "/o7")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--songs", type=int, default=100)
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--tracker", default="embedded")
    options = parser.parse_args()
    folder = options.data / "music"
    songs = sample(list(pop909(folder / "pop909.zip")), options.songs)
    hymns = sample(list(chorales(folder / "chorales_and_tunes.zip")), options.songs)
    words_table({"POP909 on its beats": songs, "chorales": hymns})
    chord_table(songs)
    key_table(songs, folder / "pop909.zip")
    coverage(songs + hymns)
    tracker = BeatTracker.from_pretrained(options.tracker)
    for name, found in tracker_scores(options.data, tracker).items():
        print(
            f"beats, {found.songs} test songs {name}: F {found.beat:.3f} (median {found.median:.3f}), bars {found.downbeat:.3f}"
        )
    if (folder / "emopia_train_val.zip").is_file():
        performances(folder / "emopia_train_val.zip", tracker, options.clips)


def sample(songs: list[Song], count: int) -> list[Song]:
    """Songs spread evenly over the list."""
    return [songs[index] for index in np.linspace(0, len(songs) - 1, min(count, len(songs))).astype(int)]


def loss_row(name: str, scores: list[Score]) -> str:
    """What becomes of the notes of some scores."""
    lost = [quantisation(score) for score in scores]
    notes = sum(each.notes for each in lost)
    shares = [
        100 * sum(getattr(each, what) for each in lost) / notes
        for what in ("out_of_range", "merged", "shortened")
    ]
    means = [
        sum(getattr(each, what) * each.notes for each in lost) / notes
        for what in ("onset", "duration", "velocity")
    ]
    words = [encode(score) for score in scores]
    exact = sum((encode(decode(each)).ids == each.ids).all() for each in words)
    per_note = sum(map(len, words)) / notes
    return (
        f"{name:24s} {len(scores):5d} {notes:7d} {per_note:5.2f} {shares[0]:6.2f} {shares[1]:6.2f} {shares[2]:6.2f}"
        f" {means[0]:6.3f} {means[1]:6.3f} {means[2]:5.2f}  {exact}/{len(words)}"
    )


def words_table(sets: dict[str, list[Song]]) -> None:
    """Print what quantisation loses, and that decoding and encoding again gives the same words."""
    print("% of notes out of range, merged, shortened; mean change of onset and length (16ths) and velocity")
    print("set                      songs   notes  w/note   out merged shorter onset length  vel  exact")
    for name, songs in sets.items():
        print(loss_row(name, [song.score for song in songs]))


def chord_table(songs: list[Song]) -> None:
    """Print how often recognised chords agree with POP909's, beat by beat."""
    total = root = mode = same = 0
    for song in songs:
        beats = int(song.score.beats)
        given, found = chord_line(song.score.markers, beats), chord_line(recognised_chords(song.score), beats)
        known = (given >= FIRST_CHORD) & (found >= FIRST_CHORD)
        roots = known & ((given - FIRST_CHORD) // len(QUALITIES) == (found - FIRST_CHORD) // len(QUALITIES))
        minor = [np.isin((line - FIRST_CHORD) % len(QUALITIES), MINOR) for line in (given, found)]
        total += int((given >= FIRST_CHORD).sum())
        root += int(roots.sum())
        mode += int((roots & (minor[0] == minor[1])).sum())
        same += int((known & (given == found)).sum())
    print(
        f"chords of {total} beats: root {root / total:.3f}, root and third {mode / total:.3f}, all {same / total:.3f}"
    )


def chord_line(markers: tuple[tuple[float, str], ...], beats: int) -> np.ndarray:
    """The chord id at each beat."""
    line = np.full(beats, NO_CHORD)
    for beat, name in sorted(markers):
        line[int(beat) :] = chord_id(name)
    return line


def key_table(songs: list[Song], archive: Path) -> None:
    """Print how often the key of a song is one that POP909's file gives for it."""
    names = {key.replace(" major", ":maj").replace(" minor", ":min"): index for index, key in enumerate(KEYS)}
    flats = {"Db": "C#", "D#": "Eb", "Gb": "F#", "G#": "Ab", "A#": "Bb"}
    right = relative = 0
    with zipfile.ZipFile(archive) as files:
        for song in songs:
            rows = [
                line.split("\t")
                for line in files.read(f"POP909/{song.name}/key_audio.txt").decode().splitlines()
            ]
            longest = max(rows, key=lambda row: float(row[1]) - float(row[0]))[2]
            tonic, mode = longest.split(":")
            given = names[f"{flats.get(tonic, tonic)}:{mode}"]
            found = song_key(encode(song.score))
            right += given == found
            relative += (given % 12 + (3 if given >= 12 else 0)) % 12 == (
                found % 12 + (3 if found >= 12 else 0)
            ) % 12
    print(
        f"keys of {len(songs)} songs: {right / len(songs):.3f} as given, {relative / len(songs):.3f} with the relative key"
    )


def coverage(songs: list[Song]) -> None:
    """Print the spread of the formula's reading as recorded and after augmentation."""
    data = assembled([(song, encode(song.score)) for song in songs])
    rng = np.random.default_rng(0)
    every = np.arange(len(songs))
    changed = np.concatenate([data.draw(rng, every, most_words=512).vad() for _ in range(300)])
    print(
        "valence, arousal, dominance at the 5th, 25th, 50th, 75th, 95th percentile of bars; share of quadrants 1..4"
    )
    for name, vad in (("as recorded", data.bar_vad.astype(np.float64)), ("augmented", changed)):
        spread = np.percentile(vad, [5, 25, 50, 75, 95], axis=0).T
        quadrant = np.where(vad[:, 1] > 0, np.where(vad[:, 0] > 0, 0, 1), np.where(vad[:, 0] > 0, 3, 2))
        shares = np.bincount(quadrant, minlength=4) / len(vad)
        print(
            f"{name:12s}",
            *("/".join(f"{value:+.2f}" for value in row) for row in spread),
            np.round(shares, 2),
        )


def performances(archive: Path, tracker: BeatTracker, count: int) -> None:
    """Print what recorded performances lose on tracked beats, and how the formula reads their quadrants."""
    with zipfile.ZipFile(archive) as files:
        names = sorted(name for name in files.namelist() if name.endswith(".mid"))
        names = [names[index] for index in np.linspace(0, len(names) - 1, min(count, len(names))).astype(int)]
        clips = [parse_midi(files.read(name), name=name) for name in names]
    labels = np.array([int(Path(name).name[1]) for name in names])
    gridded = [on_beats(clip, tracker(clip)) for clip in clips]
    print(loss_row("EMOPIA on tracked beats", gridded))
    error = np.concatenate([grid_error(score) for score in gridded])
    even = np.concatenate([grid_error(clip) for clip in clips])
    print(f"EMOPIA grid error, 16ths: {error.mean():.3f} on tracked beats, {even.mean():.3f} at an even 120")
    print(
        f"EMOPIA words: mean {np.mean([len(encode(score)) for score in gridded]):.0f}, bars {np.mean([len(encode(score).bar_steps) for score in gridded]):.1f}"
    )
    whole = np.array(
        [found.vad() for clip in clips if (found := attributes_of(clip.timed_notes())) is not None]
    )
    bars = np.array([bar_attributes(encode(score)).vad().mean(axis=0) for score in gridded])
    for name, vad in (("performances", whole), ("words, mean of bars", bars)):
        high, glad = vad[:, 1] > 0, vad[:, 0] > 0
        quadrant = np.where(high, np.where(glad, 1, 2), np.where(glad, 4, 3))
        right = (quadrant == labels, high == (labels <= 2), glad == np.isin(labels, [1, 4]))
        print(
            f"formula on EMOPIA {name}: quadrant, arousal, valence", *(f"{each.mean():.3f}" for each in right)
        )


if __name__ == "__main__":
    main()
