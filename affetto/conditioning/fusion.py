"""Several readings of one moment fused into one emotion, with a measure of how much they contradict each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from affetto.conditioning.charts import CHARTS
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.encoders.base import Reading, measured_emotion
from affetto.conditioning.lexicon import lookup
from affetto.runtime.errors import UsageError

CLASSES: tuple[str, ...] = CHARTS["lexical"].names
"""The classes in which mixtures are pooled."""

CONFLICT_LIMIT = 0.35
"""Nats; two sure and equally weighted readings of different emotions come to about 1.1."""

_DOUBT = 0.1  # of every mixture is spread over all classes: no source rules an emotion out entirely


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """The emotion that fused readings agree on."""

    emotion: Emotion
    vad: Float[np.ndarray, "3"]  # measured: intensity included
    variance: Float[np.ndarray, "3"]
    mixture: Mapping[str, float]
    conflict: float  # nats, 0 when all say the same
    divergence: Mapping[str, float]  # by modality: KL(its mixture || the fused one), nats
    conflicted: bool  # above the limit
    overridden: bool  # conflicted, and the emotion is the one the caller gave


def class_shares(mixture: Mapping[str, float]) -> Float[np.ndarray, "klass"]:
    """A mixture of any terms told in `CLASSES`: probabilities that sum to one, none of them zero."""
    shares = np.zeros(len(CLASSES))
    for name, share in mixture.items():
        shares = shares + share * np.array(_class_row(name))
    return (1 - _DOUBT) * shares / max(shares.sum(), 1e-12) + _DOUBT / len(CLASSES)


@lru_cache(maxsize=512)
def _class_row(name: str) -> tuple[float, ...]:
    term = lookup(name)
    if term.name in CLASSES:
        return tuple(float(known == term.name) for known in CLASSES)
    posterior = CHARTS["lexical"].posterior(np.array(term.vad))
    row = posterior[:-1].copy()
    row[CLASSES.index("neutral")] += posterior[-1]  # what no class explains
    return tuple(row)


def fuse(
    readings: Sequence[Reading],
    *,
    gates: Mapping[str, float] | None = None,
    prior_variance: float | None = None,
    override: Emotion | None = None,
    limit: float = CONFLICT_LIMIT,
) -> Fusion:
    """The precision-weighted mean of the VADs and the log-linear pool of the mixtures.

    A modality's gate (0..1, default 1) scales its say: precision g / variance in VAD, exponent g x confidence in the
    pool, the exponents summing to one so that unanimous readings come out unchanged. `prior_variance` pulls toward
    neutral. The conflict is the weighted KL divergence of the readings from the pool; above `limit` the caller's
    `override`, when given, stands. Raises UsageError when no reading has a say.
    """
    say = _says(readings, gates or {})
    vad = np.stack([np.asarray(reading.vad, np.float64) for reading in readings])
    gate = np.array([(gates or {}).get(reading.modality, 1.0) for reading in readings])
    precision = gate[:, None] / np.stack([np.asarray(reading.variance, np.float64) for reading in readings])
    total = precision.sum(0) + (0.0 if prior_variance is None else 1.0 / prior_variance)
    fused = np.clip((precision * vad).sum(0) / total, -1, 1)

    shares = np.stack([class_shares(reading.mixture) for reading in readings])
    pooled = np.exp(say @ np.log(shares))
    pooled = pooled / pooled.sum()
    divergence = (shares * np.log(shares / pooled)).sum(-1)
    conflict = float(max(say @ divergence, 0.0))
    by_modality: dict[str, float] = {}
    for reading, nats in zip(readings, divergence, strict=True):
        by_modality[reading.modality] = max(by_modality.get(reading.modality, 0.0), float(nats))

    told = np.maximum(pooled - 1.001 * pooled.min(), 0.0)  # doubt is no evidence
    mixture = {name: float(p) for name, p in zip(CLASSES, told / told.sum(), strict=True) if p > 0}
    confidence = float(say @ [reading.confidence for reading in readings]) * float(np.exp(-conflict))
    conflicted = conflict > limit
    overridden = conflicted and override is not None
    emotion = (
        override
        if overridden and override is not None
        else measured_emotion(fused, mixture, confidence=confidence)
    )
    return Fusion(
        emotion=emotion,
        vad=fused,
        variance=1.0 / total,
        mixture=mixture,
        conflict=conflict,
        divergence=by_modality,
        conflicted=conflicted,
        overridden=overridden,
    )


def _says(readings: Sequence[Reading], gates: Mapping[str, float]) -> Float[np.ndarray, "reading"]:
    """The exponent of each reading in the pool: gate times confidence, normalised."""
    if not readings:
        raise UsageError("nothing to fuse: give at least one reading")
    for name, gate in gates.items():
        if not 0 <= gate <= 1:
            raise UsageError(f"the gate of {name!r} must lie in 0..1, got {gate:g}")
    modalities = {reading.modality for reading in readings}
    if unknown := set(gates) - modalities:
        raise UsageError(
            f"a gate for {min(unknown)!r}, but the readings are of {', '.join(sorted(modalities))}"
        )
    weights = np.array(
        [gates.get(reading.modality, 1.0) * max(reading.confidence, 1e-3) for reading in readings]
    )
    if weights.sum() <= 0:
        raise UsageError("every gate is closed: open at least one")
    return weights / weights.sum()
