"""Where published weights can be had: the page with the licence, the files, and what a pull takes of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from affetto.runtime.errors import MissingResourceError

HUB = "https://huggingface.co"


@dataclass(frozen=True, kw_only=True)
class Part:
    """One published file: `name` as it lies at the publisher (folders with /), its address if it has one.

    `size` (bytes) is 0 and `sha256` empty until they are known; an `optional` part may be missing from a folder.
    """

    name: str
    url: str = ""  # empty when only a person can fetch it, such as behind a form or on a shared drive
    size: int = 0
    sha256: str = ""
    optional: bool = False


@dataclass(frozen=True, kw_only=True)
class Origin:
    """The page to read first, the revision its addresses stand for, the parts, and about how large they are together."""

    page: str
    parts: tuple[Part, ...]
    revision: str = ""
    about_bytes: int = 0

    @property
    def downloadable(self) -> bool:
        """Whether every part that is needed has an address."""
        return all(part.url for part in self.parts if not part.optional)

    @property
    def names(self) -> str:
        """The files that a person fetches, in words."""
        needed = ", ".join(part.name for part in self.parts if not part.optional)
        beside = ", ".join(part.name for part in self.parts if part.optional and not part.url)
        return f"{needed} (with {beside} beside it)" if beside else needed


def _hub(repository: str, *names: str, revision: str = "main", about: int = 0) -> Origin:
    page = f"{HUB}/{repository}"
    parts = tuple(Part(name=name, url=f"{page}/resolve/{revision}/{name}") for name in names)
    return Origin(page=page, parts=parts, revision=revision, about_bytes=about)


def _by_hand(page: str, *names: str, optional: tuple[str, ...] = (), about: int = 0) -> Origin:
    parts = [Part(name=name) for name in names] + [Part(name=name, optional=True) for name in optional]
    return Origin(page=page, parts=tuple(parts), about_bytes=about)


_DIFFVC = "https://github.com/huawei-noah/Speech-Backbones/tree/main/DiffVC"
_MUSER = f"{HUB}/TaylorJi/MusER"
_FLAME = "https://flame.is.tue.mpg.de"
_EMOTIONS = ("angry", "contempt", "disgusted", "fear", "happy", "neutral", "sad", "surprised")

_DICE = _hub(
    "EEEELY/DICE-Talk", "DICE-Talk/unet.pth", "DICE-Talk/audio_linear.pth", "DICE-Talk/emo_model.pth",
    "DICE-Talk/pose_guider.pth", "RIFE/flownet.pkl", about=3_540_000_000,
)  # fmt: skip
_PRIORS = tuple(
    Part(
        name=f"emo/{name}.npy",
        url=f"https://raw.githubusercontent.com/toto222/DICE-Talk/main/examples/emo/{name}.npy",
    )
    for name in _EMOTIONS
)
_VOICE_LABELS = (
    "Anger", "Astonishment_Surprise", "Contempt", "Contentment", "Disgust", "Elation", "Fear", "Sadness",
    "Arousal", "Submissive_vs._Dominant", "Valence",
)  # fmt: skip  # the anchors, calm and the axes; 295 MB each
_FURTHER_VOICE_LABELS = (
    "Affection", "Amusement", "Awe", "Bitterness", "Concentration", "Confusion", "Contemplation",
    "Disappointment", "Distress", "Doubt", "Embarrassment", "Emotional_Numbness", "Fatigue_Exhaustion",
    "Helplessness", "Hope_Enthusiasm_Optimism", "Impatience_and_Irritability", "Infatuation", "Interest",
    "Intoxication_Altered_States_of_Consciousness", "Jealousy_&_Envy", "Longing", "Malevolence_Malice",
    "Pain", "Pleasure_Ecstasy", "Pride", "Relief", "Sexual_Lust", "Shame", "Sourness", "Teasing",
    "Thankfulness_Gratitude", "Triumph",
)  # fmt: skip  # taken when they lie in the folder that is given
_EMPATHIC_VOICE, _EMPATHIC_FACE = (f"{HUB}/laion/Empathic-Insight-{what}-Small" for what in ("Voice", "Face"))
_FACE_LABELS = tuple(sorted(label.lower() for label in (*_VOICE_LABELS[:8], *_FURTHER_VOICE_LABELS)))


def _empathic(
    page: str, labels: tuple[str, ...], encoder: str, about: int, further: tuple[str, ...] = ()
) -> Origin:
    """Regressors of one repository and the encoder, from another, that they were trained on."""
    files = tuple(f"model_{label}_best.pth" for label in labels)
    parts = tuple(Part(name=file, url=f"{page}/resolve/main/{file}") for file in files)
    beside = tuple(Part(name=f"model_{label}_best.pth", optional=True) for label in further)
    heard = Part(
        name=f"{encoder.partition('/')[2]}/model.safetensors",
        url=f"{HUB}/{encoder}/resolve/main/model.safetensors",
    )
    return Origin(page=page, parts=(*parts, heard, *beside), revision="main", about_bytes=about)


ORIGINS: Mapping[str, Origin] = MappingProxyType(
    {
        "audeering-vad": _hub(
            "audeering/wav2vec2-large-robust-12-ft-emotion-msp-dim", "model.safetensors", about=660_000_000
        ),
        "dac-44khz": _hub("descript/dac_44khz", "model.safetensors"),
        "dice-talk": Origin(
            page=_DICE.page, parts=_DICE.parts + _PRIORS, revision=_DICE.revision, about_bytes=_DICE.about_bytes
        ),
        "diffvc-libritts": _by_hand(_DIFFVC, "vc_libritts_wodyn.pt"),
        "diffvc-vctk": _by_hand(_DIFFVC, "vc_vctk_wodyn.pt"),
        "emote": _by_hand("https://emote.is.tue.mpg.de", "EMOTE_v2/checkpoints/last.ckpt", about=385_000_000),
        "emotion2vec-base": _hub("emotion2vec/emotion2vec_plus_base", "model.pt", about=1_100_000_000),
        "emotion2vec-large": _hub("emotion2vec/emotion2vec_plus_large", "model.pt", about=1_945_790_254),
        "empathic-insight-face": _empathic(
            _EMPATHIC_FACE, _FACE_LABELS, "google/siglip2-so400m-patch16-384", 4_600_000_000
        ),
        "empathic-insight-voice": _empathic(
            _EMPATHIC_VOICE, _VOICE_LABELS, "mkrausio/EmoWhisper-AnS-Small-v0.1", 4_200_000_000, _FURTHER_VOICE_LABELS
        ),
        "encodec-24khz": _hub("facebook/encodec_24khz", "model.safetensors"),
        "encodec-48khz": _hub("facebook/encodec_48khz", "model.safetensors"),
        "flame2020": _by_hand(_FLAME, "generic_model.pkl"),
        "flame2023-open": _by_hand(_FLAME, "flame2023_Open.pkl"),
        "hifigan-universal": _by_hand("https://github.com/jik876/hifi-gan", "UNIVERSAL_V1/g_02500000"),
        "mimi": _hub("kyutai/mimi", "model.safetensors"),
        "muser": _by_hand(_MUSER, "best.pt", optional=("dictionary.pkl",)),
        "muser-prior": _by_hand(_MUSER, "best.pt", optional=("VQ_dict.data",)),
        "svd-xt": _hub(
            "stabilityai/stable-video-diffusion-img2vid-xt", "vae/diffusion_pytorch_model.fp16.safetensors",
            "image_encoder/model.fp16.safetensors", about=1_459_000_000,
        ),
        "vocos-mel-24khz": _hub("charactr/vocos-mel-24khz", "pytorch_model.bin"),
        "wav2vec2-base-960h": _hub("facebook/wav2vec2-base-960h", "model.safetensors", about=378_000_000),
        "whisper-tiny": _hub("openai/whisper-tiny", "model.safetensors", about=151_000_000),
    }
)  # fmt: skip
"""The weights that `affetto weights pull` knows the way to, by registered id.

EMOTE's checkpoint may bear any name that ends in .ckpt; `--from` takes it by that name as well.
"""


def origin_of(weight_id: str, source: str) -> Origin:
    """The origin of a registered file; raises MissingResourceError with `source` when none is known."""
    if weight_id not in ORIGINS:
        raise MissingResourceError(
            f"weights {weight_id!r} cannot be downloaded: {source}; then give the file with --from FILE"
        )
    return ORIGINS[weight_id]
