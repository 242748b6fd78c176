"""DICE-Talk on one device, the published way beside ours, in one run: time, peak memory, and how far their latents differ.

The plain path repeats the temporal context for every pixel before projecting it, computes the image's attention over a single key,
the emotion's tokens and the face's features for every frame, resizes the mask in every layer, steps window by window,
decodes the padding too and keeps all pictures; fp16 on a GPU, torch's default attention. Ours are the presets. Both use
the same weights: the parity recipe's when AFFETTO_PARITY_DIR names its folder and --recipe is given, else seeded ones of
the same spread. Without a GPU: operations and memory by accounting, and --tiny to see that both paths agree.

python benchmarks/dice_talk_gpu.py [--device cuda] [--steps 3] [--seconds 2] [--tiny] [--account | --runs] [--recipe] [--json FILE]
"""

import argparse
import contextlib
import dataclasses
import importlib.util
import itertools
import json
import os
import platform
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch.nn.attention import sdpa_kernel

from affetto.generators.portrait.full.accounting import account, decoder_account, empty_like, weight_bytes
from affetto.generators.portrait.full.attention import Conditioning, DecoupledAttention, TokenTable
from affetto.generators.portrait.full.clip import ClipConditions, WindowPlan
from affetto.generators.portrait.full.decoding import CHUNK, DecodeCut, decode_chunk
from affetto.generators.portrait.full.denoiser import WindowTransformer
from affetto.generators.portrait.full.guidance import Guidance
from affetto.generators.portrait.full.kernels import BACKENDS
from affetto.generators.portrait.full.options import DiceTalkOptions
from affetto.generators.portrait.full.pipeline import DiceTalkPipeline
from affetto.generators.portrait.full.presets import EXACT, FAST
from affetto.generators.portrait.full.priors import anchor_course, priors_of
from affetto.generators.portrait.full.sampler import Denoising, Schedule
from affetto.generators.portrait.full.sizes import NETWORKS, DiceSizes, scheduler
from affetto.media.audio import Audio
from affetto.runtime.device import autocast

TINY = DiceSizes(
    unet={
        "block_out_channels": (32, 64, 64, 64), "num_attention_heads": (2, 4, 4, 4), "cross_attention_dim": 64,
        "sample_size": 8,
    },
    audio_linear={"channels": 16, "width": 64, "tokens": 8, "layers": 3},
    emotion_model={"inputs": 16, "width": 64, "codes": 8, "tokens": 8, "heads": 4, "features": 0},
    pose_guider={"channels": 32, "widths": (4, 4, 4, 4)},
    interpolator={"width": 8},
    speech={"width": 16, "layers": 2, "heads": 2, "feed_forward": 16, "positions": 100},
    vae={"block_out_channels": (32, 32, 32, 32), "layers_per_block": 1, "sample_size": 64},
    image_encoder={
        "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "patch_size": 56,
        "image_size": 224, "projection_dim": 64, "hidden_act": "gelu",
    },
)  # fmt: skip
BOX = (160.0, 120.0, 352.0, 380.0)


class PlainTransformer(WindowTransformer):
    """Repeats the context of time for every place before its blocks begin, and holds it until they end."""

    def forward(
        self,
        hidden_states: Any,
        encoder_hidden_states: Any,
        image_only_indicator: Any,
        return_dict: bool = False,
    ) -> Any:
        conditioning, places = encoder_hidden_states, hidden_states.shape[-2] * hidden_states.shape[-1]
        means = [table.rows[table.index].mean(1) for table in conditioning.tables]
        copies = [repeat(mean, "s n w -> (s p) n w", p=places).contiguous() for mean in means]
        held = dataclasses.replace(conditioning, known={"time": [(copy, copy) for copy in copies]})
        return super().forward(hidden_states, held, image_only_indicator)


class PlainAttention(DecoupledAttention):
    """The same numbers the published way: keys and values projected for every place, no query spared."""

    def forward(
        self, attn: Any, hidden_states: Any, encoder_hidden_states: Any, attention_mask: Any = None
    ) -> Any:
        context, heads = encoder_hidden_states, attn.heads
        query = rearrange(attn.to_q(hidden_states), "g q (h d) -> g h q d", h=heads)
        if context.temporal:
            sets = [copy for copy, _ in context.conditioning.known["time"]]
        else:
            sets = [table.rows[table.index.flatten()] for table in context.conditioning.tables]

        def attend(key: Any, value: Any) -> Any:
            k, v = (rearrange(x, "g n (h d) -> g h n d", h=heads) for x in (key, value))
            return rearrange(F.scaled_dot_product_attention(query, k, v), "g h q d -> g q (h d)")

        out = attend(attn.to_k(sets[0]), attn.to_v(sets[0]))
        for to_k, to_v, tokens, scale in zip(
            self.to_k_ip, self.to_v_ip, sets[1:], context.conditioning.scales, strict=True
        ):
            part = attend(to_k(tokens), to_v(tokens))
            if context.mask is not None:
                mask = context.mask.to(part.dtype)[None, :, None].repeat(len(part), 1, part.shape[-1])
                part = part * mask
            out = out + scale * part
        return attn.to_out[1](attn.to_out[0](out))


@contextlib.contextmanager
def plainly(denoiser: Any) -> Any:
    """The denoiser's cross-attentions go the published way inside."""
    swapped = {DecoupledAttention: PlainAttention, WindowTransformer: PlainTransformer}
    modules = [module for module in denoiser.modules() if type(module) in swapped]
    for module in modules:
        module.__class__ = swapped[type(module)]
    try:
        yield denoiser
    finally:
        back = {plain: ours for ours, plain in swapped.items()}
        for module in modules:
            module.__class__ = back[type(module)]


def main() -> None:
    asked = arguments()
    warnings.filterwarnings("ignore")
    device = torch.device(asked.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    report: dict[str, Any] = {"machine": machine(device), "asked": vars(asked)}
    if not (asked.tiny or asked.runs):
        report["account"] = account_real(asked)
        show_account(report["account"])
    if not asked.account:
        report["runs"] = measure(asked, device)
        show_runs(report["runs"], report["machine"])
        if device.type == "cuda":
            report["kernels"] = kernel_table(device)
            show_kernels(report["kernels"])
    if asked.json:
        asked.json.write_text(json.dumps(report, indent=2, default=str) + "\n", encoding="utf-8")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default=None)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--account", action="store_true", help="only count operations and memory")
    parser.add_argument("--runs", action="store_true", help="only run, do not count")
    parser.add_argument(
        "--recipe", action="store_true", help="weights of the parity recipe (a minute of numpy)"
    )
    parser.add_argument("--json", type=Path, default=None)
    return parser.parse_args()


def machine(device: torch.device) -> str:
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB, torch {torch.__version__}"
    return f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}"


# What is run


def pipeline(asked: argparse.Namespace, device: torch.device) -> DiceTalkPipeline:
    """Networks with weights of the recipe's spread: matrices normal with variance 1 / fan-in, norms near one."""
    sizes = TINY if asked.tiny else DiceSizes()
    networks = {}
    dtype = torch.float16 if device.type == "cuda" else torch.float32
    draw = torch.Generator(device).manual_seed(0)
    recipe = load_recipe() if asked.recipe else None
    for name in NETWORKS:
        with device:
            network = sizes.build(name)
        torch.nn.Module.to(network, device=device)
        state = network.state_dict()
        if recipe is not None:
            recipe.fill_(state)
        else:
            for key, entry in state.items():
                fill(key, entry, draw)
        networks[name] = torch.nn.Module.to(network, dtype=dtype).eval().requires_grad_(False)
    networks["emotion_model"].priors.normal_(generator=draw)
    return DiceTalkPipeline(**networks, scheduler=scheduler()).placed(device)


def fill(key: str, entry: torch.Tensor, draw: torch.Generator) -> None:
    if not entry.is_floating_point():
        return
    if entry.ndim >= 2:
        entry.normal_(0, float(np.prod(entry.shape[1:])) ** -0.5, generator=draw)
    elif key.endswith("weight"):
        entry.normal_(1, 0.1, generator=draw)
    else:
        entry.normal_(0, 0.05, generator=draw)


def load_recipe() -> Any:
    folder = Path(os.environ["AFFETTO_PARITY_DIR"])
    found = importlib.util.spec_from_file_location("parity_recipe", folder / "recipe.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def clip_inputs(asked: argparse.Namespace) -> tuple[np.ndarray, Audio]:
    rows, columns = np.mgrid[0:512, 0:512]
    picture = np.stack([rows // 2, columns // 2, (rows + columns) // 4], axis=-1).astype(np.uint8)
    clock = np.arange(round(asked.seconds * 16_000)) / 16_000
    sound = 0.3 * np.sin(2 * np.pi * 160 * clock) * (0.6 + 0.4 * np.sin(2 * np.pi * 4 * clock))
    return picture, Audio(samples=sound.astype(np.float32)[None], rate=16_000)


@torch.inference_mode()
def plain_run(pipe: DiceTalkPipeline, asked: argparse.Namespace, options: DiceTalkOptions) -> dict[str, Any]:
    """One clip the published way; what is timed begins where ours begins to be told its conditions."""
    from affetto.generators.portrait.full.inputs import framed, noise_of

    picture, sound = clip_inputs(asked)
    device, dtype = pipe.unet.device, pipe.unet.dtype
    portrait = framed(picture, None, BOX, options, device)
    begun = clock(device)
    _, frames, states = pipe._length(sound, options)
    clip = pipe._conditions(portrait, states, frames, "happy@0.8", options).moved(device, dtype)
    padded = frames + options.windows.length
    rows, index = priors_of(anchor_course("happy@0.8", frames), pipe.emotion_model.priors)
    emotion = torch.cat([pipe.emotion_model.bank(rows[[k]].to(dtype)).tokens for k in index])
    nothing = [pipe.emotion_model.bank.null().to(dtype) for _ in range(padded)]  # for every frame again
    mask = portrait.mask.to(device)
    pictures = mask.to(dtype).expand(padded, 3, *mask.shape)
    spatial = torch.cat([pipe.pose_guider(part) for part in pictures.split(5)])
    prepared = clock(device)
    noise = noise_of(clip, options.seed).to(device)
    schedule = Schedule(steps=options.steps or 25, windows=options.windows)
    denoising = Denoising.from_noise(
        schedule, pipe.scheduler, clip.latents * pipe.vae.config.scaling_factor, noise
    )
    told = torch.cat([emotion, *nothing[frames:]])
    with plainly(pipe.unet), autocast(device, dtype):
        latents = plain_steps(pipe.unet, clip, told, torch.cat(nothing), spatial, denoising)
    denoised = clock(device)
    pictures = [decode_chunk(pipe.vae, part, DecodeCut()) for part in latents.split(CHUNK)]
    video = torch.cat(pictures)[:frames]  # the padding is decoded and thrown away
    doubled = []
    for first, second in itertools.pairwise(video):
        pair = (each[None].to(device, dtype) * 0.5 + 0.5 for each in (first, second))
        doubled += [first, pipe.interpolator.middle(*pair)[0].float().cpu()]
    ended = clock(device)
    return {
        "prepare_s": prepared - begun, "denoise_s": denoised - prepared, "decode_s": ended - denoised,
        "latents": latents[:frames].cpu(), "frames": frames, "held": len(doubled),
    }  # fmt: skip


def plain_steps(
    unet: Any, clip: ClipConditions, told: Any, nothing: Any, spatial: Any, denoising: Denoising
) -> torch.Tensor:
    """Window by window, three branches beside each other, a scheduler step for each window, averaged where they meet."""
    guidance, plan = denoising.schedule.guidance, denoising.schedule.windows
    latents, steps = denoising.latents, denoising.scheduler
    for number, level in enumerate(steps.timesteps):
        total, count = torch.zeros_like(latents), torch.zeros(len(latents), device=latents.device)
        for window in plan.windows(len(latents), number):
            place = torch.tensor(window, device=latents.device)
            branches = guidance.branches
            index = torch.arange(len(branches) * len(window), device=latents.device).view(len(branches), -1)
            heard = [
                clip.audio.index[place] if b.audio else torch.full_like(place, clip.audio.null)
                for b in branches
            ]
            audio = clip.audio.rows[torch.cat(heard)]
            felt = torch.cat([told[place] if b.emotion else nothing[place] for b in branches])
            image = torch.cat(
                [clip.image[None].expand(len(window), 1, -1) * float(b.image) for b in branches]
            )
            conditioning = Conditioning(
                image=TokenTable(rows=image, index=index),
                adapters=(TokenTable(rows=audio, index=index), TokenTable(rows=felt.to(audio), index=index)),
                scales=(1.0, 1.0),
                mask=clip.mask,
            )
            steps._step_index = None
            noisy = steps.scale_model_input(latents[place], level).to(audio.dtype)
            picture = torch.stack([clip.latents.expand_as(noisy) * float(b.image) for b in branches])
            sample = torch.cat([noisy.expand(len(branches), *noisy.shape), picture], 2)
            ids = clip.time_ids.expand(len(branches), 3)
            where = spatial[place][None].expand(len(branches), *spatial[place].shape)
            predicted = unet(sample, float(level), conditioning, ids, where).sample.float()
            steps._step_index = None
            stepped = steps.step(guidance.combine(predicted), level, latents[place], return_dict=False)[0]
            total[place] += stepped.float()
            count[place] += 1
        latents = total / count[:, None, None, None]
    return latents


def our_run(pipe: DiceTalkPipeline, asked: argparse.Namespace, options: DiceTalkOptions) -> dict[str, Any]:
    picture, sound = clip_inputs(asked)
    device = pipe.unet.device
    begun, marks = clock(device), []

    def mark(event: Any) -> None:
        marks.append((event.stage, clock(device)))

    video = pipe(picture, sound, "happy@0.8", box=BOX, options=options, callback_on_step_end=mark)
    denoised = clock(device)
    prepared = next(at for stage, at in marks if stage == "memory")
    count = sum(1 for _ in video.frames())
    ended = clock(device)
    frames = len(video) // 2 + 1
    return {
        "prepare_s": prepared - begun, "denoise_s": denoised - prepared, "decode_s": ended - denoised,
        "latents": video.latents[:frames], "frames": frames, "shown": count, "kernel": video.report().kernel,
        "estimated_gib": video.report().estimated_bytes / 2**30, "given_up": video.report().given_up,
    }  # fmt: skip


def clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def measure(asked: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """Every path on the same weights, sound and noise; the first call of each warms up and is not counted."""
    pipe = pipeline(asked, device)
    plan = WindowPlan(length=4, shift=2) if asked.tiny else WindowPlan()
    size = 64 if asked.tiny else asked.size
    base = DiceTalkOptions(size=size, steps=asked.steps, windows=plan)
    runs = {
        "plain": (plain_run, base),
        "exact": (our_run, dataclasses.replace(base, preset=EXACT)),
        "exact, branches together": (
            our_run,
            dataclasses.replace(base, preset=dataclasses.replace(EXACT, branches_together=True, offload="none")),
        ),
        "exact, two windows": (
            our_run, dataclasses.replace(base, preset=dataclasses.replace(EXACT, windows_at_once=2)),
        ),
        "fast": (our_run, dataclasses.replace(base, preset=dataclasses.replace(FAST, dtype="fp16"))),
        "fast, own emotion scale": (
            our_run,
            dataclasses.replace(
                base, preset=dataclasses.replace(FAST, dtype="fp16"), guidance=Guidance(audio=6.0, emotion=8.0)
            ),
        ),
    }  # fmt: skip
    if device.type == "cuda":
        preset = dataclasses.replace(FAST, dtype="fp16", compiled=True)
        runs["fast, compiled"] = (our_run, dataclasses.replace(base, preset=preset))
    found: dict[str, Any] = {}
    for name, (run, options) in runs.items():
        try:
            run(pipe, asked, options)
            if device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(device)
            found[name] = run(pipe, asked, options)
        except Exception as error:  # noqa: BLE001  the other paths are measured all the same
            found[name] = {"failed": f"{type(error).__name__}: {error}"[:200]}
            continue
        if device.type == "cuda":
            found[name]["peak_gib"] = torch.cuda.max_memory_allocated(device) / 2**30
        told = {key: value for key, value in found[name].items() if key != "latents"}
        print(f"{name}: {told}", file=sys.stderr, flush=True)
    reference = found["plain"].get("latents")
    for result in found.values():
        latents = result.pop("latents", None)
        if latents is not None and reference is not None:
            result["largest_difference"] = float((latents - reference).abs().max())
            result["mean_difference"] = float((latents - reference).abs().mean())
            result["spread"] = float(reference.std())
    return found


# What is counted


def account_real(asked: argparse.Namespace) -> dict[str, Any]:
    """Operations and memory of one window-step and one clip at the real sizes, by accounting (fp16, 25 frames)."""
    sizes, dtype = DiceSizes(), torch.float16
    side, width = asked.size // 8, 25
    unet, vae = sizes.empty("unet"), sizes.empty("vae")
    calls = {
        "plain, three branches": (3, True, False), "plain, scores written": (3, True, True),
        "ours, three branches": (3, False, False), "ours, one branch": (1, False, False),
        "ours, six (two windows)": (6, False, False),
    }  # fmt: skip
    passes = {}
    for name, (samples, plain, scores) in calls.items():
        passes[name] = denoiser_call(unet, samples, width, side, dtype, plain=plain, scores=scores)
    shallow = denoiser_call(unet, 3, width, side, dtype, plain=False, scores=False, reuse=True)
    chunk = decoder_account(vae, frames=CHUNK, rows=side, columns=side, dtype=dtype)  # type: ignore[arg-type]
    frames = round(asked.seconds * 25) // 2 + 1
    windows = -(-(frames + width) // width)
    decoded = {"plain": -(-(frames + width) // CHUNK), "ours": -(-frames // CHUNK)}
    per_step = {"plain": passes["plain, three branches"].flops, "exact": passes["ours, three branches"].flops}
    per_step["fast"] = (per_step["exact"] + shallow.flops) / 2
    weights = sum(weight_bytes(sizes.empty(name), dtype) for name in NETWORKS)
    return {
        "passes": {
            name: {"tflop": each.flops / 1e12, "peak_gib": each.peak_bytes / 2**30} for name, each in passes.items()
        },
        "reusing pass": {"tflop": shallow.flops / 1e12, "peak_gib": shallow.peak_bytes / 2**30},
        "decode chunk": {"tflop": chunk.flops / 1e12, "peak_gib": chunk.peak_bytes / 2**30},
        "weights_gib": weights / 2**30,
        "unet_gib": weight_bytes(unet, dtype) / 2**30,
        "clip": {
            name: {
                "denoise_pflop": 25 * windows * flops / 1e15,
                "decode_pflop": decoded["plain" if name == "plain" else "ours"] * chunk.flops / 1e15,
            }
            for name, flops in per_step.items()
        },
        "held_gib": {
            "plain": (frames + width) * 3 * (8 * side) ** 2 * 4 * 3 / 2**30, "ours": 12 * 3 * (8 * side) ** 2 * 4 / 2**30,
        },
    }  # fmt: skip


def denoiser_call(
    unet: Any,
    samples: int,
    frames: int,
    side: int,
    dtype: torch.dtype,
    *,
    plain: bool,
    scores: bool,
    reuse: bool = False,
) -> Any:
    empty = empty_like(unet, dtype)
    index = torch.zeros(samples, frames, dtype=torch.long, device="meta")

    def table(tokens: int) -> TokenTable:
        return TokenTable(
            rows=torch.empty(samples * frames, tokens, 1024, device="meta", dtype=dtype), index=index
        )

    conditioning = Conditioning(
        image=table(1), adapters=(table(32), table(32)), scales=(1.0, 1.0),
        mask=torch.empty(8 * side, 8 * side, device="meta"),
    )  # fmt: skip
    sample = torch.empty(samples, frames, 8, side, side, device="meta", dtype=dtype)
    ids, level = torch.empty(samples, 3, device="meta"), torch.empty((), device="meta")
    deep = torch.empty(samples, frames, 640, side, side, device="meta", dtype=dtype) if reuse else None
    with plainly(empty) if plain else contextlib.nullcontext():
        return account(lambda: empty(sample, level, conditioning, ids, deep=deep), writes_scores=scores)


SITES = {
    # name: (batch, heads, queries, keys): three branches of 25 frames at 512 x 512
    "space, 64 x 64": (75, 5, 4096, 4096),
    "space, 32 x 32": (75, 10, 1024, 1024),
    "space, 16 x 16": (75, 20, 256, 256),
    "time, 64 x 64": (3 * 4096, 5, 25, 25),
    "speech in space, 64 x 64": (75, 5, 4096, 32),
    "speech in time, folded": (3, 5, 25 * 4096, 32),
    "speech in time, published": (3 * 4096, 5, 25, 32),
}


def kernel_table(device: torch.device) -> dict[str, dict[str, float | None]]:
    """Milliseconds of each attention by kernel in fp16; None where it does not run."""
    table: dict[str, dict[str, float | None]] = {}
    for name, (batch, heads, queries, keys) in SITES.items():
        q = torch.randn(batch, heads, queries, 64, device=device, dtype=torch.float16)
        k = torch.randn(batch, heads, keys, 64, device=device, dtype=torch.float16)
        table[name] = {kernel: timed_kernel(kernel, q, k, device) for kernel in BACKENDS}
        del q, k
        torch.cuda.empty_cache()
    return table


def timed_kernel(kernel: str, q: torch.Tensor, k: torch.Tensor, device: torch.device) -> float | None:
    try:
        with sdpa_kernel(BACKENDS[kernel]):
            spent = []
            for _ in range(4):
                begun = clock(device)
                F.scaled_dot_product_attention(q, k, k)
                spent.append(clock(device) - begun)
    except RuntimeError:  # this kernel does not take it, or it does not fit
        return None
    return 1000 * min(spent[1:])


# What is shown


def show_account(found: dict[str, Any]) -> None:
    print("| one pass over a window of 25 frames | TFLOP | tensors alive, GiB |\n|---|---|---|")
    for name, each in [*found["passes"].items(), ("a step that reuses features", found["reusing pass"])]:
        print(f"| {name} | {each['tflop']:.2f} | {each['peak_gib']:.2f} |")
    chunk = found["decode chunk"]
    print(f"| decoding ten frames | {chunk['tflop']:.2f} | {chunk['peak_gib']:.2f} |")
    print(f"\nweights {found['weights_gib']:.2f} GiB (denoiser {found['unet_gib']:.2f})\n")
    print("| a clip | denoising, PFLOP | decoding, PFLOP |\n|---|---|---|")
    for name, each in found["clip"].items():
        print(f"| {name} | {each['denoise_pflop']:.2f} | {each['decode_pflop']:.3f} |")
    print(
        f"\npictures held: plain {found['held_gib']['plain']:.2f} GiB, ours {found['held_gib']['ours']:.3f} GiB\n"
    )


def show_runs(found: dict[str, Any], where: str) -> None:
    print(f"{where}\n")
    print(
        "| path | prepare s | denoise s | decode s | peak GiB | largest, mean difference (spread) |\n|---|---|---|---|---|---|"
    )
    for name, each in found.items():
        if "failed" in each:
            print(f"| {name} | {each['failed']} | | | | |")
            continue
        peak = f"{each['peak_gib']:.2f}" if "peak_gib" in each else "-"
        apart = f"{each['largest_difference']:.1e}, {each['mean_difference']:.1e} ({each['spread']:.2f})"
        times = " | ".join(f"{each[key]:.2f}" for key in ("prepare_s", "denoise_s", "decode_s"))
        print(f"| {name} | {times} | {peak} | {apart} |")
    plain, exact = found["plain"], found["exact"]
    if "failed" not in plain and "failed" not in exact:
        print(
            f"\nexact denoises {plain['denoise_s'] / exact['denoise_s']:.2f} times as fast as plain", end=""
        )
        if "peak_gib" in plain:
            print(f", with {100 * exact['peak_gib'] / plain['peak_gib']:.0f} % of its memory", end="")
        print()


def show_kernels(table: dict[str, dict[str, float | None]]) -> None:
    print("\n| attention, ms in fp16 | " + " | ".join(BACKENDS) + " |\n|---|" + "---|" * len(BACKENDS))
    for name, row in table.items():
        cells = " | ".join("-" if row[kernel] is None else f"{row[kernel]:.2f}" for kernel in BACKENDS)
        print(f"| {name} | {cells} |")


if __name__ == "__main__":
    main()
