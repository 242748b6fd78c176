"""Where weights that are not shipped can be had, and how they come here: by download, or from a file of the user's."""

import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from affetto.runtime.errors import InvalidInputError, MissingResourceError, TryAgainError
from affetto.runtime.progress import ProgressCallback, ProgressEvent
from affetto.weights.store import sha256_of

_BLOCK = 1 << 20
_TIMEOUT_S = 60.0


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where one file is published: the page to read first, the file's name there, and its address if it has one."""

    page: str
    name: str
    url: str = ""  # empty when only a person can fetch it, such as behind a form or on a shared drive


def _hugging_face(repository: str, name: str) -> Origin:
    page = f"https://huggingface.co/{repository}"
    return Origin(page=page, name=name, url=f"{page}/resolve/main/{name}")


_DIFFVC = "https://github.com/huawei-noah/Speech-Backbones/tree/main/DiffVC"
_MUSER = "https://huggingface.co/TaylorJi/MusER"

ORIGINS: dict[str, Origin] = {
    "dac-44khz": _hugging_face("descript/dac_44khz", "model.safetensors"),
    "diffvc-libritts": Origin(page=_DIFFVC, name="vc_libritts_wodyn.pt"),
    "diffvc-vctk": Origin(page=_DIFFVC, name="vc_vctk_wodyn.pt"),
    "encodec-24khz": _hugging_face("facebook/encodec_24khz", "model.safetensors"),
    "encodec-48khz": _hugging_face("facebook/encodec_48khz", "model.safetensors"),
    "hifigan-universal": Origin(page="https://github.com/jik876/hifi-gan", name="UNIVERSAL_V1/g_02500000"),
    "mimi": _hugging_face("kyutai/mimi", "model.safetensors"),
    "muser": Origin(page=_MUSER, name="the checkpoint best.pt of MusER_TRANS_CA_GE"),
    "muser-prior": Origin(page=_MUSER, name="the checkpoint best.pt of its prior and VQ_dict.data"),
    "vocos-mel-24khz": _hugging_face("charactr/vocos-mel-24khz", "pytorch_model.bin"),
}
"""The weights that `affetto weights pull` knows the way to, by registered id."""


def origin_of(weight_id: str, source: str) -> Origin:
    """The origin of a registered file; raises MissingResourceError with `source` when none is known."""
    if weight_id not in ORIGINS:
        raise MissingResourceError(
            f"weights {weight_id!r} cannot be downloaded: {source}; then give the file with --from FILE"
        )
    return ORIGINS[weight_id]


def download(url: str, target: Path, *, progress: ProgressCallback | None = None) -> Path:
    """Write what `url` gives to `target`, block by block; raises TryAgainError when the network fails."""
    request = urllib.request.Request(url, headers={"User-Agent": "affetto"})
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer, target.open("wb") as file:
            total, done = int(answer.headers.get("Content-Length") or 0), 0
            while block := answer.read(_BLOCK):
                file.write(block)
                done += len(block)
                if progress is not None:
                    progress(ProgressEvent(stage="download", done=done, total=total))
    except urllib.error.HTTPError as error:
        raise TryAgainError(
            f"{url}: answers {error.code} {error.reason}: try later, or use --from FILE"
        ) from error
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise TryAgainError(f"{url}: cannot be reached ({reason}): try later, or use --from FILE") from error
    if total and done != total:
        raise TryAgainError(f"{url}: stopped after {done} of {total} bytes: try again")
    return target


def check_hash(path: Path, expected: str) -> str:
    """The SHA-256 of a file; raises InvalidInputError unless it is `expected` (empty: anything)."""
    found = sha256_of(path)
    if expected and found != expected.lower():
        raise InvalidInputError(f"{path}: its sha256 is {found}, not {expected}: this is another file")
    return found
