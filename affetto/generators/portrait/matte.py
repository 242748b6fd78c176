"""Who is person and who is background: a soft mask grown from the fitted head by colour and edges."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Float32
from scipy import ndimage, sparse
from scipy.cluster.vq import kmeans2
from scipy.sparse.linalg import cg
from skimage.color import rgb2lab
from skimage.transform import resize

from affetto.generators.portrait.fill import outside_distance

LONG_SIDE = 176  # pixels at which the mask is solved; its edge is refined at full size
_CLUSTERS, _ROUNDS = 7, 3
_DATA, _SEED = 0.06, 50.0
_THIN = 0.07  # of a head's width


@dataclass(frozen=True, kw_only=True)
class Silhouette:
    """What the fitted head tells about the picture. `solid`: surely person. `near`: distance from head and shoulders."""

    solid: Bool[np.ndarray, "row column"]
    away: Float[np.ndarray, "row column"]  # pixels outside the head model's silhouette, negative inside
    unit: float  # pixels of a head's width


def person_mask(
    picture: Float[np.ndarray, "row column 3"], silhouette: Silhouette
) -> Float32[np.ndarray, "row column"]:
    """How much of each pixel is the person (0..1), from an sRGB picture (0..255).

    A random walk between seeds (Grady 2006) with the colours of both sides as prior, then a guided filter (He et al.
    2013) for the edge. Where nothing of the background is in the picture the mask is 1 everywhere.
    """
    rows, columns = picture.shape[:2]
    factor = min(1.0, LONG_SIDE / max(rows, columns))
    shape = (max(8, round(rows * factor)), max(8, round(columns * factor)))
    small = np.asarray(resize(picture / 255.0, shape, anti_aliasing=True))
    solid = np.asarray(resize(silhouette.solid.astype(np.float64), shape)) > 0.9
    away = np.asarray(resize(np.asarray(silhouette.away, np.float64), shape))
    away /= silhouette.unit  # in widths of a head
    behind = _background_seeds(away, solid)
    if behind.sum() < 12 or solid.sum() < 12:
        return np.ones((rows, columns), np.float32)
    lab = rgb2lab(small)
    walk = _walker(lab)
    # Far from head and shoulders lies background, unless colour and edges say otherwise.
    guess = 1.0 / (1.0 + np.exp(np.clip(away / 0.10 - 1.0, -30, 30)))
    mask = np.where(solid, 1.0, np.where(behind, 0.0, guess))
    for _ in range(_ROUNDS):
        odds = _colour_odds(lab, mask, solid, behind) + np.clip(1.5 - away / 0.12, -3, 3)
        wanted = 1.0 / (1.0 + np.exp(-np.clip(odds, -12, 12)))
        strength = _DATA + _SEED * (solid | behind)
        wanted = np.where(solid, 1.0, np.where(behind, 0.0, wanted))
        system = walk + sparse.diags(strength.ravel())
        scale = sparse.diags(np.reciprocal(np.asarray(system.diagonal(), np.float64)))
        solved, _ = cg(system, (strength * wanted).ravel(), x0=mask.ravel(), rtol=1e-4, maxiter=250, M=scale)
        mask = np.clip(solved.reshape(shape), 0, 1)
    mask = _whole(mask, solid, silhouette.unit * factor)
    sharp = _ramp(ndimage.gaussian_filter(mask, 0.6), 0.3, 0.7)
    large = np.asarray(resize(sharp, (rows, columns), order=1))
    radius = max(2, round(0.6 / factor))
    refined = _guided(picture / 255.0, large, radius, 2e-4)
    return _ramp(refined, 0.12, 0.88).astype(np.float32)


def _background_seeds(away: np.ndarray, solid: np.ndarray) -> np.ndarray:
    """Pixels at the picture's upper and side edges that are far from head and shoulders."""
    rim = np.zeros(away.shape, bool)
    rim[:2], rim[:, :2], rim[:, -2:] = True, True, True
    low = np.flatnonzero(solid.any(axis=1)).max(initial=0)
    head = np.flatnonzero(solid.any(axis=1)).min(initial=0)
    rows = np.arange(len(away))[:, None]
    rim &= rows < head + 0.8 * (low - head)  # beside the chest a sleeve may reach the edge
    return (rim & (away > 0.28)) | (away > 1.6) & (rows < low)


def _colour_odds(lab: np.ndarray, mask: np.ndarray, solid: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """Log odds of person against background by colour: two mixtures of k-means clusters."""
    scores = []
    for chosen in ((mask > 0.7) | solid, (mask < 0.3) | behind):
        samples = lab[chosen]
        centres, label = kmeans2(
            samples, min(_CLUSTERS, len(samples)), minit="++", rng=np.random.default_rng(0)
        )
        score = np.full(mask.shape, 1e-9)
        for cluster, centre in enumerate(centres):
            members = samples[label == cluster]
            if len(members) < 3:
                continue
            spread = members.var(axis=0) + 9.0
            share = len(members) / len(samples)
            distance = ((lab - centre) ** 2 / spread).sum(axis=-1)
            score += share * np.exp(-0.5 * distance) / np.sqrt(spread.prod())
        scores.append(np.log(score))
    return np.clip(0.8 * (scores[0] - scores[1]), -4, 4)


def _walker(lab: np.ndarray) -> sparse.csr_matrix:
    """The Laplacian of the picture's grid: neighbours of like colour hold together."""
    rows, columns = lab.shape[:2]
    number = np.arange(rows * columns).reshape(rows, columns)
    pairs, weights = [], []
    for one, other in (
        ((slice(None), slice(0, -1)), (slice(None), slice(1, None))),
        ((slice(0, -1),), (slice(1, None),)),
    ):
        difference = ((lab[one] - lab[other]) ** 2).sum(axis=-1).ravel()
        pairs.append(np.stack([number[one].ravel(), number[other].ravel()]))
        weights.append(difference)
    joined, difference = np.concatenate(pairs, axis=1), np.concatenate(weights)
    strength = np.exp(-difference / (2.0 * difference.mean() + 1e-6)) + 1e-3
    size = rows * columns
    link = sparse.coo_matrix((strength, (joined[0], joined[1])), shape=(size, size))
    link = (link + link.T).tocsr()
    return (sparse.diags(np.asarray(link.sum(axis=1)).ravel()) - link).tocsr()


def _whole(mask: np.ndarray, solid: np.ndarray, unit: float) -> np.ndarray:
    """The mask without islands that do not touch the head, and without holes."""
    label = np.zeros(mask.shape, np.int32)
    ndimage.label(mask > 0.5, output=label)
    kept = np.isin(label, np.unique(label[solid & (label > 0)])) & (label > 0)
    kept = np.asarray(ndimage.binary_fill_holes(kept))
    thick = outside_distance(~kept) > _THIN * unit  # cords and poles that touch the person are not them
    grown = outside_distance(thick) <= 1.35 * _THIN * unit
    kept &= grown | solid
    return np.where(
        kept,
        np.maximum(mask, 0.5 + 0.5 * ndimage.binary_erosion(kept, iterations=2)),
        mask * ndimage.binary_dilation(kept, iterations=2),
    )


def _guided(guide: np.ndarray, mask: np.ndarray, radius: int, epsilon: float) -> np.ndarray:
    """The mask as a local linear function of the picture's colour, so that its edge follows hair and cloth."""
    size = 2 * radius + 1

    def mean(values: np.ndarray) -> np.ndarray:
        return ndimage.uniform_filter(values, size, mode="nearest", axes=(0, 1))

    middle, target = mean(guide), mean(mask)
    cross = mean(guide * mask[..., None]) - middle * target[..., None]
    second = mean(guide[..., :, None] * guide[..., None, :]) - middle[..., :, None] * middle[..., None, :]
    slope = np.linalg.solve(second + epsilon * np.eye(3), cross[..., None])[..., 0]
    offset = target - (slope * middle).sum(axis=-1)
    return np.clip((mean(slope) * guide).sum(axis=-1) + mean(offset), 0, 1)


def _ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip((values - low) / (high - low), 0, 1)
