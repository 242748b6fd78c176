"""A critic of the emotion of music: logistic regression on hand-made features, fitted to EMOPIA when a bench runs.

It is fitted to played music that the composer never saw, and is never used in training or in choosing between versions.
Nothing fitted is kept: EMOPIA's licence is not that of the weights here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64, Int64
from scipy.optimize import minimize

from affetto.evaluation.music_features import FORMULA, feature_table
from affetto.evaluation.music_sets import QUADRANTS, LabelledClip
from affetto.media.midi import Score

TASKS = ("quadrant", "arousal", "valence")
_DECAY = 0.02
_CLIP = 3.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Regression:
    """Multinomial logistic regression on standardised features."""

    mean: Float64[np.ndarray, "feature"]
    scale: Float64[np.ndarray, "feature"]
    weights: Float64[np.ndarray, "more class"]  # features and one

    @classmethod
    def fit(
        cls,
        values: Float[np.ndarray, "clip feature"],
        labels: Int64[np.ndarray, "clip"],
        *,
        classes: int,
        decay: float = _DECAY,
    ) -> "Regression":
        """The regression with the least cross-entropy plus `decay` times its squared weights; every class counts alike."""
        mean, scale = values.mean(axis=0), values.std(axis=0) + 1e-6
        inputs = _standardised(values, mean, scale)
        share = 1.0 / np.maximum(np.bincount(labels, minlength=classes), 1)[labels] / classes
        wanted = np.eye(classes)[labels]
        width = inputs.shape[1]
        kept = np.ones((width, 1))
        kept[-1] = 0.0  # the constant is free

        def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
            weights = flat.reshape(width, classes)
            logs = _log_softmax(inputs @ weights)
            gradient = inputs.T @ ((np.exp(logs) - wanted) * share[:, None]) + 2 * decay * kept * weights
            total = -(share * (wanted * logs).sum(axis=1)).sum() + decay * (kept * weights**2).sum()
            return float(total), gradient.ravel()

        found = minimize(
            loss, np.zeros(width * classes), jac=True, method="L-BFGS-B", options={"maxiter": 300}
        )
        return cls(mean=mean, scale=scale, weights=found.x.reshape(width, classes))

    def probabilities(self, values: Float[np.ndarray, "clip feature"]) -> Float64[np.ndarray, "clip class"]:
        """The probability of each class."""
        return np.exp(_log_softmax(_standardised(values, self.mean, self.scale) @ self.weights))


def _standardised(values: np.ndarray, mean: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Standard scores, bounded so that one bizarre feature cannot decide alone, and a column of ones."""
    inputs = np.clip((values - mean) / scale, -_CLIP, _CLIP)
    return np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1)


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


@dataclass(frozen=True, kw_only=True, eq=False)
class Verdicts:
    """What a critic says of clips."""

    quadrant: Float64[np.ndarray, "clip 4"]  # probabilities
    arousal: Float64[np.ndarray, "clip"]  # probability that it is high
    valence: Float64[np.ndarray, "clip"]

    def accuracies(self, quadrants: Int64[np.ndarray, "clip"]) -> dict[str, float]:
        """How often quadrant (1..4), arousal and valence are those of the labels."""
        signs = np.array(QUADRANTS)[quadrants - 1]
        return {
            "quadrant": float((self.quadrant.argmax(axis=1) + 1 == quadrants).mean()),
            "arousal": float(((self.arousal > 0.5) == (signs[:, 1] > 0)).mean()),
            "valence": float(((self.valence > 0.5) == (signs[:, 0] > 0)).mean()),
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class MusicCritic:
    """Three regressions: four quadrants, arousal, valence."""

    columns: Int64[np.ndarray, "heard"]
    judges: tuple[Regression, Regression, Regression]

    @classmethod
    def fit(
        cls,
        values: Float[np.ndarray, "clip feature"],
        quadrants: Int64[np.ndarray, "clip"],
        *,
        columns: Int64[np.ndarray, "heard"] | None = None,
    ) -> "MusicCritic":
        """A critic taught by clips and their quadrants 1..4, which hears the given columns of features only."""
        columns = np.arange(values.shape[1]) if columns is None else columns
        signs = np.array(QUADRANTS)[quadrants - 1]
        heard = values[:, columns]
        return cls(
            columns=columns,
            judges=(
                Regression.fit(heard, quadrants - 1, classes=4),
                Regression.fit(heard, (signs[:, 1] > 0).astype(np.int64), classes=2),
                Regression.fit(heard, (signs[:, 0] > 0).astype(np.int64), classes=2),
            ),
        )

    def __call__(self, values: Float[np.ndarray, "clip feature"]) -> Verdicts:
        """What it says of clips with these features."""
        quadrant, arousal, valence = (judge.probabilities(values[:, self.columns]) for judge in self.judges)
        return Verdicts(quadrant=quadrant, arousal=arousal[:, 1], valence=valence[:, 1])


def heard_columns(names: Sequence[str], *, without_formula: bool) -> Int64[np.ndarray, "heard"]:
    """The columns of all features, or of those that the formula which conditions the composer does not read."""
    return np.array(
        [index for index, name in enumerate(names) if not (without_formula and name in FORMULA)], np.int64
    )


def song_folds(
    songs: Int64[np.ndarray, "clip"], folds: int, rng: np.random.Generator
) -> Int64[np.ndarray, "clip"]:
    """The fold of each clip; clips of one song share it, and folds hold about as many clips."""
    kinds, counts = np.unique(songs, return_counts=True)
    order = rng.permutation(len(kinds))
    order = order[np.argsort(-counts[order], kind="stable")]
    fold_of, filled = np.zeros(len(kinds), np.int64), np.zeros(folds, np.int64)
    for kind in order:
        fold_of[kind] = filled.argmin()
        filled[fold_of[kind]] += counts[kind]
    return fold_of[np.searchsorted(kinds, songs)]


def cross_verdicts(
    values: Float[np.ndarray, "clip feature"],
    quadrants: Int64[np.ndarray, "clip"],
    songs: Int64[np.ndarray, "clip"],
    *,
    columns: Int64[np.ndarray, "heard"] | None = None,
    folds: int = 5,
    seed: int = 0,
) -> Verdicts:
    """What critics that have not heard a clip's song say of it."""
    fold = song_folds(songs, folds, np.random.default_rng(seed))
    quadrant, arousal, valence = np.zeros((len(values), 4)), np.zeros(len(values)), np.zeros(len(values))
    for index in range(folds):
        here = fold == index
        said = MusicCritic.fit(values[~here], quadrants[~here], columns=columns)(values[here])
        quadrant[here], arousal[here], valence[here] = said.quadrant, said.arousal, said.valence
    return Verdicts(quadrant=quadrant, arousal=arousal, valence=valence)


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """The critic of all features, the one without the formula's, and what critics say of the played music unheard."""

    names: tuple[str, ...]
    critics: tuple[MusicCritic, MusicCritic]
    played: tuple[Verdicts, Verdicts]
    quadrants: Int64[np.ndarray, "clip"]

    @classmethod
    def taught(cls, clips: Sequence[LabelledClip], scores: Sequence[Score]) -> "Panel":
        """A panel that learned from these clips, heard as `scores`."""
        names, values = feature_table(list(scores))
        quadrants = np.array([clip.quadrant for clip in clips], np.int64)
        songs = np.array([clip.song for clip in clips], np.int64)
        views = [heard_columns(names, without_formula=without) for without in (False, True)]
        first, second = (MusicCritic.fit(values, quadrants, columns=view) for view in views)
        played, other = (cross_verdicts(values, quadrants, songs, columns=view) for view in views)
        return cls(names=names, critics=(first, second), played=(played, other), quadrants=quadrants)

    def verdicts(self, scores: Sequence[Score]) -> tuple[Verdicts, Verdicts]:
        """What both critics say of other music."""
        values = feature_table(list(scores))[1]
        return self.critics[0](values), self.critics[1](values)
