import numpy as np
import pytest
import soundfile

from affetto.generators.voice.bank_data import PAUSE, SpokenPhone, read_corpus, spoken_phones
from affetto.runtime.errors import InvalidInputError, UsageError

LABELS = """signal x
nfields 1
#
    0.100000   -1 _t
    0.150000   -1 !t	+asp
    0.200000   -1 a:		2
    0.300000   -1 	+hoe
    0.320000   -1 .
    0.360000   -1 .
    0.400000   -1 m
    0.500000   -1 .
"""


def _tree(folder, names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(160, np.float32), 16000)
    return folder


LAYOUTS = {
    "emodb": (
        ["wav/03a01Fa.wav", "wav/03a01Nc.wav", "wav/16b09Lb.wav"],
        {("03", "a01", "happy", 1.0), ("03", "a01", "neutral", 1.0), ("16", "b09", "bored", 1.0)},
    ),
    "crema-d": (
        ["AudioWAV/1001_IEO_ANG_LO.wav", "AudioWAV/1001_IEO_NEU_XX.wav", "AudioWAV/1002_DFA_FEA_HI.wav"],
        {("1001", "IEO", "angry", 0.4), ("1001", "IEO", "neutral", 0.8), ("1002", "DFA", "fear", 1.0)},
    ),
    "ravdess": (
        ["Actor_01/03-01-01-01-02-01-01.wav", "Actor_01/03-01-08-02-02-01-01.wav", "Actor_01/03-02-05-02-02-01-01.wav"],
        {("01", "02", "neutral", 0.7), ("01", "02", "surprised", 1.0)},  # the third is sung
    ),
    "esd": (
        ["0011/Neutral/0011_000003.wav", "0011/Angry/0011_000353.wav", "0011/Surprise/train/0011_001750.wav"],
        {("0011", "003", "neutral", 1.0), ("0011", "003", "angry", 1.0), ("0011", "350", "surprised", 1.0)},
    ),
    "nemo": (
        ["samples/EB0_anger_12.wav", "samples/EB0_neutral_12.wav"],
        {("EB0", "12", "angry", 1.0), ("EB0", "12", "neutral", 1.0)},
    ),
    "jl-corpus": (
        ["female1_angry_10a_1.wav", "female1_neutral_10b_2.wav", "female1_apologetic_1a_1.wav"],
        {("female1", "10", "angry", 1.0), ("female1", "10", "neutral", 1.0)},
    ),
    "thorsten-emotional": (
        ["amused/abc.wav", "neutral/abc.wav", "drunk/abc.wav"],
        {("thorsten", "abc", "happy", 1.0), ("thorsten", "abc", "neutral", 1.0)},
    ),
    "dir": (
        ["anna/angry@0.6/hello.wav", "anna/neutral/hello.wav", "anna/joy/bye.wav", "readme/noise.wav"],
        {("anna", "hello", "angry", 0.6), ("anna", "hello", "neutral", 1.0), ("anna", "bye", "joyful", 1.0)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", LAYOUTS)
@pytest.mark.parametrize("named", [True, False])
def test_each_layout_is_read_by_its_name_and_recognised_without(kind, named, tmp_path):
    files, expected = LAYOUTS[kind]
    folder = _tree(tmp_path, files)
    clips = read_corpus(f"{kind}:{folder}" if named else folder)
    assert {(c.speaker, c.text_id, c.emotion, c.strength) for c in clips} == expected
    assert all(clip.path.is_file() for clip in clips)


def test_label_files_give_phones_with_their_closures_bursts_and_breath(tmp_path):
    path = tmp_path / "x.lablaut"
    path.write_text(LABELS, encoding="latin-1")
    assert spoken_phones(path) == (
        SpokenPhone("t", 0.1, 0.2),
        SpokenPhone("a", 0.2, 0.32),
        SpokenPhone(PAUSE, 0.32, 0.4),
        SpokenPhone("m", 0.4, 0.5),
    )


def test_an_index_tells_what_was_cut_and_marks_lie_beside(tmp_path):
    _tree(tmp_path, ["audio/03a01Na.flac", "audio/03a01Aa.flac"])
    (tmp_path / "phones").mkdir()
    (tmp_path / "phones" / "03a01Naxx.lablaut").write_text(LABELS, encoding="latin-1")
    (tmp_path / "index.csv").write_text(
        "name,speaker,emotion,seconds,extent\n03a01Na,03,neutral,3.1,whole\n03a01Aa,03,fear,2.0,first 2 s\n",
        encoding="utf-8",
    )
    cut, whole = read_corpus(tmp_path)
    assert cut.emotion == "fear"
    assert cut.heard_s == 2.0
    assert cut.phones is None
    assert whole.heard_s is None
    assert whole.phones


def test_what_is_no_corpus_is_refused_in_one_line(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        read_corpus("ravdess:" + str(tmp_path / "gone"))
    with pytest.raises(InvalidInputError, match="SPEAKER/EMOTION"):
        read_corpus(tmp_path)
    _tree(tmp_path, ["anna/angry/a.wav"])
    with pytest.raises(InvalidInputError, match="neutral"):
        read_corpus(tmp_path)
    _tree(tmp_path, ["anna/sparkly/a.wav"])
    with pytest.raises(InvalidInputError, match="sparkly"):
        read_corpus(f"dir:{tmp_path}")
