"""Whatever bytes or words come from outside, a reader gives a value or one of our own errors, never anything else."""

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from .targets import CORPUS, TARGETS, survives

pytestmark = pytest.mark.filterwarnings("ignore")

FUZZ = settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
WORDS = (b"NaN", b"-1", b"1e999", b"null", b"[]", b"{}", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b'"' * 3, b"../../x")  # fmt: skip


@st.composite
def damaged(draw: st.DrawFn, name: str) -> tuple[str, bytes]:
    """A good file of a target cut off, with some bytes changed, or with something in the middle."""
    suffix, whole = draw(st.sampled_from(TARGETS[name].good()))
    data = bytearray(whole)
    places = st.integers(0, len(data) - 1)
    for at, value in draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=6)):
        data[at] = value
    cut = draw(st.integers(0, len(data)))
    inserted = draw(st.one_of(st.binary(max_size=12), st.sampled_from(WORDS)))
    gone = draw(st.sampled_from((0, 0, 0, 1, 4, len(data))))
    return suffix, bytes(data[:cut]) + inserted + bytes(data[cut + gone :])


@pytest.mark.parametrize("name", TARGETS)
def test_a_damaged_file_is_read_or_refused(name, tmp_path):
    target = TARGETS[name]

    @FUZZ
    @given(damaged(name))
    def holds(file: tuple[str, bytes]) -> None:
        suffix, content = file
        survives(target, tmp_path / f"a{suffix}", content)

    holds()


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_and_no_bytes_are_read_or_refused(name, tmp_path):
    target = TARGETS[name]
    suffixes = sorted({suffix for suffix, _ in target.good()})

    @settings(FUZZ, max_examples=10)
    @given(st.sampled_from(suffixes), st.one_of(st.binary(max_size=200), st.text(max_size=120).map(lambda text: text.encode("utf-8", "replace"))))  # fmt: skip
    def holds(suffix: str, content: bytes) -> None:
        survives(target, tmp_path / f"a{suffix}", content)

    holds()


@pytest.mark.parametrize("name", TARGETS)
def test_good_files_and_all_that_once_broke_a_reader_are_read_or_refused(name, tmp_path):
    target = TARGETS[name]
    files = target.good() + [(path.suffix, path.read_bytes()) for path in target.kept(name)]
    assert [survives(target, tmp_path / f"a{suffix}", content) for suffix, content in files]


def test_every_kept_file_belongs_to_a_target():
    assert {path.name for path in CORPUS.iterdir()} <= set(TARGETS)
    assert all(path.stat().st_size <= 4096 for path in CORPUS.rglob("*.*"))


@FUZZ
@given(st.text(max_size=80))
@example("0:happy@1e999")
@example("vad(nan,0,0)")
@example("0:" + "a" * 70)
def test_the_text_form_of_tracks(tmp_path, text):
    survives(TARGETS["track_text"], tmp_path / "a.txt", text.encode("utf-8", "replace"))
