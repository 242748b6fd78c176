"""The eight emotions that every generator knows, and how any other reads on them."""

from functools import lru_cache

import numpy as np
from jaxtyping import Float

from affetto.conditioning.charts import CHART_DATA, CHARTS
from affetto.conditioning.lexicon import lookup

ANCHORS_8 = ("neutral", "happy", "sad", "angry", "fear", "disgusted", "surprised", "contempt")
"""MEAD's and DICE-Talk's eight, in the order of every `anchors()` result; neutral is column 0."""

ANCHOR_INDEX = {name: index for index, name in enumerate(ANCHORS_8)}


def _row(shares: dict[str, float]) -> Float[np.ndarray, "8"]:
    row = np.zeros(8)
    for name, share in shares.items():
        row[ANCHOR_INDEX[name]] = share
    return row / row.sum()


def _transfer() -> Float[np.ndarray, "column 8"]:
    rules = CHART_DATA["anchors"]
    return np.stack([_row(rules.get(name, {name: 1.0})) for name in CHARTS["lexical"].classes])


_TRANSFER = _transfer()


def anchor_weights(vad: Float[np.ndarray, "*point 3"]) -> Float[np.ndarray, "*point 8"]:
    """How much of each anchor a VAD point holds: non-negative, summing to one.

    The posterior of the lexical chart, its further classes (relaxed, bored ...) told in anchors; what no class
    explains counts as neutral.
    """
    return CHARTS["lexical"].posterior(vad) @ _TRANSFER


@lru_cache(maxsize=1024)
def _anchor_row(name: str) -> tuple[float, ...]:
    if name in ANCHOR_INDEX:
        return tuple(_row({name: 1.0}))
    if name in CHART_DATA["overrides"]:
        return tuple(_row(CHART_DATA["overrides"][name]))
    classes = CHARTS["lexical"].names
    if name in classes:
        return tuple(_TRANSFER[classes.index(name)])
    return tuple(anchor_weights(np.array(lookup(name).vad)))


def anchor_rows(names: tuple[str, ...]) -> Float[np.ndarray, "name 8"]:
    """For each emotion term, its share of every anchor; an anchor itself is one-hot."""
    return np.array([_anchor_row(name) for name in names], np.float64).reshape(len(names), 8)
