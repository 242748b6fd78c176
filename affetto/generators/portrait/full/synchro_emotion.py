"""SynchroRaMa's multi-modal emotion: what the words say, how the voice sounds, and its valence and arousal, fused by gates.

After arXiv 2509.19965 (its figure; sizes are not published): each source is projected on its own and the three are multiplied,
here with gates that see all of them and how sure each is. A source without evidence is a factor of one.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float, Float32
from torch import Tensor, nn

from affetto.conditioning.anchors import anchor_rows
from affetto.conditioning.encoders.speech import SpeechEncoder as VoiceReader
from affetto.conditioning.encoders.text import TextEncoder
from affetto.media.audio import Audio

SENTIMENT, SPOKEN, AFFECT = 3, 8, 2
SOURCES = ("text", "speech", "affect")


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What each source says at each frame, and how sure it is (0: it says nothing).

    `text` is negative, neutral, positive; `speech` weights over `ANCHORS_8`; `affect` valence and arousal of the voice.
    """

    text: Float32[np.ndarray, "frame 3"]
    speech: Float32[np.ndarray, "frame 8"]
    affect: Float32[np.ndarray, "frame 2"]
    confidence: Float32[np.ndarray, "frame 3"]

    def __len__(self) -> int:
        return len(self.text)

    @classmethod
    def none(cls, frames: int) -> "Evidence":
        """Nothing is known: what the fusion leaves as it is."""
        widths = (SENTIMENT, SPOKEN, AFFECT, len(SOURCES))
        text, speech, affect, confidence = (np.zeros((frames, width), np.float32) for width in widths)
        return cls(text=text, speech=speech, affect=affect, confidence=confidence)

    def tensors(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `EmotionFusion` takes them."""
        rows = (self.text, self.speech, self.affect, self.confidence)
        text, speech, affect, sure = (torch.from_numpy(row).to(device, dtype) for row in rows)
        return text, speech, affect, sure


def read_evidence(
    audio: Audio, transcript: str, frames: int, fps: float, *, voice: VoiceReader | None = None
) -> Evidence:
    """The evidence of a recording and of the words in it (empty: unknown), frame by frame."""
    reader = voice or _own_voice()
    track = reader(audio, hop=0.5)
    batch = track.sample(np.arange(frames) / fps)
    speech = np.clip(batch.anchors(), 0.0, None)
    text, sure = np.zeros(SENTIMENT), 0.0
    if transcript.strip():
        reading = TextEncoder().read(transcript)
        valence, sure = float(reading.vad[0]), float(reading.confidence)
        text = np.array([max(-valence, 0.0), 1.0 - abs(valence), max(valence, 0.0)])
    heard = np.asarray(batch.confidence, np.float32)
    confidence = np.stack([np.full(frames, sure), heard, heard], axis=1)
    return Evidence(
        text=np.tile(text, (frames, 1)).astype(np.float32),
        speech=speech.astype(np.float32),
        affect=np.asarray(batch.effective_vad[:, :AFFECT], np.float32),
        confidence=confidence.astype(np.float32),
    )


@functools.cache
def _own_voice() -> VoiceReader:
    """The embedded reader of voices, loaded once in each process."""
    return VoiceReader.from_pretrained("embedded", device="cpu")


def evidence_of_label(emotion: str, level: float, frames: int) -> Evidence:
    """What is known from a label alone: the emotion of the voice, at a strength of 0..1."""
    row = anchor_rows((emotion,))[0].astype(np.float32)
    none = Evidence.none(frames)
    confidence = np.zeros((frames, len(SOURCES)), np.float32)
    confidence[:, 1] = level
    return Evidence(
        text=none.text, speech=np.tile(row, (frames, 1)), affect=none.affect, confidence=confidence
    )


class EmotionFusion(ModelMixin, ConfigMixin):
    """Evidence to a step from an emotion prior: it is added to what the user asked for before DICE-Talk's bank sees it.

    z = product over sources of (1 + gate * tanh(branch)); the step is a projection of z - 1, zero before training and
    always without evidence.
    """

    @register_to_config
    def __init__(self, width: int = 128, outputs: int = 256) -> None:
        super().__init__()
        inputs = (SENTIMENT, SPOKEN, AFFECT)
        self.branches = nn.ModuleList(
            nn.Sequential(nn.Linear(each, width), nn.GELU(), nn.Linear(width, width)) for each in inputs
        )
        self.gates = nn.Sequential(
            nn.Linear(sum(inputs) + len(SOURCES), width), nn.GELU(), nn.Linear(width, len(SOURCES) * width)
        )
        self.out = nn.Linear(width, outputs, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(
        self,
        text: Float[Tensor, "item 3"],
        speech: Float[Tensor, "item 8"],
        affect: Float[Tensor, "item 2"],
        confidence: Float[Tensor, "item 3"],
    ) -> Float[Tensor, "item outputs"]:
        """The step for each item."""
        gates = self.gates(torch.cat([text, speech, affect, confidence], dim=-1)).sigmoid()
        gates = gates.unflatten(-1, (len(SOURCES), -1)) * confidence[..., None]
        joint = torch.ones_like(gates[..., 0, :])
        for source, branch in enumerate(self.branches):
            said = branch((text, speech, affect)[source])
            joint = joint * (1.0 + gates[..., source, :] * torch.tanh(said))
        return self.out(joint - 1.0)
