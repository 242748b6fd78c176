"""How weights come here: downloads that go on where they stopped, and what was promised compared with what came."""

import http.client
import json
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from affetto.runtime.errors import InvalidInputError, TryAgainError
from affetto.runtime.files import atomic_path
from affetto.runtime.progress import ProgressCallback, ProgressEvent
from affetto.weights.origins import Part
from affetto.weights.store import refuse_impostors, sha256_of

_BLOCK = 1 << 20
_TIMEOUT_S = 60.0
_TRIES = 4
_SPARE = 1 << 28  # bytes that stay free on the disk


@dataclass(frozen=True, kw_only=True)
class Promise:
    """What the server says of a file, kept beside the unfinished part so that another version is never glued on."""

    url: str
    size: int = 0
    tag: str = ""
    sha256: str = ""
    revision: str = ""


class _Remembering(urllib.request.HTTPRedirectHandler):
    """Follows redirects and keeps what model hubs say in the first answer: hash, size and revision."""

    def __init__(self) -> None:
        self.said: dict[str, str] = {}

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: Any,
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        """Let urllib follow, after what the answer says was noted."""
        self.said |= {key.lower(): value for key, value in headers.items() if key.lower().startswith("x-")}
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def download(
    part: Part,
    target: Path,
    *,
    progress: ProgressCallback | None = None,
    pause: Callable[[float], None] | None = None,
) -> Promise:
    """Write a part to `target`; what came earlier is kept in `<target>.part` and gone on with, by range requests.

    A broken connection is tried again a few times. Raises TryAgainError when the network fails or the disk is too full,
    InvalidInputError when what came is not what was promised (another hash or length, a web page, a git-lfs pointer).
    """
    unfinished = target.with_name(f"{target.name}.part")
    for attempt in range(_TRIES):
        try:
            return _finished(part, _continued(part, unfinished, progress), unfinished, target)
        except _BrokenError as broken:
            if attempt + 1 == _TRIES:
                raise TryAgainError(
                    f"{part.url}: {broken}: repeat the command to go on from there, or use --from FILE"
                ) from broken
            (pause or time.sleep)(2.0**attempt)
    raise AssertionError("the last try ends the loop")


def _finished(part: Part, promise: Promise, unfinished: Path, target: Path) -> Promise:
    """Put a whole part in its place after it was seen to be what was promised."""
    _check(part, promise, unfinished)
    _notes(unfinished).unlink(missing_ok=True)
    unfinished.replace(target)
    return promise


class _BrokenError(Exception):
    """The connection failed in a way that may pass."""


def _continued(part: Part, unfinished: Path, progress: ProgressCallback | None) -> Promise:
    earlier = _promised(unfinished, part.url)
    have = unfinished.stat().st_size if earlier is not None and unfinished.is_file() else 0
    headers = {"User-Agent": "affetto", "Accept-Encoding": "identity"}
    if have and earlier is not None:
        headers["Range"] = f"bytes={have}-"
        if earlier.tag:
            headers["If-Range"] = earlier.tag
    memory = _Remembering()
    request = urllib.request.Request(part.url, headers=headers)
    try:
        with urllib.request.build_opener(memory).open(request, timeout=_TIMEOUT_S) as answer:
            promise = _promise(part.url, answer, memory.said)
            goes_on = answer.status == 206 and earlier is not None and _fits(answer, have, earlier, promise)
            _check_room(unfinished, promise.size - (have if goes_on else 0))
            _write_notes(unfinished, promise)
            _receive(answer, unfinished, have if goes_on else 0, promise, progress)
    except urllib.error.HTTPError as error:
        if error.code == 416 and earlier is not None and have == earlier.size:
            return earlier  # all of it was here already
        if error.code == 416 or error.code >= 500 or error.code in (408, 429):
            if error.code == 416:
                unfinished.unlink(missing_ok=True)
            raise _BrokenError(f"answers {error.code} {error.reason}") from error
        hint = "log in or accept its terms there, then use --from FILE" if error.code in (401, 403) else (
            "try later, or use --from FILE")  # fmt: skip
        raise TryAgainError(f"{part.url}: answers {error.code} {error.reason}: {hint}") from error
    except (OSError, http.client.HTTPException) as error:  # URLError, resets, time-outs, short answers
        raise _BrokenError(f"cannot be reached ({getattr(error, 'reason', error)})") from error
    return promise


def _fits(answer: Any, have: int, earlier: Promise, promise: Promise) -> bool:
    """Whether a partial answer begins where we stopped and belongs to the same version."""
    span = str(answer.headers.get("Content-Range", ""))
    begins = span.removeprefix("bytes ").partition("-")[0]
    same = not (earlier.tag and promise.tag) or earlier.tag == promise.tag
    return begins == str(have) and same and promise.size == earlier.size


def _promise(url: str, answer: Any, said: dict[str, str]) -> Promise:
    headers = answer.headers
    span = str(headers.get("Content-Range", ""))
    total = span.rpartition("/")[2] if span else str(headers.get("Content-Length") or "0")
    linked = (said.get("x-linked-etag") or headers.get("X-Linked-ETag") or "").strip('W/"')
    is_hash = len(linked) == 64 and all(digit in "0123456789abcdef" for digit in linked.lower())
    return Promise(
        url=url,
        size=int(total) if total.isdecimal() else 0,
        tag=str(headers.get("ETag") or ""),
        sha256=linked.lower() if is_hash else "",
        revision=said.get("x-repo-commit") or str(headers.get("X-Repo-Commit") or ""),
    )


def _receive(
    answer: Any, unfinished: Path, have: int, promise: Promise, progress: ProgressCallback | None
) -> None:
    kind = str(answer.headers.get("Content-Type") or "")
    if kind.startswith("text/html"):
        raise InvalidInputError(
            f"{promise.url}: gives a web page, not weights: open it in a browser, then use --from FILE"
        )
    done = have
    with unfinished.open("ab" if have else "wb") as file:
        while block := answer.read(_BLOCK):
            file.write(block)
            done += len(block)
            if progress is not None:
                progress(ProgressEvent(stage="download", done=done, total=promise.size))
    if promise.size and done < promise.size:
        raise _BrokenError(f"stopped after {done} of {promise.size} bytes")


def _check(part: Part, promise: Promise, path: Path) -> None:
    """Raise unless the finished part is what its origin and its server promise; what is wrong is thrown away."""
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            refuse_impostors(path, file.read(64))
        if promise.size and size != promise.size:
            raise InvalidInputError(f"{part.url}: gave {size} bytes instead of {promise.size}: try again")
        if part.size and size != part.size:
            raise InvalidInputError(
                f"{part.url}: is {size} bytes, but {part.size} were published: another version"
            )
        wanted = part.sha256 or promise.sha256
        if wanted:
            check_hash(path, wanted)
    except InvalidInputError:
        path.unlink()
        _notes(path).unlink(missing_ok=True)
        raise


def _check_room(path: Path, needed: int) -> None:
    free = shutil.disk_usage(path.parent).free
    if needed > 0 and free < needed + _SPARE:
        raise TryAgainError(
            f"{path.parent}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free: make room, or set AFFETTO_HOME"
        )


def _notes(unfinished: Path) -> Path:
    return unfinished.with_name(f"{unfinished.name}.json")


def _write_notes(unfinished: Path, promise: Promise) -> None:
    with atomic_path(_notes(unfinished)) as temporary:
        temporary.write_text(json.dumps(asdict(promise)), encoding="utf-8")


def _promised(unfinished: Path, url: str) -> Promise | None:
    """What was promised when the unfinished part began, or None when it belongs to something else."""
    try:
        promise = Promise(**json.loads(_notes(unfinished).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return promise if promise.url == url else None


def check_hash(path: Path, expected: str) -> str:
    """The SHA-256 of a file; raises InvalidInputError unless it is `expected` (empty: anything)."""
    found = sha256_of(path)
    if expected and found != expected.lower():
        raise InvalidInputError(f"{path}: its sha256 is {found}, not {expected}: this is another file")
    return found


def at_revision(part: Part, old: str, new: str) -> Part:
    """The part at another revision of its repository."""
    return replace(part, url=part.url.replace(f"/resolve/{old}/", f"/resolve/{new}/"))
