"""The tables of the rule system: what each viseme looks like, and how strongly it claims lips, jaw and tongue."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from affetto.media.animation.curves import ARKIT_52, ARKIT_INDEX

GROUPS: tuple[str, ...] = ("lips", "jaw", "tongue", "still")
"""Articulators that move on their own clocks; `still` channels take no part in speech."""


def _group(name: str) -> str:
    if name.startswith("jaw"):
        return "jaw"
    if name == "tongueOut":
        return "tongue"
    return "lips" if name.startswith("mouth") else "still"


CHANNEL_GROUP: np.ndarray = np.array([GROUPS.index(_group(name)) for name in ARKIT_52])
"""The group of each of the 52 channels, as an index into `GROUPS`."""


def pose(values: Mapping[str, float]) -> Float[np.ndarray, "52"]:
    """The 52 weights for a table of names; a name without Left or Right that exists only in pairs means both sides."""
    weights = np.zeros(52)
    for name, value in values.items():
        names = [name] if name in ARKIT_INDEX else [f"{name}Left", f"{name}Right"]
        for full in names:
            weights[ARKIT_INDEX[full]] = value
    return weights


_TABLE: Mapping[str, Mapping[str, float]] = {
    "SIL": {},
    "PP": {
        "jawOpen": 0.03, "mouthClose": 0.03, "mouthPress": 0.35, "mouthRollLower": 0.22, "mouthRollUpper": 0.18,
    },
    "FF": {"jawOpen": 0.05, "mouthRollLower": 0.45, "mouthUpperUp": 0.22, "mouthShrugLower": 0.12},
    "TH": {"jawOpen": 0.12, "tongueOut": 0.22, "mouthLowerDown": 0.15, "mouthUpperUp": 0.10},
    "DD": {"jawOpen": 0.10, "mouthLowerDown": 0.15, "mouthUpperUp": 0.09, "mouthStretch": 0.06},
    "KK": {"jawOpen": 0.13, "mouthLowerDown": 0.12, "mouthUpperUp": 0.05, "mouthStretch": 0.05},
    "CH": {
        "jawOpen": 0.07, "mouthFunnel": 0.42, "mouthPucker": 0.25, "mouthUpperUp": 0.10, "mouthLowerDown": 0.14,
    },
    "SS": {
        "jawOpen": 0.05, "mouthStretch": 0.20, "mouthSmile": 0.10, "mouthLowerDown": 0.24, "mouthUpperUp": 0.12,
    },
    "RR": {"jawOpen": 0.095, "mouthFunnel": 0.22, "mouthPucker": 0.25, "mouthLowerDown": 0.06},
    "AA": {"jawOpen": 0.43, "mouthLowerDown": 0.28, "mouthUpperUp": 0.16, "mouthStretch": 0.12},
    "EH": {"jawOpen": 0.29, "mouthStretch": 0.25, "mouthSmile": 0.14, "mouthLowerDown": 0.24, "mouthUpperUp": 0.10},
    "IH": {"jawOpen": 0.125, "mouthStretch": 0.30, "mouthSmile": 0.22, "mouthLowerDown": 0.20, "mouthUpperUp": 0.10},
    "OH": {"jawOpen": 0.29, "mouthFunnel": 0.32, "mouthPucker": 0.32},
    "UU": {"jawOpen": 0.085, "mouthPucker": 0.72, "mouthFunnel": 0.16},
    "AX": {"jawOpen": 0.185, "mouthLowerDown": 0.15, "mouthUpperUp": 0.06, "mouthFunnel": 0.05},
}  # fmt: skip

VISEME_TARGETS: Mapping[str, np.ndarray] = {name: pose(values) for name, values in _TABLE.items()}
"""The 52 weights of each viseme, both sides alike."""


@dataclass(frozen=True, kw_only=True)
class Dominance:
    """D = strength * exp(-attack * time before) * exp(-release * time after), a value for each group of `GROUPS`."""

    strength: Float[np.ndarray, "4"]
    attack: Float[np.ndarray, "4"]  # 1/s
    release: Float[np.ndarray, "4"]  # 1/s
    is_vowel: bool = False


def _rule(
    lips: float,
    jaw: float,
    *,
    attack: float = 20.0,
    release: float = 25.0,
    jaw_rate: float = 14.0,
    is_vowel: bool = False,
) -> Dominance:
    return Dominance(
        strength=np.array([lips, jaw, 1.0, 1.0]),
        attack=np.array([attack, jaw_rate, 35.0, 20.0]),
        release=np.array([release, jaw_rate, 35.0, 20.0]),
        is_vowel=is_vowel,
    )


_VOWEL = _rule(1.0, 1.0, is_vowel=True)

VISEME_DOMINANCE: Mapping[str, Dominance] = {
    "SIL": _rule(0.3, 0.3),
    "PP": _rule(4.0, 0.8, attack=50.0, release=50.0, jaw_rate=25.0),
    "FF": _rule(3.0, 1.2, attack=40.0, release=40.0, jaw_rate=25.0),
    "TH": _rule(0.8, 0.9, jaw_rate=20.0),
    "DD": _rule(0.4, 0.7),
    "KK": _rule(0.4, 0.5),
    "CH": _rule(1.8, 1.5, jaw_rate=22.0),
    "SS": _rule(0.8, 1.8, jaw_rate=25.0),
    "RR": _rule(0.7, 0.7),
    "AA": _VOWEL,
    "EH": _VOWEL,
    "IH": _VOWEL,
    "OH": _rule(1.4, 1.0, attack=16.0, is_vowel=True),
    "UU": _rule(1.6, 1.0, attack=16.0, is_vowel=True),
    "AX": _rule(0.6, 0.8, is_vowel=True),
}
"""Closures claim the lips outright, rounding spreads early, alveolars and velars leave the lips to their neighbours."""

PHONE_TARGETS: Mapping[str, np.ndarray] = {
    "l": pose({**_TABLE["DD"], "jawOpen": 0.145}),
    "j": pose({**_TABLE["IH"], "jawOpen": 0.085}),
    "w": pose({**_TABLE["UU"], "jawOpen": 0.06, "mouthPucker": 0.75}),
    "ʊ": pose({**_TABLE["UU"], "jawOpen": 0.13, "mouthPucker": 0.55}),
    "ʌ": pose({**_TABLE["AA"], "jawOpen": 0.35, "mouthLowerDown": 0.24}),
    "ɪ": pose({**_TABLE["IH"], "jawOpen": 0.16, "mouthStretch": 0.24, "mouthSmile": 0.16}),
}
"""Phones that differ from their viseme."""

PHONE_DOMINANCE: Mapping[str, Dominance] = dict.fromkeys(("h", "ʔ"), _rule(0.08, 0.10))
"""Phones that claim less than their viseme: breath takes the shape of its neighbours."""
