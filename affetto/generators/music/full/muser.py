"""MusER and its published variants: compound words to element-wise latents, and back under an emotion.

Ji and Yang, "MusER: Musical Element-Based Regularization for Generating Symbolic Music with Emotion" (AAAI 2024, arXiv
2312.10307). One network, configured; parameters keep the published names. What the authors' code does not do: forward passes
of the main variant (its regulariser unpacks a tensor) and decoding (the sampled families are not passed on).
"""

import dataclasses
import json
from dataclasses import dataclass
from types import MappingProxyType

import torch
from einops import rearrange
from jaxtyping import Float, Int64
from torch import Tensor, nn

from affetto.generators.music.full.linear import LayerState, LinearTransformer, ScaledEmbedding, positions
from affetto.generators.music.full.muser_quantiser import MovingCodebook, Quantised, regularisation
from affetto.runtime.errors import UsageError
from affetto.tokenizers.muser_words import MUSER
from affetto.tokenizers.vocabulary import EMOTION, FAMILY

ELEMENTS = ("tempo", "chord", "position", "family", "pitch", "duration", "velocity")
"""The columns that are generated, in the order of their latent slices."""

_EMBEDDING = (
    "tempo_emb",
    "chord_emb",
    "bar_beat_emb",
    "type_emb",
    "pitch_emb",
    "duration_emb",
    "velocity_emb",
    "emotion_emb",
)
_DECODER = ("tempo", "chord", "beat", "type", "pitch", "duration", "velocity")
_HEAD = ("tempo", "chord", "bar_beat", "type", "pitch", "duration", "velocity")
_INPUT_ORDER = (FAMILY, 0, 1, 2, 4, 5, 6, EMOTION)  # of the embeddings where they are joined


@dataclass(frozen=True, kw_only=True)
class MuserConfig:
    """Sizes and shape of a variant; the defaults are the published main model, `MusER_TRANS_CA_GE`."""

    reads: str = (
        "attend"  # how the decoder sees the latents: attend, concat, or alone (element decoders only)
    )
    heads: str = "elements"  # elements: a decoder each; slices: a linear layer with each slice; joint: none
    regulariser: str = "network"  # latents of the regularisation: network, mean, or none
    latent: str = "codes"  # codes, or gauss: one Gaussian vector for a piece
    encodes: str = "target"  # what the encoder reads: the target, or input (as VQ_VAE_CONCAT was published)
    sizes: tuple[int, ...] = MUSER.sizes
    widths: tuple[int, ...] = (128, 256, 64, 32, 512, 128, 128, 128)  # of the embeddings
    encoder_layers: int = 8
    global_layers: int = 4
    element_layers: int = 2
    attention_heads: int = 8
    encoder_width: int = 128
    decoder_width: int = 256
    codes: int = 512
    slice_width: int = 16
    regulariser_layers: int = 4
    regulariser_heads: int = 4
    length: int = 1024
    dropout: float = 0.1

    def __post_init__(self) -> None:
        for name, known in _CHOICES.items():
            if getattr(self, name) not in known:
                raise UsageError(f"MusER: {name} {getattr(self, name)!r} is none of {', '.join(known)}")

    @property
    def latent_width(self) -> int:
        """The width of a latent vector: one slice for each element."""
        return len(ELEMENTS) * self.slice_width

    def to_json(self) -> str:
        """The configuration as JSON."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "MuserConfig":
        """What `to_json` wrote."""
        values = json.loads(text)
        for name in ("sizes", "widths"):
            values[name] = tuple(values[name])
        return cls(**values)


_CHOICES = {
    "reads": ("attend", "concat", "alone"),
    "heads": ("elements", "slices", "joint"),
    "regulariser": ("network", "mean", "none"),
    "latent": ("codes", "gauss"),
    "encodes": ("target", "input"),
}

VARIANTS = MappingProxyType(
    {
        "MusER_TRANS_CA_GE": MuserConfig(),
        "MusER_TRANS_CONCAT_GE": MuserConfig(reads="concat"),
        "MusER_TRANS_CA_G": MuserConfig(heads="slices", global_layers=8),
        "MusER_TRANS_NONE_E": MuserConfig(reads="alone"),
        "MusER_MEAN_CA_GE": MuserConfig(regulariser="mean"),
        "MusER_MEAN_CONCAT_GE": MuserConfig(reads="concat", regulariser="mean"),
        "VQ_VAE_CA": MuserConfig(heads="joint", global_layers=8, regulariser="none"),
        "VQ_VAE_CONCAT": MuserConfig(
            reads="concat", heads="joint", global_layers=8, regulariser="none", encodes="input"
        ),
        "VAE": MuserConfig(
            reads="concat", heads="joint", global_layers=8, regulariser="none", latent="gauss"
        ),
    }
)
"""The published variants by their file's name."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MuserOutput:
    """What a training pass gives; `logits` are those of `ELEMENTS`."""

    logits: tuple[Float[Tensor, "batch word _"], ...]
    latents: Float[Tensor, "batch word latent"]
    latent_loss: Float[Tensor, ""]  # commitment to the codes, or the divergence from the prior
    regularisation: Float[Tensor, ""]


@dataclass(frozen=True, kw_only=True, eq=False)
class DecoderState:
    """Where decoding stands: everything that later words depend on, of constant size."""

    latents: Float[Tensor, "batch word latent"]
    place: int
    layers: tuple[LayerState, ...]
    elements: tuple[tuple[LayerState, ...], ...]


class Muser(nn.Module):
    """The network of any variant; `regulariser=False` leaves out what only training needs (50 M of 68 M parameters)."""

    def __init__(self, config: MuserConfig | None = None, *, regulariser: bool = True) -> None:
        super().__init__()
        self.config = config = config or MuserConfig()
        wide, latent = config.decoder_width, config.latent_width
        for name, size, width in zip(_EMBEDDING, config.sizes, config.widths, strict=True):
            self.add_module(name, ScaledEmbedding(size, width))
        joined = sum(config.widths[:EMOTION])
        self.input_y_linear = nn.Linear(joined, config.encoder_width)
        self.pos_embedd = positions(config.encoder_width, config.dropout)
        self.transformer_encoder = self._transformer(
            config.encoder_layers, config.encoder_width, causal=False
        )
        self.latent_linear = nn.Linear(config.encoder_width, latent)
        if config.latent == "codes":
            self.VQ = MovingCodebook(config.codes, latent)
            self.input_x_linear_emo = nn.Linear(joined + config.widths[EMOTION], wide)
        else:
            self.latent_emo_linear = nn.Linear(latent + config.widths[EMOTION], latent)
            self.mean_linear, self.logv_linear = nn.Linear(latent, latent), nn.Linear(latent, latent)
            self.input_x_linear = nn.Linear(joined, wide)
        if regulariser and config.regulariser == "network":
            self.VQ_pos_embedd = positions(config.length, config.dropout)
            self.DR = LinearTransformer(
                layers=config.regulariser_layers, width=config.length, heads=config.regulariser_heads,
                dropout=config.dropout, causal=False,
            )  # fmt: skip
        self._build_decoder()

    def _build_decoder(self) -> None:
        config, wide = self.config, self.config.decoder_width
        self.decoder_pos_embedd = positions(wide, config.dropout)
        if config.reads == "attend":
            self.decoder_cross_linear = nn.Linear(config.latent_width, wide)
        if config.reads == "concat":
            self.decoder_linear = nn.Linear(wide + config.latent_width, wide)
        if config.encodes == "input":  # published with this variant, used by nothing
            self.decoder_linear_emo = nn.Linear(wide + config.latent_width + config.widths[EMOTION], wide)
            self.latent_decoder_linear = nn.Linear(config.latent_width, wide)
        if config.reads != "alone":
            self.transformer_decoder = self._transformer(
                config.global_layers, wide, causal=True, memory=config.reads == "attend"
            )
        if config.heads != "joint":
            self.subDecoder_linear = nn.Linear(config.slice_width, wide)
        for name in _DECODER if config.heads == "elements" else ():
            self.add_module(f"{name}_decoder", self._transformer(config.element_layers, wide, causal=True))
        self.project_concat_type = nn.Linear(wide + config.widths[FAMILY], wide)
        for name, size in zip(_HEAD, config.sizes, strict=False):
            self.add_module(f"predict_{name}", nn.Linear(wide, size))

    def _transformer(
        self, layers: int, width: int, *, causal: bool, memory: bool = False
    ) -> LinearTransformer:
        config = self.config
        return LinearTransformer(
            layers=layers, width=width, heads=config.attention_heads, dropout=config.dropout, causal=causal,
            memory=memory,
        )  # fmt: skip

    def forward(
        self,
        words: Int64[Tensor, "batch word 8"],
        target: Int64[Tensor, "batch word 8"],
        noise: Float[Tensor, "batch latent"] | None = None,
    ) -> MuserOutput:
        """Logits of `target` from the `words` before; `noise` draws the latent of the Gaussian variant (none: its mean)."""
        latents, loss = self._latents(words, target, noise)
        logits = self.decode(words, latents, target[..., FAMILY])
        found = self.element_latents(latents)
        if found is None:
            term = torch.zeros((), device=latents.device)
        else:
            attributes = rearrange(target[..., :EMOTION], "b n element -> element b n").contiguous()
            term = regularisation(found, attributes)
        return MuserOutput(logits=logits, latents=latents, latent_loss=loss, regularisation=term)

    def encode(self, target: Int64[Tensor, "batch word 8"]) -> Float[Tensor, "batch word latent"]:
        """The latents of words before they are quantised."""
        hidden = self.pos_embedd(self.input_y_linear(self._embedded(target, emotion=False)))
        return self.latent_linear(self.transformer_encoder(hidden))

    def quantise(self, target: Int64[Tensor, "batch word 8"]) -> Quantised:
        """The codes of words; only for variants with a codebook."""
        return self.VQ(self.encode(target))

    def element_latents(
        self, latents: Float[Tensor, "batch word latent"]
    ) -> Float[Tensor, "element batch word"] | None:
        """The sequence of each element that regularisation orders; None in variants without."""
        slices = rearrange(latents, "b n (element s) -> element b s n", s=self.config.slice_width)
        if self.config.regulariser == "mean":
            return slices.mean(2)
        if self.config.regulariser == "none" or not hasattr(self, "DR"):
            return None
        if latents.shape[1] != self.config.length:
            raise UsageError(f"MusER's regulariser needs {self.config.length} words, got {latents.shape[1]}")
        ordered = self.DR(self.VQ_pos_embedd(rearrange(slices, "element b s n -> (element b) s n")))[:, 0]
        return rearrange(ordered.float(), "(element b) n -> element b n", element=len(ELEMENTS))

    def decode(
        self,
        words: Int64[Tensor, "batch word 8"],
        latents: Float[Tensor, "batch word latent"],
        family: Int64[Tensor, "batch word"],
    ) -> tuple[Float[Tensor, "batch word _"], ...]:
        """Logits of `ELEMENTS` after each word, given the families of the words to come."""
        hidden = self.decoder_hidden(words, latents)
        given = self._element_inputs(hidden, latents, 0)
        if self.config.heads == "elements":
            given = tuple(self._element(name)(each) for name, each in zip(_DECODER, given, strict=True))
        return self._logits(given, family)

    def decoder_hidden(
        self, words: Int64[Tensor, "batch word 8"], latents: Float[Tensor, "batch word latent"]
    ) -> Float[Tensor, "batch word width"]:
        """What the global decoder gives to the element decoders."""
        given = self._decoder_inputs(words, latents, 0)
        if self.config.reads == "alone":
            return given
        memory = self.decoder_cross_linear(latents) if self.config.reads == "attend" else None
        return self.transformer_decoder(given, memory)

    def start(self, latents: Float[Tensor, "batch word latent"]) -> DecoderState:
        """The state before the first word of pieces with these latents."""
        layers: tuple[LayerState, ...] = ()
        if self.config.reads != "alone":
            memory = self.decoder_cross_linear(latents) if self.config.reads == "attend" else None
            layers = self.transformer_decoder.start(memory)
        elements = (
            tuple(self._element(name).start() for name in _DECODER) if self.config.heads == "elements" else ()
        )
        return DecoderState(latents=latents, place=0, layers=layers, elements=elements)

    def step(
        self, words: Int64[Tensor, "batch 8"], state: DecoderState
    ) -> tuple[tuple[Float[Tensor, "batch 1 width"], ...], DecoderState]:
        """What the heads read after one more word of each piece, and the state with it; costs the same at every place."""
        place = state.place
        latents = state.latents[:, place : place + 1]
        hidden, layers = self._decoder_inputs(words[:, None], latents, place), state.layers
        if self.config.reads != "alone":
            hidden, layers = self.transformer_decoder.step(hidden, layers)
        given, elements = self._element_inputs(hidden, latents, place), []
        if self.config.heads == "elements":
            outputs = []
            for name, each, before in zip(_DECODER, given, state.elements, strict=True):
                output, after = self._element(name).step(each, before)
                outputs.append(output)
                elements.append(after)
            given = tuple(outputs)
        after = DecoderState(latents=state.latents, place=place + 1, layers=layers, elements=tuple(elements))
        return given, after

    def family_logits(
        self, heads: tuple[Float[Tensor, "batch word width"], ...]
    ) -> Float[Tensor, "batch word id"]:
        """The logits of the family, which is drawn first."""
        return self.get_submodule("predict_type")(heads[FAMILY])

    def column_logits(
        self, heads: tuple[Float[Tensor, "batch word width"], ...], family: Int64[Tensor, "batch word"]
    ) -> dict[int, Float[Tensor, "batch word _"]]:
        """The logits of the other columns, by column, once the family is known."""
        known = self.get_submodule("type_emb")(family)
        found = {}
        for column, name in enumerate(_HEAD):
            if column != FAMILY:
                joined = torch.cat([heads[column], known.to(heads[column].dtype)], dim=-1)
                found[column] = self.get_submodule(f"predict_{name}")(self.project_concat_type(joined))
        return found

    def drawn_latent(
        self, z: Float[Tensor, "batch latent"], quadrant: Int64[Tensor, "batch"]
    ) -> Float[Tensor, "batch word latent"]:
        """The Gaussian variant's latent for every word: `z` joined with the emotion."""
        emotion = self.get_submodule("emotion_emb")(quadrant)
        z = self.latent_emo_linear(torch.cat([z, emotion], dim=-1))
        return z[:, None].expand(-1, self.config.length, -1)

    def _latents(self, words: Tensor, target: Tensor, noise: Tensor | None) -> tuple[Tensor, Tensor]:
        if self.config.latent == "codes":
            found = self.quantise(words if self.config.encodes == "input" else target)
            return found.z, found.loss
        pooled = self.encode(target).mean(1)
        mean, log_variance = self.mean_linear(pooled), self.logv_linear(pooled)
        z = mean if noise is None else mean + noise * (0.5 * log_variance).exp()
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum()
        return self.drawn_latent(z, words[:, 0, EMOTION])[:, : words.shape[1]], divergence

    def _embedded(self, words: Tensor, *, emotion: bool) -> Float[Tensor, "batch word joined"]:
        order = _INPUT_ORDER if emotion else _INPUT_ORDER[:-1]
        return torch.cat([self.get_submodule(_EMBEDDING[i])(words[..., i]) for i in order], dim=-1)

    def _decoder_inputs(
        self, words: Tensor, latents: Tensor, first: int
    ) -> Float[Tensor, "batch word width"]:
        if self.config.latent == "gauss":
            given = self.input_x_linear(self._embedded(words, emotion=False))
        else:
            given = self.input_x_linear_emo(self._embedded(words, emotion=True))
        if self.config.reads == "alone":
            return given
        if self.config.reads == "concat":
            given = self.decoder_linear(torch.cat([given, latents.to(given.dtype)], dim=-1))
        return self.decoder_pos_embedd[0](given, first)

    def _element_inputs(self, hidden: Tensor, latents: Tensor, first: int) -> tuple[Tensor, ...]:
        if self.config.heads == "joint":
            return (hidden,) * len(ELEMENTS)
        slices = rearrange(latents, "b n (element s) -> element b n s", s=self.config.slice_width)
        given = tuple(hidden + self.subDecoder_linear(each) for each in slices)
        if self.config.heads == "elements":
            return tuple(self.decoder_pos_embedd[0](each, first) for each in given)
        return given

    def _element(self, name: str) -> LinearTransformer:
        module = self.get_submodule(f"{name}_decoder")
        assert isinstance(module, LinearTransformer)
        return module

    def _logits(self, heads: tuple[Tensor, ...], family: Tensor) -> tuple[Tensor, ...]:
        others = self.column_logits(heads, family)
        return tuple(
            self.family_logits(heads) if column == FAMILY else others[column]
            for column in range(len(ELEMENTS))
        )


class MuserPrior(nn.Module):
    """Draws the codes of a piece one after another from its emotion; `codes` are those that training used."""

    TEMPERATURE = 0.3  # inside the published training too
    WIDTH, LAYERS, HEADS = 256, 8, 8

    def __init__(
        self,
        codes: int,
        *,
        width: int = WIDTH,
        layers: int = LAYERS,
        heads: int = HEADS,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        self.codes = codes
        self.emb = ScaledEmbedding(codes + 5, width)
        self.input_linear = nn.Linear(width, width)
        self.pos_embedd = positions(width, dropout)
        self.transformer_encoder = LinearTransformer(
            layers=layers, width=width, heads=heads, dropout=dropout, causal=True
        )
        self.predict_fc = nn.Linear(width, codes)

    def forward(self, codes: Int64[Tensor, "batch word"]) -> Float[Tensor, "batch word code"]:
        """Logits of the next code, over the temperature; the first of `codes` is `start_of` the emotion."""
        hidden = self.pos_embedd(self.input_linear(self.emb(codes)))
        return self.predict_fc(self.transformer_encoder(hidden)) / self.TEMPERATURE

    def start_of(self, quadrant: int) -> int:
        """The token that begins a piece of quadrant 1..4."""
        return self.codes + quadrant

    def start(self) -> tuple[LayerState, ...]:
        """The states before the first code."""
        return self.transformer_encoder.start()

    def step(
        self, codes: Int64[Tensor, "batch"], place: int, states: tuple[LayerState, ...]
    ) -> tuple[Float[Tensor, "batch code"], tuple[LayerState, ...]]:
        """What `forward` gives after one more code, at a cost that does not grow."""
        hidden = self.pos_embedd[0](self.input_linear(self.emb(codes[:, None])), place)
        hidden, states = self.transformer_encoder.step(hidden, states)
        return self.predict_fc(hidden[:, 0]) / self.TEMPERATURE, states
