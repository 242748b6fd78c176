"""A universal phone inventory, and the way into it from SAMPA, ARPAbet and the IPA.

Lips, not words, are what it serves: sounds that look alike may share a class, sounds of any language must have one.
"""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float

from affetto.runtime.errors import UsageError

SILENCE = "sil"
VISEMES = ("SIL", "PP", "FF", "TH", "DD", "KK", "CH", "SS", "RR", "AA", "EH", "IH", "OH", "UU", "AX")
_PHONES_OF: Mapping[str, tuple[str, ...]] = {
    "SIL": (SILENCE,),
    "PP": ("p", "b", "m"),
    "FF": ("f", "v"),
    "TH": ("θ", "ð"),
    "DD": ("t", "d", "n", "l"),
    "KK": ("k", "g", "ŋ", "x", "ç", "h", "ʔ"),
    "CH": ("tʃ", "dʒ", "ʃ", "ʒ"),
    "SS": ("s", "z"),
    "RR": ("r",),
    "AA": ("a", "ɑ", "æ", "ʌ"),
    "EH": ("ɛ", "e"),
    "IH": ("i", "ɪ", "j"),
    "OH": ("ɔ", "o", "ø", "œ"),
    "UU": ("w", "u", "ʊ", "y", "ʏ"),
    "AX": ("ə", "ɝ"),
}
PHONES: tuple[str, ...] = tuple(phone for viseme in VISEMES for phone in _PHONES_OF[viseme])
"""The classes of the content network, silence first."""

PHONE_INDEX: Mapping[str, int] = {phone: index for index, phone in enumerate(PHONES)}
VISEME_OF: Mapping[str, str] = {phone: viseme for viseme, phones in _PHONES_OF.items() for phone in phones}
VISEME_INDEX: tuple[int, ...] = tuple(VISEMES.index(VISEME_OF[phone]) for phone in PHONES)
"""The viseme number of each phone, in the order of `PHONES`."""

BILABIALS = frozenset({"p", "b", "m"})
PLOSIVES = frozenset({"p", "b", "t", "d", "k", "g"})
VOICELESS_STOPS = frozenset({"p", "t", "k", "tʃ"})
VOWELS = frozenset(
    phone for viseme in ("AA", "EH", "IH", "OH", "UU", "AX") for phone in _PHONES_OF[viseme]
) - {"j", "w"}


@dataclass(frozen=True)
class TimedPhone:
    """One phone between `start` and `end` in seconds, stressed 0..1.

    `release` is when a plosive's closure opens; what follows until `end` is its burst and breath.
    `closes` is False for a weakened bilabial whose lips only come near each other.
    """

    phone: str
    start: float
    end: float
    stress: float = 0.0
    release: float | None = None
    closes: bool = True

    def __post_init__(self) -> None:
        if self.phone not in PHONE_INDEX:
            raise UsageError(f"unknown phone {self.phone!r}: the phones are {' '.join(PHONES)}")
        if self.end < self.start:
            raise UsageError(
                f"phone {self.phone} ends at {self.end:.3f} s, before its start at {self.start:.3f} s"
            )

    def shifted(self, seconds: float) -> "TimedPhone":
        """The same phone that much later."""
        release = None if self.release is None else self.release + seconds
        return replace(self, start=self.start + seconds, end=self.end + seconds, release=release)

    @property
    def closure(self) -> tuple[float, float] | None:
        """Seconds between which both lips touch, or None for a phone that leaves them apart."""
        if self.phone not in BILABIALS or not self.closes:
            return None
        opening = self.end if self.release is None else min(max(self.release, self.start), self.end)
        return self.start, opening


def closure_windows(phones: Iterable[TimedPhone]) -> list[tuple[float, float]]:
    """The spans in seconds during which the lips are shut, neighbours merged (the [pm] of `Lappen` is one)."""
    windows: list[tuple[float, float]] = []
    for start, end in (window for phone in phones if (window := phone.closure)):
        if windows and start - windows[-1][1] < 0.012:
            windows[-1] = (windows[-1][0], max(end, windows[-1][1]))
        else:
            windows.append((start, end))
    return windows


def phone_frames(phones: Sequence[TimedPhone], frames: int, fps: float) -> Float[np.ndarray, "frame"]:
    """The index into `PHONES` of what sounds at the time of each frame, as floats; silence where nothing is said."""
    times = np.arange(frames) / fps
    starts = np.array([phone.start for phone in phones] or [np.inf])
    at = np.searchsorted(starts, times + 1e-9, side="right") - 1
    indices = np.array([PHONE_INDEX[phone.phone] for phone in phones] or [0], np.float32)
    ends = np.array([phone.end for phone in phones] or [0.0])
    inside = (at >= 0) & (times < ends[at])
    return np.where(inside, indices[at], np.float32(PHONE_INDEX[SILENCE])).astype(np.float32)


def window_frames(
    windows: Iterable[tuple[float, float]], frames: int, fps: float
) -> Float[np.ndarray, "frame"]:
    """1 at every frame whose time lies within a window, at least one frame for each, 0 elsewhere."""
    curve = np.zeros(frames, np.float32)
    for start, end in windows:
        first, stop = int(np.ceil(start * fps - 1e-6)), int(np.floor(end * fps + 1e-6)) + 1
        if stop <= first:
            first = round((start + end) / 2 * fps)
            stop = first + 1
        curve[max(first, 0) : max(stop, 0)] = 1.0
    return curve


_SAMPA: Mapping[str, str] = {
    **{same: same for same in "pbmfvtdnlkgszjhaeiouxy"},
    "N": "ŋ",
    "S": "ʃ",
    "Z": "ʒ",
    "C": "ç",
    "R": "r",
    "r": "r",
    "4": "r",
    "X": "r",
    "H": "h",
    "?": "ʔ",
    "B": "b",
    "V": "v",
    "D": "d",
    "G": "g",
    "L": "l",
    "M": "m",
    "I": "ɪ",
    "E": "ɛ",
    "{": "æ",
    "A": "ɑ",
    "O": "ɔ",
    "U": "ʊ",
    "Y": "ʏ",
    "2": "ø",
    "9": "œ",
    "8": "ə",
    "@": "ə",
    "6": "ʌ",
    "Q": "ɔ",
    "3": "ɝ",
    "&": "œ",
}


def from_sampa(symbol: str) -> list[str]:
    """The phones of one SAMPA symbol as EMO-DB's labellers wrote it, without marks: `aI` gives `a ɪ`, `NN` gives `ŋ`."""
    phones: list[str] = []
    for letter in symbol.replace(":", ""):
        phone = _SAMPA.get(letter)
        if phone and (not phones or phones[-1] != phone):
            phones.append(phone)
    return phones


_ARPABET: Mapping[str, tuple[str, ...]] = {
    **{same: (same,) for same in ("p", "b", "m", "f", "v", "t", "d", "n", "l", "k", "g", "s", "z", "w", "r")},
    "pau": (SILENCE,),
    "ssil": (SILENCE,),
    "th": ("θ",),
    "dh": ("ð",),
    "sh": ("ʃ",),
    "zh": ("ʒ",),
    "ch": ("tʃ",),
    "jh": ("dʒ",),
    "ng": ("ŋ",),
    "hh": ("h",),
    "hv": ("h",),
    "y": ("j",),
    "dx": ("d",),
    "el": ("l",),
    "em": ("m",),
    "en": ("n",),
    "nx": ("n",),
    "q": ("ʔ",),
    "iy": ("i",),
    "ih": ("ɪ",),
    "ix": ("ɪ",),
    "eh": ("ɛ",),
    "ae": ("æ",),
    "aa": ("ɑ",),
    "ah": ("ʌ",),
    "ax": ("ə",),
    "axr": ("ɝ",),
    "er": ("ɝ",),
    "ao": ("ɔ",),
    "uh": ("ʊ",),
    "uw": ("u",),
    "ux": ("u",),
    "ey": ("e", "ɪ"),
    "ay": ("a", "ɪ"),
    "oy": ("ɔ", "ɪ"),
    "aw": ("a", "ʊ"),
    "ow": ("o", "ʊ"),
}


def from_arpabet(symbol: str) -> list[str]:
    """The phones of one ARPAbet symbol (`ow` gives `o ʊ`); stress digits are ignored."""
    key = symbol.lower().rstrip("012")
    if key not in _ARPABET:
        raise UsageError(f"unknown ARPAbet symbol {symbol!r}")
    return list(_ARPABET[key])


# Letters of the IPA by articulation: the same lips, then the same tongue, as the class they join.
_IPA: Mapping[str, str] = {
    **{same: same for same in PHONES if len(same) == 1},
    **dict.fromkeys("ɓ", "b"),
    **dict.fromkeys("ɱ", "m"),
    **dict.fromkeys("ɸ", "f"),
    **dict.fromkeys("βʋⱱ", "v"),
    **dict.fromkeys("ʍɥɰ", "w"),
    **dict.fromkeys("ʈ", "t"),
    **dict.fromkeys("ɖɗɾ", "d"),
    **dict.fromkeys("ɳɲ", "n"),
    **dict.fromkeys("ɫɭʎʟɬɮɺ", "l"),
    **dict.fromkeys("ɹɻʁʀɽR", "r"),
    **dict.fromkeys("ɕʂ", "ʃ"),
    **dict.fromkeys("ʑʐ", "ʒ"),
    **dict.fromkeys("cqƙ", "k"),
    **dict.fromkeys("ɟɡɠɢʛɣ", "g"),
    **dict.fromkeys("ɴ", "ŋ"),
    **dict.fromkeys("χ", "x"),
    **dict.fromkeys("ʝ", "j"),
    **dict.fromkeys("ɦħʕʜʢ", "h"),
    **dict.fromkeys("ʡ", "ʔ"),
    **dict.fromkeys("ᵻɨᵼ", "ɪ"),
    **dict.fromkeys("ɘɜ", "ə"),
    **dict.fromkeys("ɚ", "ɝ"),
    **dict.fromkeys("ɐ", "ʌ"),
    **dict.fromkeys("ɒ", "ɔ"),
    **dict.fromkeys("ɤɯ", "ʊ"),
    **dict.fromkeys("ʉ", "y"),
    **dict.fromkeys("ɵ", "ø"),
    **dict.fromkeys("ɶ", "œ"),
}
_AFFRICATES: Mapping[str, str] = {
    "tʃ": "tʃ",
    "tɕ": "tʃ",
    "ʈʂ": "tʃ",
    "tʂ": "tʃ",
    "cɕ": "tʃ",
    "dʒ": "dʒ",
    "dʑ": "dʒ",
    "ɖʐ": "dʒ",
    "dʐ": "dʒ",
    "ɟʝ": "dʒ",
}


def from_ipa(symbol: str) -> list[str]:
    """The phones of one IPA string, diacritics, length and stress left aside; letters nobody knows are skipped."""
    text = (
        unicodedata.normalize("NFD", symbol)
        .replace("c\u0327", "ç")
        .replace("\u0361", "")
        .replace("\u035c", "")
    )
    phones: list[str] = []
    position = 0
    while position < len(text):
        pair = text[position : position + 2]
        phone = _AFFRICATES.get(pair) or _IPA.get(text[position])
        position += 2 if pair in _AFFRICATES else 1
        if phone and (not phones or phones[-1] != phone):
            phones.append(phone)
    return phones
