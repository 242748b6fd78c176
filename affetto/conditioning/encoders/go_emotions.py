"""Text -> emotion with a RoBERTa fine-tuned on GoEmotions (SamLowe/roberta-base-go_emotions, MIT), pulled by the user."""

from pathlib import Path

import torch
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from affetto.conditioning.emotion import Emotion
from affetto.conditioning.encoders.base import Reading
from affetto.conditioning.encoders.hub import load_strict, open_checkpoint, scored_reading
from affetto.conditioning.taxonomies import get_taxonomy
from affetto.runtime.device import autocast, resolve_device, resolve_dtype
from affetto.runtime.errors import InvalidInputError, MissingResourceError

WEIGHTS_ID = "go-emotions"
_MAX_TOKENS = 512


class GoEmotionsEncoder:
    """Reads the 28 emotions of GoEmotions in a text, each with its own probability."""

    modality = "text"

    def __init__(
        self,
        network: RobertaForSequenceClassification,
        tokenizer: PreTrainedTokenizerBase,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.network = network.eval()
        self.tokenizer = tokenizer
        self.dtype = dtype
        self.device = next(network.parameters()).device
        named = {int(index): str(label) for index, label in (network.config.id2label or {}).items()}
        self.labels = tuple(named[index] for index in sorted(named))
        known = get_taxonomy("goemotions").labels
        unknown = [label for label in self.labels if label not in known]
        if unknown or "neutral" not in self.labels:
            raise InvalidInputError(
                f"the model's label {(unknown or ['neutral'])[0]!r} is not one of GoEmotions"
            )

    @classmethod
    def from_pretrained(
        cls, folder: str | Path, *, device: str | torch.device = "auto", dtype: str | torch.dtype = "fp32"
    ) -> "GoEmotionsEncoder":
        """The encoder of a model's folder: model.safetensors, config.json and the tokenizer's files."""
        folder = Path(folder)
        if not folder.is_dir():
            raise MissingResourceError(
                f"no model folder at {folder}: download {WEIGHTS_ID} and give its folder"
            )
        checkpoint = open_checkpoint(folder)
        if checkpoint.config is None:
            raise MissingResourceError(f"{folder}: has no config.json: download the whole model")
        network = RobertaForSequenceClassification(RobertaConfig(**checkpoint.config))
        load_strict(network, checkpoint.tensors, source=checkpoint.path, dropped=(r"position_ids$",))
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise MissingResourceError(
                f"{folder}: has no tokenizer ({reason}): download the whole model"
            ) from error
        place = resolve_device(device)
        network = network.to(place)  # pyright: ignore[reportArgumentType]
        return cls(network, tokenizer, dtype=resolve_dtype(dtype, place))

    @property
    def taxonomy(self) -> tuple[str, ...]:
        """The 28 labels, in the model's order."""
        return self.labels

    def __call__(self, text: str) -> Emotion:
        """The emotion of the text."""
        return self.read(text).emotion

    @torch.inference_mode()
    def read(self, source: str) -> Reading:
        """The emotion of the text; labels are independent, so their probabilities are shared out to sum to one."""
        tokens = self.tokenizer(source, truncation=True, max_length=_MAX_TOKENS, return_tensors="pt")
        inputs = {key: value.to(self.device) for key, value in tokens.items() if key != "token_type_ids"}
        with autocast(self.device, self.dtype):
            logits = self.network(**inputs).logits[0]
        probability = torch.sigmoid(logits.double()).cpu().numpy()
        scores = dict(zip(self.labels, probability.tolist(), strict=True))
        return scored_reading(self.modality, "goemotions", scores, confidence=float(probability.max()))
