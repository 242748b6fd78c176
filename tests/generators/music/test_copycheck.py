import numpy as np

from affetto.generators.music.copycheck import CopyCheck, gram_hashes
from affetto.media.midi import Score, note_array
from affetto.tokenizers.compound import encode


def tune(seed: int, *, notes: int = 60, up: int = 0, key: int = 0) -> Score:
    """A random walk with a rhythm."""
    rng = np.random.default_rng(seed)
    start = np.cumsum(rng.choice([0.25, 0.5, 1.0], notes))
    pitch = 66 + np.clip(np.cumsum(rng.integers(-3, 4, notes)), -12, 12)
    rows = [(float(s), 0.25, int(p) + up + key, 80, 0) for s, p in zip(start, pitch, strict=True)]
    return Score(notes=note_array(rows))


def test_a_tune_is_found_in_any_key() -> None:
    check = CopyCheck.of([encode(tune(seed)) for seed in range(5)])
    report = check.report(encode(tune(3, key=5)))
    assert report.copied
    assert (report.song, report.share) == (3, 1.0)
    assert report.longest == 60


def test_another_tune_is_not() -> None:
    check = CopyCheck.of([encode(tune(seed)) for seed in range(5)])
    report = check.report(encode(tune(77)))
    assert not report.copied
    assert report.longest == 0


def test_runs_that_say_nothing_are_left_out() -> None:
    assert len(gram_hashes(np.tile([64 * 2 + 1, 1], 20).astype(np.int64))[0]) == 0


def test_a_table_survives_its_file(tmp_path) -> None:
    check = CopyCheck.of([encode(tune(seed)) for seed in range(3)])
    check.save(tmp_path / "t.safetensors", {})
    again = CopyCheck.read(tmp_path / "t.safetensors")
    assert np.array_equal(check.hashes, again.hashes)
    assert again.report(encode(tune(2))).song == 2
