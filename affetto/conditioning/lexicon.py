"""Emotion terms and where they lie in valence, arousal and dominance (Russell & Mehrabian 1977, and a few derived)."""

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from types import MappingProxyType
from typing import Any

from affetto.runtime.errors import UsageError, quoted

Vad = tuple[float, float, float]
Number = float | int
"""What a caller may pass for a real number (run-time checkers do not take an int for a float)."""


@dataclass(frozen=True, kw_only=True)
class Term:
    """A named emotion: its mean and standard deviation on valence, arousal and dominance, each in [-1, 1]."""

    name: str
    vad: Vad
    sd: Vad
    source: str  # "russell-mehrabian-1977", or how it was derived from those


def read_data(name: str) -> dict[str, Any]:
    """The parsed JSON file `name` that ships beside this module."""
    text = resources.files("affetto.conditioning").joinpath("data", name).read_text(encoding="utf-8")
    return json.loads(text)


_DATA = read_data("lexicon.json")


def _build_terms() -> dict[str, Term]:
    default, known = _DATA["default_sd"], _DATA["sds"]
    neutral = _DATA["neutral"]
    terms = {
        "neutral": Term(
            name="neutral", vad=_triple(neutral["vad"]), sd=_triple(neutral["sd"]), source="origin"
        )
    }
    for name, vad in _DATA["terms"].items():
        sd = _triple(known.get(name, default))
        terms[name] = Term(name=name, vad=_triple(vad), sd=sd, source="russell-mehrabian-1977")
    for name, entry in _DATA["derived"].items():
        sd = _triple(entry.get("sd", default))
        terms[name] = Term(name=name, vad=_triple(entry["vad"]), sd=sd, source=f"derived: {entry['from']}")
    return terms


def _triple(values: Sequence[Number]) -> Vad:
    valence, arousal, dominance = (float(value) for value in values)
    return valence, arousal, dominance


LEXICON: Mapping[str, Term] = MappingProxyType(_build_terms())
"""Every term by name: neutral, the 151 of Russell and Mehrabian (their fearful is called fear here), ours."""

ALIASES: Mapping[str, str] = MappingProxyType(_DATA["aliases"])
"""Other words for a term: joy -> joyful, anger -> angry."""

EMOJI: Mapping[str, str] = MappingProxyType(_DATA["emoji"])
"""Emoji as emotion text: 🙂 -> happy@0.5."""

RUSSELL_MEHRABIAN: tuple[str, ...] = tuple(_DATA["terms"])
"""The names of the published terms."""

CORRELATIONS: Mapping[str, Vad] = MappingProxyType({k: _triple(v) for k, v in _DATA["correlations"].items()})
"""Within-class correlations (valence-dominance, arousal-dominance, valence-arousal) of the eight anchors."""


def find_term(label: str) -> Term | None:
    """The term that `label` names, directly or by an alias, or None."""
    key = "-".join(label.strip().lower().replace("_", " ").replace("-", " ").split())
    return LEXICON.get(ALIASES.get(key, key))


@lru_cache(maxsize=1024)
def lookup(label: str) -> Term:
    """The term that `label` names; `UsageError` with the nearest known names when there is none."""
    term = find_term(label)
    if term is not None:
        return term
    candidates = [*LEXICON, *(alias for alias in ALIASES if len(alias) > 3)]
    near = difflib.get_close_matches(label.strip().lower(), candidates, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}?" if near else "`affetto emotion parse --list` shows all names"
    raise UsageError(f"unknown emotion {quoted(label)}: {hint}")
