"""Speech made by espeak-ng, the optional text front end (`pip install affetto[tts]`).

The library speaks into memory and reports when each phone starts; see `espeak_ng/speak_lib.h` of the espeak-ng project.
"""

import ctypes
import ctypes.util
import importlib
import threading
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from affetto.runtime.errors import MissingResourceError, UsageError

_SYNCHRONOUS, _PHONEME_EVENTS, _PHONEME_IPA, _DONT_EXIT = 2, 1, 2, 0x8000
_UTF8, _EVENT_WORD, _EVENT_PHONEME, _EVENT_END_LIST = 1, 1, 7, 0
_RATE, _PITCH, _RANGE = 1, 3, 4


class _Value(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Value),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """What espeak-ng said: mono samples in -1..1, their rate, and (seconds, IPA) of every phone it reported."""

    samples: Float[np.ndarray, "sample"]
    rate: int
    events: tuple[tuple[float, str], ...]
    words: tuple[float, ...] = ()  # seconds at which words begin

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / self.rate


class Espeak:
    """The espeak-ng library of this process; it has one voice at a time, so calls take turns."""

    def __init__(self, library: str, data: str | None) -> None:
        self._lib = ctypes.CDLL(library)
        options = _PHONEME_EVENTS | _PHONEME_IPA | _DONT_EXIT
        self.rate = int(
            self._lib.espeak_Initialize(_SYNCHRONOUS, 0, data.encode() if data else None, options)
        )
        if self.rate <= 0:
            raise MissingResourceError(
                f"espeak-ng found no data in {data}: pip install --force-reinstall affetto[tts]"
            )
        self._lock = threading.Lock()
        self._audio: list[bytes] = []
        self._events: list[tuple[float, str]] = []
        self._words: list[float] = []
        self._callback = _Callback(self._receive)
        self._lib.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if count > 0:
            self._audio.append(ctypes.string_at(samples, 2 * count))
        index = 0
        while events[index].type != _EVENT_END_LIST:
            event = events[index]
            if event.type == _EVENT_PHONEME:
                name = bytes(event.id.string).split(b"\0")[0].decode("utf8", "replace")
                self._events.append((event.audio_position / 1000.0, name))
            elif event.type == _EVENT_WORD:
                self._words.append(event.audio_position / 1000.0)
            index += 1
        return 0

    def say(self, text: str, voice: str, *, wpm: int = 165, pitch: int = 50, spread: int = 50) -> Spoken:
        """Speak `text`; `voice` is a language with an optional variant (`de+f3`), pitch and spread run 0..100."""
        with self._lock:
            if self._lib.espeak_SetVoiceByName(voice.encode()) != 0:
                raise UsageError(f"espeak-ng has no voice {voice!r}: try en-us, de, nl, fr or es")
            for parameter, value in ((_RATE, wpm), (_PITCH, pitch), (_RANGE, spread)):
                self._lib.espeak_SetParameter(parameter, value, 0)
            if hasattr(self._lib, "espeak_ng_SetRandSeed"):  # else the clock seeds it; old ones lack this
                self._lib.espeak_ng_SetRandSeed(ctypes.c_long(1))
            self._audio, self._events, self._words = [], [], []
            body = text.encode()
            self._lib.espeak_Synth(body, len(body) + 1, 0, 1, 0, _UTF8, None, None)
            self._lib.espeak_Synchronize()
            samples = np.frombuffer(b"".join(self._audio), np.int16).astype(np.float32) / 32768.0
            return Spoken(
                samples=samples, rate=self.rate, events=tuple(self._events), words=tuple(self._words)
            )


@lru_cache(maxsize=1)
def espeak() -> Espeak:
    """The shared espeak-ng, from the `espeakng-loader` package, else from the system."""
    try:
        loader = importlib.import_module("espeakng_loader")
        return Espeak(loader.get_library_path(), loader.get_data_path())
    except ImportError:
        system = ctypes.util.find_library("espeak-ng")
    if system is None:
        raise MissingResourceError("speech from text needs espeak-ng: pip install affetto[tts]")
    return Espeak(system, None)
