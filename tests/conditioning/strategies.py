"""Random emotions and tracks for property tests."""

from hypothesis import strategies as st

from affetto.conditioning.emotion import Emotion, Mixture
from affetto.conditioning.lexicon import LEXICON
from affetto.conditioning.track import EmotionTrack, Keyframe

NAMES = st.sampled_from(sorted(LEXICON))
EASES = st.sampled_from(
    ["hold", "linear", "cosine", "smoothstep", "bezier(0.2,0,0.4,1)", "exp(0.3,0.8)", "catmull-rom"]
)
_AXIS = st.floats(-1, 1, allow_subnormal=False).map(lambda x: round(x, 4))


@st.composite
def emotions(draw) -> Emotion:
    kind = draw(st.sampled_from(["label", "mixture", "vad", "both"]))
    intensity = round(draw(st.floats(0, 2)), 3)
    confidence = draw(st.sampled_from([1.0, 0.5, 0.25]))
    if kind == "label":
        return Emotion.from_label(draw(NAMES), intensity, confidence=confidence)
    shares = draw(st.dictionaries(NAMES, st.floats(0.01, 1), min_size=1, max_size=4))
    if kind == "mixture":
        return Emotion.from_mixture(shares, intensity, confidence=confidence)
    vad = (draw(_AXIS), draw(_AXIS), draw(_AXIS))
    mixture = Mixture(shares) if kind == "both" else Mixture()
    return Emotion(vad=vad, mixture=mixture, intensity=intensity, confidence=confidence)


@st.composite
def tracks(draw, *, spaces=("linear", "slerp", "mixture"), max_size=5) -> EmotionTrack:
    space = draw(st.sampled_from(spaces))
    times = draw(st.lists(st.integers(0, 9_999), min_size=1, max_size=max_size, unique=True))
    eases = EASES.filter(lambda ease: ease != "catmull-rom") if space == "slerp" else EASES
    return EmotionTrack(
        keyframes=tuple(
            Keyframe(time=time / 1000, emotion=draw(emotions()), ease=draw(eases)) for time in sorted(times)
        ),
        space=space,
        route=draw(st.sampled_from(["arousal", "neutral"])),
    )
