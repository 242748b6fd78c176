"""When words are said."""

import pytest

from affetto.apps.studio.project import speech_onsets
from affetto.apps.studio.session import EXAMPLE_SPEECH, EXAMPLE_WORDS
from affetto.media.audio import load_audio
from affetto.media.espeak import espeak
from affetto.runtime.errors import MissingResourceError
from affetto.speech.reader import ContentReader
from affetto.speech.words import timed_words, word_starts


def test_as_many_breaks_as_words_are_where_words_begin():
    breaks = (True, False, False, True, False, True)
    assert word_starts(breaks, [5, 1, 1]) == [0, 3, 5]


def test_a_word_without_a_break_of_its_own_takes_its_share_and_the_next_ones_their_breaks():
    breaks = (True, False, False, False, False, False, True, False, False)
    assert word_starts(breaks, [2, 4, 3]) == [0, 2, 6]


def test_words_follow_each_other_and_begin_where_they_are_heard():
    try:
        espeak()
    except MissingResourceError:
        pytest.skip("needs espeak-ng (pip install affetto[tts])")
    samples = load_audio(EXAMPLE_SPEECH).resampled(16_000).mono()
    words = timed_words(samples, EXAMPLE_WORDS, "en-us", ContentReader.from_pretrained(device="cpu"))
    assert [each.word for each in words] == EXAMPLE_WORDS.split()
    starts = [each.start for each in words]
    assert starts == sorted(starts)
    onsets = speech_onsets(EXAMPLE_SPEECH)  # found from loudness alone
    for first in ("Hello,", "Maybe", "Wow,"):
        begin = next(each.start for each in words if each.word == first)
        assert min(abs(begin - onset) for onset in onsets) < 0.09
