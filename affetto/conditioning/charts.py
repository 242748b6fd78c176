"""Gaussian charts: where named emotions lie in VAD space for words, faces, voices and music, and back again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType

import numpy as np
from jaxtyping import Float

from affetto.conditioning.lexicon import CORRELATIONS, LEXICON, Number, lookup, read_data
from affetto.runtime.errors import UsageError

CHART_DATA = read_data("charts.json")
BACKGROUND = "background"
_CUBE_VOLUME = 8.0  # of [-1, 1]^3, over which the background class is uniform
_LEXICAL_MEAN = (0.02, 0.19, 0.03)  # of all terms of the table
_LEXICAL_SD = (0.51, 0.34, 0.34)
_LEXICAL_R = (0.63, 0.44, 0.30)  # valence-dominance, arousal-dominance, valence-arousal


@dataclass(frozen=True, kw_only=True, eq=False)
class Chart:
    """One Gaussian per named emotion plus a uniform background class, over VAD in [-1, 1]^3 (arXiv 2602.06778).

    The background takes the points that no class explains, so that a calm smile is not called contempt.
    """

    name: str
    names: tuple[str, ...]
    mean: Float[np.ndarray, "klass 3"]
    cov: Float[np.ndarray, "klass 3 3"]
    prior: Float[np.ndarray, "klass"]  # need not sum to one
    background: Number = 0.0  # weight of the uniform class, beside the priors

    def __post_init__(self) -> None:
        count = len(self.names)
        if self.mean.shape != (count, 3) or self.cov.shape != (count, 3, 3) or self.prior.shape != (count,):
            raise UsageError(
                f"chart {self.name!r}: {count} names need means ({count}, 3), covs ({count}, 3, 3), priors"
            )

    @property
    def classes(self) -> tuple[str, ...]:
        """The columns of `posterior`: the names, then `background`."""
        return (*self.names, BACKGROUND)

    @property
    def sd(self) -> Float[np.ndarray, "klass 3"]:
        """The standard deviation of each class on each axis."""
        return np.sqrt(np.diagonal(self.cov, axis1=1, axis2=2))

    def mean_of(self, label: str) -> Float[np.ndarray, "3"]:
        """The VAD centre of one class of this chart."""
        return self.mean[self._index(label)]

    def subset(self, names: Sequence[str], *, background: Number = 0.0) -> "Chart":
        """The same chart with only `names`."""
        rows = [self._index(name) for name in names]
        return Chart(
            name=self.name,
            names=tuple(names),
            mean=self.mean[rows],
            cov=self.cov[rows],
            prior=self.prior[rows],
            background=background,
        )

    def log_density(self, vad: Float[np.ndarray, "*point 3"]) -> Float[np.ndarray, "*point klass"]:
        """log(prior * N(vad; mean, cov)) for each class."""
        features = _quadratic_features(np.asarray(vad, np.float64))
        return features @ self._coefficients

    def posterior(self, vad: Float[np.ndarray, "*point 3"]) -> Float[np.ndarray, "*point column"]:
        """p(class | vad) over `classes`; rows sum to one, the last column is the background."""
        joint = self.log_density(vad)
        flat = np.log(self.background / _CUBE_VOLUME) if self.background > 0 else -np.inf
        joint = np.concatenate([joint, np.full((*joint.shape[:-1], 1), flat)], axis=-1)
        weights = np.exp(joint - joint.max(axis=-1, keepdims=True))
        return weights / weights.sum(axis=-1, keepdims=True)

    def labels(self, vad: Sequence[Number] | np.ndarray, k: int = 3) -> list[tuple[str, float]]:
        """The `k` most probable classes at one point, best first."""
        p = self.posterior(np.asarray(vad, np.float64))
        return [(self.classes[i], float(p[i])) for i in np.argsort(-p, kind="stable")[:k]]

    def invert(self, weights: Mapping[str, Number], *, refine: bool = True) -> Float[np.ndarray, "3"]:
        """The VAD point that a mixture of this chart's classes names.

        It starts at the weighted mean of the class centres; `refine` climbs to the mode of the weighted density nearby.
        """
        rows = [self._index(name) for name in weights]
        share = np.array(list(weights.values()), np.float64)
        if not rows or share.min() < 0 or share.sum() <= 0:
            raise UsageError("a mixture needs weights >= 0 with a positive sum")
        share = share / share.sum()
        start = np.clip(share @ self.mean[rows], -1, 1)
        if not refine:
            return start
        from scipy.optimize import minimize  # scipy takes longer to import than the rest of this room

        def cost(point: np.ndarray) -> float:
            with np.errstate(divide="ignore"):
                joint = self.log_density(point)[rows] + np.log(share)
            top = joint.max()
            return float(-(top + np.log(np.exp(joint - top).sum())))

        return np.clip(minimize(cost, start, method="L-BFGS-B", bounds=[(-1, 1)] * 3).x, -1, 1)

    def pulled(
        self, vad: Sequence[Number] | np.ndarray, label: str, *, margin: Number = 0.05
    ) -> Float[np.ndarray, "3"]:
        """The point on the way from `vad` to the class centre where `label` first wins, and `margin` beyond it.

        This mends annotations whose point contradicts their label (pull to boundary, arXiv 2602.06778).
        """
        point, target = np.asarray(vad, np.float64), self._index(label)
        steps = np.linspace(0, 1, 201)
        path = point + steps[:, None] * (self.mean[target] - point)
        wins = np.flatnonzero(self.posterior(path).argmax(-1) == target)
        if len(wins) and wins[0] == 0:
            return point
        first = steps[wins[0]] if len(wins) else 1.0
        return np.clip(point + min(first + margin, 1.0) * (self.mean[target] - point), -1, 1)

    def _index(self, label: str) -> int:
        if label in self.names:
            return self.names.index(label)
        name = lookup(label).name
        if name not in self.names:
            raise UsageError(f"the {self.name} chart has no class {label!r}: it has {', '.join(self.names)}")
        return self.names.index(name)

    @cached_property
    def _coefficients(self) -> Float[np.ndarray, "10 klass"]:
        # log N(x) is a quadratic in x, so ten numbers per class turn 10,000 points into one matrix product.
        precision = np.linalg.inv(self.cov)
        linear = np.einsum("kij,kj->ki", precision, self.mean)
        _, logdet = np.linalg.slogdet(self.cov)
        constant = -0.5 * (np.einsum("ki,ki->k", linear, self.mean) + logdet + 3 * np.log(2 * np.pi))
        constant = constant + np.log(self.prior)
        square = -0.5 * np.stack([precision[:, 0, 0], precision[:, 1, 1], precision[:, 2, 2]])
        cross = -np.stack([precision[:, 0, 1], precision[:, 0, 2], precision[:, 1, 2]])
        return np.concatenate([square, cross, linear.T, constant[None]])


def _quadratic_features(x: Float[np.ndarray, "*point 3"]) -> Float[np.ndarray, "*point 10"]:
    v, a, d = x[..., 0], x[..., 1], x[..., 2]
    return np.stack([v * v, a * a, d * d, v * a, v * d, a * d, v, a, d, np.ones_like(v)], axis=-1)


def complete_dominance(
    valence: Float[np.ndarray, "*point"], arousal: Float[np.ndarray, "*point"], *, label: str | None = None
) -> Float[np.ndarray, "*point"]:
    """The dominance to expect at (valence, arousal), in [-1, 1], by a regression that saturates at 1.5 sd.

    The regression uses the spread of class `label` when given, else of the whole lexical table (arXiv 2602.06778).
    """
    mean, sd, correlation = _LEXICAL_MEAN, _LEXICAL_SD, _LEXICAL_R
    if label is not None:
        term = lookup(label)
        mean, sd, correlation = term.vad, term.sd, CORRELATIONS.get(term.name, _LEXICAL_R)
    vd, ad, va = correlation
    slope_v = (sd[2] / sd[0]) * (vd - va * ad) / (1 - va * va)
    slope_a = (sd[2] / sd[1]) * (ad - vd * va) / (1 - va * va)
    tilt = slope_v * (np.asarray(valence) - mean[0]) + slope_a * (np.asarray(arousal) - mean[1])
    return np.asarray(np.clip(mean[2] + 1.5 * sd[2] * np.tanh(tilt / (1.5 * sd[2])), -1, 1))


def correlated_cov(
    sd: Sequence[Number] | np.ndarray, correlation: Sequence[Number] | np.ndarray
) -> Float[np.ndarray, "3 3"]:
    """diag(sd) R diag(sd) with R from (valence-dominance, arousal-dominance, valence-arousal), made positive definite."""
    vd, ad, va = correlation
    matrix = np.array([[1, va, vd], [va, 1, ad], [vd, ad, 1]], np.float64) * np.outer(sd, sd)
    values, vectors = np.linalg.eigh(matrix)
    return (vectors * np.maximum(values, 1e-6)) @ vectors.T


def lexical_chart(
    names: Sequence[str], *, background: Number = 0.02, correlated: bool = False, tuned: bool = True
) -> Chart:
    """A chart of lexicon terms, with diagonal covariances, or the authors' correlations for the anchors.

    `tuned` takes our corrections of two classes: relaxed stands for its whole cluster, and contempt is narrower than
    published, or it would claim every mild emotion about the origin.
    """
    overrides = CHART_DATA["lexical"] if tuned else {}
    means, covs, keys = [], [], []
    for label in names:
        term = lookup(label)
        entry = overrides.get(term.name, {"vad": term.vad, "sd": term.sd})
        keys.append(term.name)
        means.append(entry["vad"])
        with_r = correlated and term.name in CORRELATIONS
        covs.append(correlated_cov(entry["sd"], CORRELATIONS[term.name] if with_r else (0, 0, 0)))
    return Chart(
        name="lexical",
        names=tuple(keys),
        mean=np.array(means, np.float64),
        cov=np.array(covs, np.float64),
        prior=np.full(len(keys), 1 / len(keys)),
        background=background,
    )


def _chart_from_table(name: str) -> Chart:
    means, covs = [], []
    for label in CHART_DATA["classes"]:
        entry = CHART_DATA[name][label]
        if "va" in entry:
            # The source has no dominance: what the words say, at this valence and arousal.
            shift = complete_dominance(np.array(entry["va"][0]), np.array(entry["va"][1]))
            dominance = 0.0 if label == "neutral" else 0.5 * (float(shift) + LEXICON[label].vad[2])
            entry = {"vad": [*entry["va"], dominance], "sd": [*entry["sd"], max(LEXICON[label].sd[2], 0.2)]}
        means.append(entry["vad"])
        covs.append(np.diag(np.square(entry["sd"])))
    return Chart(
        name=name,
        names=tuple(CHART_DATA["classes"]),
        mean=np.array(means, np.float64),
        cov=np.array(covs, np.float64),
        prior=np.full(len(means), 1 / len(means)),
        background=CHART_DATA["background"],
    )


CHARTS: Mapping[str, Chart] = MappingProxyType(
    {
        "lexical": lexical_chart(CHART_DATA["classes"], background=CHART_DATA["background"]),
        **{name: _chart_from_table(name) for name in ("face", "voice", "music")},
    }
)
"""The charts of words (the canonical space of `Emotion`), faces, voices and music; all with the same classes."""


def get_chart(name: str | Chart) -> Chart:
    """The chart called `name`; `UsageError` names the charts there are."""
    if isinstance(name, Chart):
        return name
    if name not in CHARTS:
        raise UsageError(f"unknown chart {name!r}: use {', '.join(CHARTS)}")
    return CHARTS[name]


def transport(
    vad: Float[np.ndarray, "*point 3"], source: str | Chart, target: str | Chart
) -> Float[np.ndarray, "*point 3"]:
    """The same emotion on another medium's chart, in [-1, 1].

    Each class carries its share of the point to its own place on the target chart, the rest of the way scaled by the
    ratio of spreads; the background share stays where it is. No affine map could do this: from words to faces a happy
    point must lose arousal while a contemptuous one gains it.
    """
    source, target = get_chart(source), get_chart(target)
    if source.names != target.names:
        raise UsageError(
            f"charts {source.name!r} and {target.name!r} have different classes: take a subset of both"
        )
    x = np.asarray(vad, np.float64)
    p = source.posterior(x)
    ratio = target.sd / source.sd
    # sum_c p_c (mu'_c + (x - mu_c) r_c) + p_background x
    offset = target.mean - source.mean * ratio
    moved = p[..., :-1] @ offset + (p[..., :-1] @ ratio) * x + p[..., -1:] * x
    return np.clip(moved, -1, 1).astype(np.asarray(vad).dtype)
