"""`SynchroRaMaPipeline`: DICE-Talk told also what was said, how it sounded, what the scene is, and how the face will move.

Architecture after SynchroRaMa (arXiv 2509.19965), whose authors publish neither code nor weights; ours sit on DICE-Talk. With
networks that have learned nothing it gives exactly DICE-Talk's results.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers.models.autoencoders.autoencoder_kl_temporal_decoder import AutoencoderKLTemporalDecoder
from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler
from jaxtyping import Float
from torch import Tensor
from transformers import AutoTokenizer, CLIPTextModel, CLIPVisionModelWithProjection

from affetto.conditioning.emotion import Emotion
from affetto.conditioning.track import EmotionTrack
from affetto.generators.portrait.full.clip import FPS, ClipConditions, FrameTokens
from affetto.generators.portrait.full.framing import FaceBox, Framed
from affetto.generators.portrait.full.inputs import Photo, speech_of
from affetto.generators.portrait.full.interpolation import FrameInterpolator
from affetto.generators.portrait.full.options import DiceTalkOptions
from affetto.generators.portrait.full.pipeline import DiceTalkPipeline, Feeling
from affetto.generators.portrait.full.priors import anchor_course, priors_of
from affetto.generators.portrait.full.projections import AudioProjection, EmotionModel, PoseGuider
from affetto.generators.portrait.full.sizes import NETWORKS, DiceSizes, scheduler
from affetto.generators.portrait.full.speech import SpeechEncoder
from affetto.generators.portrait.full.synchro_denoiser import SynchroClip, SynchroDenoiser
from affetto.generators.portrait.full.synchro_emotion import EmotionFusion, Evidence, read_evidence
from affetto.generators.portrait.full.synchro_reference import ReferenceNet, draw_motion, reference_rows
from affetto.generators.portrait.full.synchro_weights import WEIGHTS_ID, SynchroWeights
from affetto.generators.portrait.full.video import DiceTalkVideo
from affetto.generators.portrait.motion import MotionGenerator
from affetto.head.landmarks68 import landmarks_of
from affetto.head.model import HeadModel
from affetto.head.rotation import euler_matrix
from affetto.media.animation.curves import FaceCurves
from affetto.media.audio import Audio
from affetto.runtime.errors import InvalidInputError, MissingResourceError, UsageError
from affetto.weights.store import weight_path

Motion = Callable[..., FaceCurves]
"""Speech and an emotion to curves at `fps`: a `MotionGenerator`, the flow-VAE behind one, or anything called like it."""

_POINTS_TOP = 0.2  # of the face's box lies above the brows, where the 68 points end


@dataclass(frozen=True, kw_only=True)
class SceneAsked:
    """What SynchroRaMa is told beside picture, sound and emotion."""

    transcript: str = ""  # the words spoken, for their sentiment
    scene: Float[Tensor, "token width"] | None = None  # of the scene's description, see `SceneText`
    motion: FaceCurves | None = None  # how the face will move
    evidence: float = 1.0  # how much words and voice may move the emotion, 0..2
    scene_scale: float = 1.0
    reference_stride: int = 25  # frames for each drawing of the motion that the ReferenceNet sees


class SceneText:
    """A description such as "a woman with short hair, smiling, looks at the camera" as tokens for the third slot."""

    def __init__(self, folder: str | Path, *, device: torch.device) -> None:
        """`folder` holds a CLIP text model and its tokenizer as transformers saves them; nothing is downloaded."""
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
            self._model = CLIPTextModel.from_pretrained(str(folder), local_files_only=True).to(device).eval()  # type: ignore[arg-type]
        except (OSError, ValueError) as error:
            raise MissingResourceError(
                f"{folder}: holds no CLIP text model with its tokenizer: name the folder of one (transformers layout)"
            ) from error
        self.width = int(self._model.config.hidden_size)

    @torch.inference_mode()
    def __call__(self, description: str) -> Float[Tensor, "token width"]:
        """The tokens of a description."""
        asked = self._tokenizer(
            description, return_tensors="pt", truncation=True, padding="max_length", max_length=77
        )
        return self._model(asked["input_ids"].to(self._model.device)).last_hidden_state[0]


class SynchroRaMaPipeline(DiceTalkPipeline):
    """DICE-Talk's pipeline with a fusion of emotional evidence, a scene slot and a ReferenceNet; called as it is."""

    def __init__(
        self,
        unet: SynchroDenoiser,
        audio_linear: AudioProjection,
        emotion_model: EmotionModel,
        pose_guider: PoseGuider,
        interpolator: FrameInterpolator,
        speech: SpeechEncoder,
        vae: AutoencoderKLTemporalDecoder,
        image_encoder: CLIPVisionModelWithProjection,
        scheduler: EulerDiscreteScheduler,
        fusion: EmotionFusion,
        reference: ReferenceNet,
        motion: Any = None,
    ) -> None:
        super().__init__(
            unet=unet, audio_linear=audio_linear, emotion_model=emotion_model, pose_guider=pose_guider,
            interpolator=interpolator, speech=speech, vae=vae, image_encoder=image_encoder, scheduler=scheduler,
        )  # fmt: skip
        self.register_modules(fusion=fusion, reference=reference)
        self._motion: Motion | None = motion
        self._asked = SceneAsked()
        self._speech: Audio | None = None
        self._felt: str | Emotion | EmotionTrack | None = None

    @classmethod
    def from_pretrained(  # type: ignore[override]
        cls,
        name: str | Path = WEIGHTS_ID,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        motion: Motion | None = None,
        **kwargs: Any,
    ) -> "SynchroRaMaPipeline":
        """Load what `affetto train portrait-synchro` wrote (in the store, or a file) on top of the pulled DICE-Talk.

        `motion` makes curves for the ReferenceNet; without it the embedded motion of portraits does. Raises
        MissingResourceError with the command that gets what is missing.
        """
        path = weight_path(WEIGHTS_ID) if str(name) == WEIGHTS_ID else Path(name)
        weights = SynchroWeights.load(path)
        if not weights.is_synchrorama:
            raise InvalidInputError(
                f"{path}: holds DICE-Talk's adapters only: put them on with with_adapters"
            )
        dice = DiceTalkPipeline.from_pretrained(device=device, dtype=dtype, **kwargs)
        made = motion or MotionGenerator.from_pretrained("embedded", device=device)
        return cls.on(dice, weights, made)

    @classmethod
    def on(
        cls, dice: DiceTalkPipeline, weights: SynchroWeights, motion: Motion | None = None
    ) -> "SynchroRaMaPipeline":
        """A loaded DICE-Talk with trained weights put on."""
        parts = dict(dice.components)
        parts["unet"] = weights.put_on(dice.unet, dice.audio_linear, dice.emotion_model)
        fusion, reference = (each.to(dice.unet.dtype) for each in (weights.fusion(), weights.reference()))
        return cls(fusion=fusion, reference=reference, motion=motion, **parts).placed(dice._where)  # type: ignore[return-value]

    @classmethod
    def fresh(cls, sizes: DiceSizes, *, motion: Motion | None = None) -> "SynchroRaMaPipeline":
        """Networks that have learned nothing yet, of any size: for training, trials and tests."""
        networks = {name: sizes.build(name).eval() for name in NETWORKS}
        unet = SynchroDenoiser.from_dice(networks["unet"])  # type: ignore[arg-type]
        return cls(
            fusion=EmotionFusion(outputs=int(sizes.emotion_model.get("inputs", 256))).eval(),
            reference=reference_for(unet).eval(),
            motion=motion,
            **{**networks, "unet": unet.eval()},
            scheduler=scheduler(),
        )

    def __call__(
        self,
        photo: Photo,
        audio: Audio | str | Path,
        emotion: Feeling = None,
        *,
        asked: SceneAsked | None = None,
        options: DiceTalkOptions | None = None,
        **others: Any,
    ) -> DiceTalkVideo:
        """The video, see `DiceTalkPipeline`; `asked` says what else is known."""
        asked = asked or SceneAsked()
        for name, value, most in (("evidence", asked.evidence, 2.0), ("scene_scale", asked.scene_scale, 5.0)):
            if not 0 <= value <= most:
                raise UsageError(f"{name} must lie in 0..{most:g}, got {value:g}")
        if asked.reference_stride < 1:
            raise UsageError(f"reference_stride must be at least 1, got {asked.reference_stride}")
        self._asked, self._speech, self._felt = asked, speech_of(audio), emotion
        try:
            return super().__call__(photo, self._speech, emotion, options=options, **others)
        finally:
            self._speech = None

    @torch.inference_mode()
    def _conditions(
        self, portrait: Framed, states: Tensor, frames: int, emotion: Feeling, options: DiceTalkOptions
    ) -> SynchroClip:
        plain = super()._conditions(portrait, states, frames, emotion, options)
        asked, padding = self._asked, options.windows.length
        kept = {each.name: getattr(plain, each.name) for each in fields(ClipConditions)}
        kept["emotion"] = self._emotion(emotion, frames).padded(padding)
        kept["scales"] = (
            options.audio_scale,
            options.emotion_scale,
            asked.scene_scale if asked.scene is not None else 0.0,
        )
        scene = self._scene(plain, frames).padded(padding)
        references, index = self._references(portrait, plain, frames, options)
        tail = index[-1:].expand(padding)
        return SynchroClip(
            **kept, scene=scene, references=references, reference_index=torch.cat([index, tail])
        )

    def _emotion(self, emotion: Feeling, frames: int) -> FrameTokens:
        """Tokens of what was asked for, moved by what words and voice say; each different prior is asked once."""
        with self._at_work("emotion_model") as model, self._at_work("fusion") as fusion:
            rows, index = priors_of(anchor_course(emotion, frames), model.priors)
            priors = rows[torch.from_numpy(index).to(rows.device)].to(model.dtype)
            if self._asked.evidence and self._speech is not None:
                evidence = self._evidence(frames)
                step = fusion(*evidence.tensors(model.device, model.dtype))
                priors = priors + self._asked.evidence * step
            different, places = torch.unique(priors, dim=0, return_inverse=True)
            memory = model.bank.memory()
            told = torch.cat([model.bank(row[None], memory=memory).tokens for row in different])
            null = model.bank.null(memory=memory)
            return FrameTokens(rows=torch.cat([told, null]), index=places, null=len(told))

    def _evidence(self, frames: int) -> Evidence:
        assert self._speech is not None
        return read_evidence(self._speech, self._asked.transcript, frames, FPS)

    def _scene(self, plain: ClipConditions, frames: int) -> FrameTokens:
        """The scene's tokens in every frame; without a description nothing."""
        tokens = self._asked.scene
        width = plain.audio.rows.shape[-1]
        if tokens is None:
            tokens = torch.zeros(1, width)
        if tokens.shape[-1] != width:
            raise UsageError(f"the scene's tokens are {tokens.shape[-1]} wide, this network takes {width}")
        told = tokens.to(plain.audio.rows)
        index = torch.zeros(frames, dtype=torch.long, device=told.device)
        return FrameTokens(rows=torch.stack([told, torch.zeros_like(told)]), index=index, null=1)

    def _references(
        self, portrait: Framed, plain: ClipConditions, frames: int, options: DiceTalkOptions
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The ReferenceNet's features of the portrait with some drawings of its coming motion."""
        drawn, index = reference_rows(frames, self._asked.reference_stride)
        rows, columns = plain.latents.shape[-2:]
        curves = self._curves(options)
        points = face_points(curves, portrait.face)[np.minimum(drawn, max(len(curves) - 1, 0))]
        drawing = torch.from_numpy(draw_motion(points, portrait.size, (columns, rows)))
        with self._at_work("reference") as network:
            latents = (plain.latents * self.vae.config.scaling_factor).to(network.device, network.dtype)
            words = [plain.image[None].to(network.device, network.dtype)]
            if self._asked.scene is not None:
                words.append(self._asked.scene[None].to(network.device, network.dtype))
            tokens = torch.cat(words, dim=1)
            parts = [
                network(latents[None], one[None].to(network.device, network.dtype), tokens) for one in drawing
            ]
            features = {site: torch.cat([part[site] for part in parts]) for site in network.sites}
        return features, torch.from_numpy(index).to(plain.audio.index.device)

    def _curves(self, options: DiceTalkOptions) -> FaceCurves:
        """How the face will move: as asked, as the motion model says, or not at all."""
        if self._asked.motion is not None:
            return self._asked.motion.resampled(FPS)
        if self._motion is None or self._speech is None:
            return FaceCurves.neutral(1, FPS)
        return self._motion(self._speech, self._felt, fps=FPS, seed=options.seed)


def reference_for(denoiser: SynchroDenoiser) -> ReferenceNet:
    """A ReferenceNet whose sites fit a denoiser's."""
    config = denoiser.config
    widths = tuple(config["block_out_channels"])
    return ReferenceNet(
        block_out_channels=widths,
        num_attention_heads=tuple(config["num_attention_heads"]),
        cross_attention_dim=int(config["cross_attention_dim"]),
        sample_size=int(config["sample_size"]),
        groups=min(32, min(widths) // 2),
    )


@functools.cache
def _head() -> HeadModel:
    """Our head, loaded once in each process."""
    return HeadModel.load()


def face_points(curves: FaceCurves, face: FaceBox) -> Float[np.ndarray, "frame 68 2"]:
    """Where the 68 points of a performance lie in a picture whose face at rest fills `face` (orthographic)."""
    head = _head()
    rest = landmarks_of(head.deform(np.zeros((1, 52), np.float32)))[0]
    shaped = landmarks_of(head.deform(curves.weights))
    pivot = np.asarray(head.head_pivot)
    turned = np.einsum("fij,fpj->fpi", euler_matrix(curves.head), shaped - pivot) + pivot
    low, high = rest[:, :2].min(axis=0), rest[:, :2].max(axis=0)
    top = face.top + _POINTS_TOP * (face.bottom - face.top)
    scale = np.array(
        [(face.right - face.left) / (high[0] - low[0]), (face.bottom - top) / (high[1] - low[1])]
    )
    across = face.left + (turned[..., 0] - low[0]) * scale[0]
    down = face.bottom - (turned[..., 1] - low[1]) * scale[1]
    return np.stack([across, down], axis=-1)
