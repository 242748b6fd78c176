"""`affetto doctor`: what this machine has, what is missing, and how to mend it."""

import dataclasses
import importlib.util
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from affetto import __version__
from affetto.apps.cli import common

if TYPE_CHECKING:
    import torch

Status = Literal["ok", "absent", "warning", "failed"]

OPTIONAL_PACKAGES = {
    # import name: (distribution, what it gives, how to get it)
    "gradio": ("gradio", "the studio", "pip install 'affetto[studio]'"),
    "pxr": ("usd-core", "binary USD and validation", "pip install 'affetto[usd]'"),
    "espeakng_loader": ("espeakng-loader", "text to phones for --text", "pip install 'affetto[tts]'"),
    "encodec": (
        "encodec",
        "Meta's own EnCodec code",
        "pip install 'affetto[codec]' (pulls torchaudio: read docs/cli.md)",
    ),
    "face_alignment": ("face-alignment", "facial landmarks", "pip install 'affetto[capture]'"),
    "pytorch3d": (
        "pytorch3d",
        "CUDA mesh losses",
        "build it from source against your torch; no wheel is published",
    ),
    "c2pa": ("c2pa-python", "content credentials", "pip install 'affetto[provenance]'"),
    "ray": ("ray", "jobs on many machines", "pip install 'affetto[ray]'"),
}
FULL_TIER = {
    # generator: (model, the weights it needs; of those in one string with | any will do)
    "face": ("EMOTE", ("emote", "flame2023-open|flame2020")),
    "talk": ("DICE-Talk", ("dice-talk", "svd-xt", "whisper-tiny")),
    "talk with SynchroRaMa": ("SynchroRaMa", ("synchrorama", "dice-talk", "svd-xt", "whisper-tiny")),
    "voice": ("EmoReg", ("emoreg", "hifigan-universal")),
    "music": ("MusER", ("muser", "muser-prior")),
}
VIDEO_CODECS = {"libx264": "H.264 video", "aac": "AAC sound"}
AUDIO_FORMATS = ("WAV", "FLAC", "OGG", "MP3")
_COLOURS: dict[Status, str] = {"ok": "green", "absent": "dim", "warning": "yellow", "failed": "red"}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One finding: what was looked at, what was found, and how to mend it when something is amiss."""

    section: str
    name: str
    status: Status
    detail: str
    mend: str = ""


def register(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("doctor")(doctor)


def doctor(
    json: common.JsonOption = False,
    cpu_only: Annotated[bool, typer.Option("--cpu-only", help="Leave GPUs alone.")] = False,
    quiet: common.QuietOption = False,
    debug: common.DebugOption = False,
) -> None:
    """Report device, precisions, attention kernels, codecs, renderer, optional packages, weights and licences.

    Exit code 4 when something affetto cannot work without has failed.
    """
    checks = list(examine(gpu=not cpu_only))
    failed = [check for check in checks if check.status == "failed"]
    if json:
        common.print_json(
            {
                "affetto": __version__,
                "healthy": not failed,
                "checks": [dataclasses.asdict(check) for check in checks],
            }
        )
    else:
        _print_table(checks)
    if failed:
        raise typer.Exit(4)


def examine(*, gpu: bool = True) -> Iterator[Check]:
    """Every check, in the order of the report."""
    yield from _system()
    yield from _torch(gpu=gpu)
    yield from _media()
    yield from _renderer()
    yield from _packages()
    yield from _weights()
    yield from _full_tier()


def _system() -> Iterator[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    old = sys.version_info < (3, 11)
    mend = "install Python 3.11 or newer" if old else ""
    yield Check(section="system", name="python", status="failed" if old else "ok", detail=version, mend=mend)
    yield Check(section="system", name="platform", status="ok", detail=platform.platform(terse=True))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Check(section="system", name="processor cores", status="ok", detail=str(cores))
    yield Check(section="system", name="affetto", status="ok", detail=__version__)


def _torch(*, gpu: bool) -> Iterator[Check]:
    import torch

    yield Check(
        section="torch",
        name="torch",
        status="ok",
        detail=f"{torch.__version__}, {torch.get_num_threads()} threads",
    )
    devices = [torch.device("cpu")]
    if gpu and torch.cuda.is_available():
        devices += [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    else:
        yield Check(
            section="torch",
            name="cuda",
            status="absent",
            detail="no CUDA device in use; models run on the CPU",
        )
    for device in devices:
        if device.type == "cuda":
            properties = torch.cuda.get_device_properties(device)
            detail = f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
            yield Check(section="torch", name=str(device), status="ok", detail=detail)
        yield _precisions(device)
        yield from _attention_kernels(device)
    if importlib.util.find_spec("torchaudio") is not None:
        yield Check(
            section="torch",
            name="torchaudio",
            status="warning",
            detail="installed; its wheel links CUDA and breaks transformers beside a CPU-only torch",
            mend="pip uninstall torchaudio (affetto does not use it)",
        )


def _precisions(device: "torch.device") -> Check:
    import torch

    working = []
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)):
        try:
            square = torch.eye(8, device=device, dtype=dtype)
            if torch.equal(square @ square, square):
                working.append(name)
        except RuntimeError:  # this precision has no kernel here
            continue
    return Check(section="torch", name=f"precisions on {device}", status="ok", detail=", ".join(working))


def _attention_kernels(device: "torch.device") -> Iterator[Check]:
    import warnings

    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    dtypes = (torch.float32,) if device.type == "cpu" else (torch.bfloat16, torch.float32)
    kernels = {
        "flash": SDPBackend.FLASH_ATTENTION,
        "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
        "cudnn": SDPBackend.CUDNN_ATTENTION,
        "math": SDPBackend.MATH,
    }
    for name, backend in kernels.items():
        ran = []
        for dtype in dtypes:
            query = torch.zeros(1, 2, 64, 64, device=device, dtype=dtype)
            try:
                with warnings.catch_warnings(), sdpa_kernel(backend):
                    warnings.simplefilter("ignore")  # torch explains each refusal in a warning
                    torch.nn.functional.scaled_dot_product_attention(query, query, query)
            except RuntimeError:
                continue
            ran.append(str(dtype).removeprefix("torch."))
        detail = f"ran in {', '.join(ran)}" if ran else "does not run here"
        status: Status = "ok" if ran else "absent"
        yield Check(section="attention", name=f"{name} on {device}", status=status, detail=detail)
    yield Check(section="attention", name=f"taken on {device}", status="ok", detail=_taken(device, dtypes[0]))


def _taken(device: "torch.device", dtype: "torch.dtype") -> str:
    """The kernels that torch's choice comes to in `dtype`: for plain attention, and with a float bias (EMOTE).

    Torch takes the first of these that runs; a kernel that refuses a bias is passed over.
    """
    import warnings

    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    order = {
        "flash": SDPBackend.FLASH_ATTENTION,
        "memory-efficient": SDPBackend.EFFICIENT_ATTENTION,
        "math": SDPBackend.MATH,
    }
    query = torch.zeros(1, 2, 64, 64, device=device, dtype=dtype)
    bias = torch.zeros(1, 2, 64, 64, device=device, dtype=dtype)

    def first(mask: "torch.Tensor | None") -> str:
        for name, backend in order.items():
            try:
                with warnings.catch_warnings(), sdpa_kernel(backend):
                    warnings.simplefilter("ignore")
                    torch.nn.functional.scaled_dot_product_attention(query, query, query, attn_mask=mask)
            except RuntimeError:
                continue
            return name
        return "none"

    return f"{first(None)} in {str(dtype).removeprefix('torch.')}; {first(bias)} with a float bias"


def _media() -> Iterator[Check]:
    import av
    import soundfile

    for codec, gives in VIDEO_CODECS.items():
        try:
            av.Codec(codec, "w")
        except ValueError:
            mend = "pip install --force-reinstall av"
            yield Check(section="media", name=gives, status="failed", detail=f"no encoder {codec}", mend=mend)
        else:
            yield Check(section="media", name=gives, status="ok", detail=f"{codec}, PyAV {av.__version__}")
    known = soundfile.available_formats()
    missing = [name for name in AUDIO_FORMATS if name not in known]
    yield Check(
        section="media",
        name="audio files",
        status="warning" if missing else "ok",
        detail=", ".join(name for name in AUDIO_FORMATS if name in known),
        mend="pip install --upgrade soundfile" if missing else "",
    )
    yield _first_looks()


def _first_looks() -> Check:
    """What holds the process in which decoders first see files of others."""
    from affetto.media.files import LOOKER

    told = {"as": "memory", "cpu": "processor time", "fsize": "writing files"}
    bounds = [name for key, name in told.items() if key in LOOKER.bounds]
    # macOS takes a bound on memory and does not keep it.
    weak = "as" not in LOOKER.bounds or sys.platform == "darwin"
    mend = "this system does not bound memory: read files that you do not trust in a container"
    return Check(
        section="media",
        name="first looks at files",
        status="warning" if weak else "ok",
        detail=f"in a process bounded in {', '.join([*bounds, 'time by the clock'])}",
        mend=mend if weak else "",
    )


def _renderer() -> Iterator[Check]:
    import numba

    yield Check(
        section="renderer", name="numba", status="ok", detail=f"{numba.__version__}, always available"
    )
    from affetto.head.render import gl_accelerated, gl_renderer

    if gl_renderer() is not None:
        use = "draws" if gl_accelerated() else "slower than numba: draws when asked for"
        yield Check(section="renderer", name="OpenGL (EGL)", status="ok", detail=f"{gl_renderer()}; {use}")
    else:
        mend = "install a GL driver with EGL to draw faster; nothing is lost without it"
        yield Check(
            section="renderer", name="OpenGL (EGL)", status="absent", detail="no context opens", mend=mend
        )


def _packages() -> Iterator[Check]:
    from importlib.metadata import PackageNotFoundError, version

    for module, (distribution, gives, mend) in OPTIONAL_PACKAGES.items():
        name = f"{distribution}: {gives}"
        if importlib.util.find_spec(module) is None:
            yield Check(section="optional", name=name, status="absent", detail="not installed", mend=mend)
            continue
        try:
            detail = version(distribution)
        except PackageNotFoundError:
            detail = "installed, version unknown"
        yield Check(section="optional", name=name, status="ok", detail=detail)


def _weights() -> Iterator[Check]:
    from affetto.weights.registry import REGISTRY
    from affetto.weights.store import expected_path, file_state

    for weight in REGISTRY.values():
        licence = (
            f"{weight.licence}; {'commercial use allowed' if weight.commercial else 'no commercial use'}"
        )
        state = file_state(weight, thorough=False)
        if state in ("ok", "unpinned"):
            found = "as registered" if state == "ok" else "hash not pinned"
            detail = f"{expected_path(weight).stat().st_size / 2**20:.1f} MiB, {found}; {licence}"
            yield Check(section="weights", name=weight.id, status="ok", detail=detail)
        elif weight.embedded:
            mend = "reinstall affetto"
            yield Check(
                section="weights", name=weight.id, status="failed", detail=f"{state}; {licence}", mend=mend
            )
        else:
            status: Status = "warning" if state == "damaged" else "absent"
            mend = f"full tier only: affetto weights pull {weight.id}"
            yield Check(
                section="weights", name=weight.id, status=status, detail=f"{state}; {licence}", mend=mend
            )


def _full_tier() -> Iterator[Check]:
    """For each generator: whether its published model can run, or which weights lack and how they come."""
    from affetto.weights.registry import get
    from affetto.weights.store import file_state

    def is_here(names: str) -> bool:
        return any(file_state(get(name), thorough=False) in ("ok", "unpinned") for name in names.split("|"))

    for generator, (model, wanted) in FULL_TIER.items():
        missing = [names.split("|")[0] for names in wanted if not is_here(names)]
        yield Check(
            section="full tier",
            name=f"{generator} ({model})",
            status="absent" if missing else "ok",
            detail=f"lacks {', '.join(missing)}" if missing else "its weights are here",
            mend=" && ".join(f"affetto weights pull {name}" for name in missing),
        )


def _print_table(checks: list[Check]) -> None:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(title=f"affetto {__version__}", title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("part", "what", "state", "found, and how to mend it"):
        table.add_column(heading, overflow="fold")
    section = ""
    for check in _without_full_tier(checks):
        if section not in ("", check.section):
            table.add_section()
        found = escape(check.detail) + (f"\n[dim]-> {escape(check.mend)}[/]" if check.mend else "")
        state = f"[{_COLOURS[check.status]}]{check.status}[/]"
        table.add_row("" if check.section == section else check.section, escape(check.name), state, found)
        section = check.section
    Console().print(table)


def _without_full_tier(checks: list[Check]) -> Iterator[Check]:
    """The checks with all absent weights drawn together, since nobody needs them one by one here."""
    absent = [check.name for check in checks if check.section == "weights" and check.status == "absent"]
    yield from (check for check in checks if check.section != "weights" or check.status != "absent")
    if absent:
        mend = "nothing to mend; 'affetto weights list' shows sources and licences"
        detail = f"not here: {', '.join(absent)}"
        yield Check(section="weights", name="full tier", status="absent", detail=detail, mend=mend)
