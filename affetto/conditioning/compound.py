"""Compound emotions: the vocabulary gathered into few broad Gaussians (arXiv 2602.06778)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from affetto.conditioning.anchors import ANCHORS_8
from affetto.conditioning.charts import Chart
from affetto.conditioning.lexicon import LEXICON, RUSSELL_MEHRABIAN, Vad, lookup
from affetto.runtime.errors import UsageError

CONFLICTS = (
    ("happy", "sad"),
    ("happy", "angry"),
    ("happy", "disgusted"),
    ("happy", "fear"),
    ("neutral", "angry"),
    ("neutral", "happy"),
    ("neutral", "sad"),
)
"""Pairs that hardly go together in one face or voice."""


@dataclass(frozen=True, kw_only=True)
class Compound:
    """A family of terms with the mean and standard deviation of their union, named by its best-known member."""

    name: str
    terms: tuple[str, ...]
    mean: Vad
    sd: Vad


def bhattacharyya(
    mean: Float[np.ndarray, "term 3"], sd: Float[np.ndarray, "term 3"]
) -> Float[np.ndarray, "term term"]:
    """Pairwise Bhattacharyya distances of diagonal Gaussians.

    1/8 sum dmu^2 / s^2 + 1/2 sum log(s^2 / (s1 s2)), with s^2 the mean of the two variances.
    """
    pooled = (sd[:, None] ** 2 + sd[None] ** 2) / 2
    apart = ((mean[:, None] - mean[None]) ** 2 / pooled).sum(-1) / 8
    return apart + 0.5 * np.log(pooled / (sd[:, None] * sd[None])).sum(-1)


def merge_moments(
    mean: Float[np.ndarray, "term 3"], sd: Float[np.ndarray, "term 3"]
) -> tuple[Float[np.ndarray, "3"], Float[np.ndarray, "3"]]:
    """Mean and standard deviation of the equal mixture of Gaussians: its first two moments."""
    centre = mean.mean(axis=0)
    return centre, np.sqrt((sd**2 + (mean - centre) ** 2).mean(axis=0))


@lru_cache(maxsize=16)
def compound_emotions(classes: int = 14) -> tuple[Compound, ...]:
    """The vocabulary as `classes` compounds: neutral, and the rest by complete linkage of Bhattacharyya distances."""
    names = RUSSELL_MEHRABIAN
    if not 2 <= classes <= len(names):
        raise UsageError(f"compound emotions come in 2..{len(names)} classes, got {classes}")
    mean = np.array([LEXICON[name].vad for name in names])
    sd = np.array([LEXICON[name].sd for name in names])
    distance = bhattacharyya(mean, sd)
    np.fill_diagonal(distance, 0.0)
    tree = linkage(squareform(distance, checks=False), method="complete")
    cluster = fcluster(tree, classes - 1, criterion="maxclust")
    neutral = LEXICON["neutral"]
    compounds = [Compound(name="neutral", terms=("neutral",), mean=neutral.vad, sd=neutral.sd)]
    for number in dict.fromkeys(cluster):
        rows = np.flatnonzero(cluster == number)
        centre, spread = merge_moments(mean[rows], sd[rows])
        members = [names[row] for row in rows]
        anchors = [name for name in members if name in ANCHORS_8]
        nearest = members[int((((mean[rows] - centre) / sd[rows]) ** 2).sum(-1).argmin())]
        compounds.append(
            Compound(
                name=anchors[0] if anchors else nearest,
                terms=tuple(members),
                mean=(float(centre[0]), float(centre[1]), float(centre[2])),
                sd=(float(spread[0]), float(spread[1]), float(spread[2])),
            )
        )
    return tuple(compounds)


def compound_chart(classes: int = 14, *, background: float = 0.02) -> Chart:
    """The compounds as a chart, each weighing the same."""
    compounds = compound_emotions(classes)
    return Chart(
        name="compound",
        names=tuple(compound.name for compound in compounds),
        mean=np.array([compound.mean for compound in compounds]),
        cov=np.stack([np.diag(np.square(compound.sd)) for compound in compounds]),
        prior=np.full(len(compounds), 1 / len(compounds)),
        background=background,
    )


def contradiction(shares: Mapping[str, float], pairs: Sequence[tuple[str, str]] = CONFLICTS) -> float:
    """How much a mixture contradicts itself: the sum of products over conflicting pairs, 0 to about 0.25."""
    named = {lookup(name).name: share for name, share in shares.items()}
    return float(sum(named.get(first, 0.0) * named.get(second, 0.0) for first, second in pairs))
