"""EMOTE and MusER on one device at the published sizes with random weights: the published way beside ours, in one run.

EMOTE: speech in, FLAME curves out; plain is fp32 with the math kernel, ours is autocast with the kernel torch chooses. MusER: words for
each second; plain decodes the whole sequence again for every word, ours goes on from its state. A table tells which attention
kernels run for EMOTE's biased and wav2vec's plain attention. The differences are those of the outputs, in the units given.

python benchmarks/emote_muser_gpu.py [--device cuda] [--dtype bf16] [--seconds 20] [--words 256] [--rounds 3] [--tiny] [--json]
"""

import argparse
import dataclasses
import json
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from affetto.generators.face.full.emote import FPS, Emote, EmoteConfig
from affetto.generators.face.full.flint import FlintConfig
from affetto.generators.music.full.muser import VARIANTS, Muser
from affetto.runtime.attention import symmetric_alibi
from affetto.runtime.device import autocast, resolve_device, resolve_dtype
from affetto.tokenizers.vocabulary import FAMILY

KERNELS = {
    "math": SDPBackend.MATH,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
TINY_SPEECH = {
    "hidden_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32, "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4,
}  # fmt: skip
TINY_MUSER = {
    "widths": (6, 6, 4, 4, 8, 4, 4, 4), "encoder_layers": 1, "global_layers": 2, "element_layers": 1,
    "attention_heads": 2, "encoder_width": 16, "decoder_width": 16, "codes": 24, "slice_width": 4, "length": 48,
}  # fmt: skip


def timed(work: Callable[[], Any], device: torch.device, rounds: int) -> tuple[float, float]:
    """The median of the seconds that `work` takes, and the peak memory in GiB (0 on a CPU)."""
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    spent = []
    for _ in range(rounds):
        began = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0
    return float(np.median(spent)), peak


@torch.inference_mode()
def emote(
    device: torch.device, dtype: torch.dtype, seconds: float, rounds: int, tiny: bool
) -> dict[str, Any]:
    """Seconds and memory of both ways for one clip and for a batch of eight, and how far apart their curves lie."""
    config = EmoteConfig()
    if tiny:
        config = EmoteConfig(
            width=8, heads=2, hidden=16, flint=FlintConfig(width=16, heads=2, hidden=24), speech=TINY_SPEECH
        )
    network = Emote(config).eval().to(device)
    torch.nn.init.normal_(network.sequence_decoder.decoder.weight, std=0.05)
    report: dict[str, Any] = {
        "parameters_m": round(sum(each.numel() for each in network.parameters()) / 1e6, 2)
    }
    for batch in (1, 2 if tiny else 8):
        sound = torch.randn(batch, round(seconds * 16_000), device=device)
        style = torch.zeros(batch, round(seconds * FPS), config.styles, device=device)
        made: dict[str, torch.Tensor] = {}

        def plain(
            sound: torch.Tensor = sound, style: torch.Tensor = style, made: dict[str, torch.Tensor] = made
        ) -> None:
            with sdpa_kernel(SDPBackend.MATH):
                made["plain"] = network(sound, style)

        def ours(
            sound: torch.Tensor = sound, style: torch.Tensor = style, made: dict[str, torch.Tensor] = made
        ) -> None:
            with autocast(device, dtype):
                made["ours"] = network(sound, style).float()

        rows = {name: timed(work, device, rounds) for name, work in (("plain", plain), ("ours", ours))}
        report[f"batch_{batch}"] = {
            **{f"{name}_s": round(spent, 4) for name, (spent, _) in rows.items()},
            **{f"{name}_gib": round(peak, 3) for name, (_, peak) in rows.items()},
            "times_faster": round(rows["plain"][0] / rows["ours"][0], 2),
            "audio_seconds_per_second": round(batch * seconds / rows["ours"][0], 1),
            "largest_difference": float((made["plain"] - made["ours"]).abs().max()),
            "curves_deviation": float(made["plain"].std()),
        }
    return report


@torch.inference_mode()
def muser(device: torch.device, words: int, rounds: int, tiny: bool) -> dict[str, Any]:
    """Words for each second of both ways, and how far apart the last word's logits lie."""
    variant = VARIANTS["MusER_TRANS_CA_GE"]
    config = dataclasses.replace(variant, **TINY_MUSER) if tiny else variant
    network = Muser(config, regulariser=False).eval().to(device)
    words = min(words, config.length)
    ids = torch.stack([torch.randint(0, size, (1, config.length)) for size in config.sizes], dim=-1).to(
        device
    )
    latents = torch.randn(1, config.length, config.latent_width, device=device)
    family = ids[..., FAMILY].roll(-1, dims=1)
    made: dict[str, Any] = {}

    def recurrent() -> None:
        state = network.start(latents)
        for place in range(words):
            heads, state = network.step(ids[:, place], state)
            network.family_logits(heads)
            made["ours"] = network.column_logits(heads, family[:, place : place + 1])

    def published() -> None:
        made["plain"] = network.decode(ids, latents, family)

    ours, _ = timed(recurrent, device, rounds)
    plain, _ = timed(published, device, rounds)
    apart = [(made["ours"][i][0, 0] - made["plain"][i][0, words - 1]).abs().max() for i in made["ours"]]
    return {
        "parameters_m": round(sum(each.numel() for each in network.parameters()) / 1e6, 2),
        "ours_words_per_second": round(words / ours, 1),
        "plain_words_per_second": round(1.0 / plain, 2),
        "times_faster": round(words / ours * plain, 1),
        "largest_difference": float(torch.stack(apart).max()),
    }


@torch.inference_mode()
def kernels(device: torch.device, dtype: torch.dtype, rounds: int, frames: int) -> dict[str, Any]:
    """Milliseconds of each kernel for wav2vec's attention and for EMOTE's with its bias; None where one does not run."""
    shapes = {"wav2vec": (8, 12, frames, 64, False), "emote": (8, 8, frames, 32, True)}
    table: dict[str, Any] = {}
    for name, (batch, heads, length, width, biased) in shapes.items():
        query = torch.randn(batch, heads, length, width, device=device, dtype=dtype)
        bias = symmetric_alibi(heads, length, period=30, device=device).to(dtype)[None] if biased else None
        for kernel, backend in KERNELS.items():
            try:
                with warnings.catch_warnings(), sdpa_kernel(backend):
                    warnings.simplefilter("ignore")  # torch explains each refusal in a warning
                    spent, _ = timed(
                        lambda q=query, b=bias: F.scaled_dot_product_attention(q, q, q, attn_mask=b),
                        device,
                        rounds,
                    )
                table[f"{name}, {kernel}"] = round(1000 * spent, 3)
            except RuntimeError:
                table[f"{name}, {kernel}"] = None
    return table


def machine(device: torch.device) -> str:
    """What the figures were measured on."""
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}"
    return f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--words", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument(
        "--tiny", action="store_true", help="small networks and short clips, to try the script on a CPU"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    device = resolve_device(options.device)
    dtype = resolve_dtype(options.dtype, device)
    seconds = min(options.seconds, 2.0) if options.tiny else options.seconds
    report = {
        "machine": machine(device),
        "dtype": str(dtype).removeprefix("torch."),
        "audio_seconds": seconds,
        "emote": emote(device, dtype, seconds, options.rounds, options.tiny),
        "muser": muser(device, options.words, options.rounds, options.tiny),
        "attention_ms": kernels(device, dtype, options.rounds, round(seconds * FPS)),
    }
    if options.json:
        print(json.dumps(report, indent=2))
        return
    print(f"{report['machine']}, {report['dtype']}, {seconds:g} s of speech")
    for part in ("emote", "muser", "attention_ms"):
        print(f"\n{part}")
        for name, value in report[part].items():
            print(f"  {name:<26} {value}")


if __name__ == "__main__":
    main()
