import importlib.util

import pytest

from affetto.generators.voice.text_source import speak_text
from affetto.runtime.errors import InvalidInputError, UsageError

needs_espeak = pytest.mark.skipif(
    importlib.util.find_spec("espeakng_loader") is None, reason="needs the tts extra"
)


@needs_espeak
def test_a_text_is_spoken():
    first, second = (speak_text("Good morning to you all.") for _ in range(2))
    assert first.samples.shape == second.samples.shape
    assert 0.8 < first.seconds < 4.0
    assert not first.is_silent


@pytest.mark.parametrize(
    ("text", "options", "error", "reason"),
    [
        ("  ", {}, InvalidInputError, "empty"),
        ("a" * 30_000, {}, InvalidInputError, "30000"),
        ("hello", {"voice": "robot"}, UsageError, "robot"),
        ("hello", {"wpm": 20}, UsageError, "20"),
    ],
)
def test_what_cannot_be_spoken_is_refused(text, options, error, reason):
    with pytest.raises(error, match=reason):
        speak_text(text, **options)
