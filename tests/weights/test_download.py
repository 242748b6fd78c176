"""Downloads against a server on this machine: whole, gone on with, tried again, and refused when they are something else."""

import hashlib
import http.server
import json
import threading
from dataclasses import dataclass, field

import pytest

from affetto.apps.cli import main
from affetto.runtime.errors import InvalidInputError, TryAgainError
from affetto.weights import origins, pulling
from affetto.weights.origins import Origin, Part
from affetto.weights.pulling import at_revision, download
from affetto.weights.store import save_tensors, sha256_of

CONTENT = bytes(range(256)) * 12_000  # three megabytes


@dataclass
class Server:
    """What is served, how, and what was asked."""

    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    breaks: list[int] = field(default_factory=list)  # bytes after which the next answers stop
    statuses: list[int] = field(default_factory=list)  # errors that the next requests get
    ranges: bool = True
    tag: str = '"one"'
    asked: list[str] = field(default_factory=list)
    address: str = ""


@pytest.fixture
def server():
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, format, *args):
            pass

        def do_GET(self):
            state.asked.append(self.headers.get("Range", ""))
            if state.statuses:
                self.send_error(state.statuses.pop(0))
                return
            if self.path.startswith("/hub"):
                self.send_response(302)
                for key, value in state.headers.items():
                    self.send_header(key, value)
                self.send_header("Location", f"{state.address}/{self.path.rpartition('/')[2]}")
                self.end_headers()
                return
            content = state.files.get(self.path[1:])
            if content is None:
                self.send_error(404)
                return
            start = 0
            asked = self.headers.get("Range", "")
            if asked and state.ranges and self.headers.get("If-Range", state.tag) == state.tag:
                start = int(asked.removeprefix("bytes=").rstrip("-"))
                if start >= len(content):
                    self.send_error(416)
                    return
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            else:
                self.send_response(200)
            self.send_header("Content-Length", str(len(content) - start))
            self.send_header("ETag", state.tag)
            self.send_header(
                "Content-Type", "text/html" if self.path.endswith("html") else "application/octet-stream"
            )
            self.end_headers()
            body = content[start:]
            if state.breaks:
                body = body[: state.breaks.pop(0)]
            self.wfile.write(body)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        state.address = f"http://127.0.0.1:{running.server_port}"
        state.files["a.bin"] = CONTENT
        yield state
        running.shutdown()


def part(server: Server, name: str = "a.bin", **more) -> Part:
    return Part(name=name, url=f"{server.address}/{name}", **more)


def no_pause(_: float) -> None:
    pass


def test_a_download_is_whole_and_reported(server, tmp_path):
    seen = []
    promise = download(part(server), tmp_path / "got", progress=seen.append)
    assert (tmp_path / "got").read_bytes() == CONTENT
    assert (seen[-1].done, seen[-1].total) == (len(CONTENT), len(CONTENT))
    assert promise.size == len(CONTENT)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["got"]


def test_a_broken_connection_is_taken_up_where_it_broke(server, tmp_path):
    server.breaks = [1_000_000, 700_000]
    download(part(server), tmp_path / "got", pause=no_pause)
    assert (tmp_path / "got").read_bytes() == CONTENT
    assert server.asked == ["", "bytes=1000000-", "bytes=1700000-"]


def test_a_later_command_goes_on_with_what_came_before(server, tmp_path):
    server.breaks = [500_000, 0, 0, 0]
    with pytest.raises(
        TryAgainError, match="stopped after 500000 of 3072000 bytes: repeat the command to go on"
    ):
        download(part(server), tmp_path / "got", pause=no_pause)
    assert (tmp_path / "got.part").stat().st_size == 500_000
    server.asked.clear()
    download(part(server), tmp_path / "got", pause=no_pause)
    assert server.asked == ["bytes=500000-"]
    assert (tmp_path / "got").read_bytes() == CONTENT


def test_another_version_is_never_glued_on(server, tmp_path):
    server.breaks = [500_000, 0, 0, 0]
    with pytest.raises(TryAgainError):
        download(part(server), tmp_path / "got", pause=no_pause)
    server.tag, server.files["a.bin"] = '"two"', CONTENT[::-1]
    download(part(server), tmp_path / "got", pause=no_pause)
    assert (tmp_path / "got").read_bytes() == CONTENT[::-1]


def test_a_server_without_ranges_begins_again(server, tmp_path):
    server.ranges, server.breaks = False, [500_000]
    download(part(server), tmp_path / "got", pause=no_pause)
    assert (tmp_path / "got").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_and_a_closed_one_is_not(server, tmp_path):
    server.statuses = [503, 429]
    download(part(server), tmp_path / "got", pause=no_pause)
    server.statuses = [403]
    with pytest.raises(TryAgainError, match=r"answers 403 .*log in or accept its terms there"):
        download(part(server), tmp_path / "other", pause=no_pause)
    with pytest.raises(TryAgainError, match="answers 404"):
        download(part(server, "absent"), tmp_path / "other", pause=no_pause)
    with pytest.raises(TryAgainError, match="cannot be reached"):
        download(Part(name="x", url="http://127.0.0.1:9/x"), tmp_path / "other", pause=no_pause)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.html", b"<html>log in</html>", "gives a web page"),
        ("a.pt", b"<!DOCTYPE html><html>", "is a web page"),
        ("b.pt", b"version https://git-lfs.github.com/spec/v1\n", "git-lfs pointer"),
        ("c.pt", b"", "is empty"),
    ],
)
def test_what_is_no_weights_leaves_nothing_behind(server, tmp_path, name, content, said):
    server.files[name] = content
    with pytest.raises(InvalidInputError, match=said):
        download(part(server, name), tmp_path / "got", pause=no_pause)
    assert not [
        path for path in tmp_path.iterdir() if not path.name.endswith(".json") and path.stat().st_size
    ]


def test_a_wrong_hash_or_length_throws_the_file_away(server, tmp_path):
    with pytest.raises(InvalidInputError, match="this is another file"):
        download(part(server, sha256="0" * 64), tmp_path / "got", pause=no_pause)
    with pytest.raises(InvalidInputError, match="but 7 were published"):
        download(part(server, size=7), tmp_path / "got", pause=no_pause)
    assert list(tmp_path.iterdir()) == []


def test_the_hubs_own_hash_and_revision_are_believed_and_checked(server, tmp_path):
    digest = hashlib.sha256(CONTENT).hexdigest()
    server.headers = {"X-Linked-Etag": f'"{digest}"', "X-Repo-Commit": "abc123"}
    promise = download(Part(name="a.bin", url=f"{server.address}/hub/a.bin"), tmp_path / "got")
    assert (promise.sha256, promise.revision) == (digest, "abc123")
    server.headers["X-Linked-Etag"] = f'"{"0" * 64}"'
    with pytest.raises(InvalidInputError, match="this is another file"):
        download(Part(name="a.bin", url=f"{server.address}/hub/a.bin"), tmp_path / "other")


def test_a_full_disk_is_told_before_anything_comes(server, tmp_path, monkeypatch):
    monkeypatch.setattr(pulling, "_SPARE", 1 << 60)
    with pytest.raises(TryAgainError, match="GB are needed"):
        download(part(server), tmp_path / "got", pause=no_pause)


def test_another_revision_changes_the_address():
    one = Part(name="x", url="https://hub/a/resolve/main/x")
    assert at_revision(one, "main", "v2").url == "https://hub/a/resolve/v2/x"


def test_the_command_pulls_resumes_writes_a_receipt_and_tidies_up(server, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AFFETTO_HOME", str(tmp_path / "home"))
    import numpy as np

    names = {"encoder.conv1.weight": np.ones(3), "encoder.embed_positions.weight": np.ones(2)}
    save_tensors(tmp_path / "w.safetensors", names, {})
    server.files["w.safetensors"] = (tmp_path / "w.safetensors").read_bytes()
    server.breaks, server.headers = [20], {"X-Repo-Commit": "abc"}
    origin = Origin(page=server.address, parts=(Part(name="w.safetensors", url=f"{server.address}/hub/w.safetensors"),
                    Part(name="extra.npy", url=f"{server.address}/extra.npy", optional=True)), revision="main")  # fmt: skip
    monkeypatch.setattr(origins, "ORIGINS", {**origins.ORIGINS, "whisper-tiny": origin})
    monkeypatch.setattr(pulling.time, "sleep", no_pause)
    assert main(["weights", "pull", "whisper-tiny", "--accept-licence", "--json"]) == 0
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert "extra.npy is left out" in captured.err
    assert said["published"] == {"w.safetensors": sha256_of(tmp_path / "w.safetensors")}
    assert said["revision"] == "abc"
    home = tmp_path / "home" / "weights"
    receipt = json.loads((home / "whisper-tiny.receipt.json").read_text())
    assert (receipt["revision"], receipt["sha256"]) == ("abc", said["sha256"])
    assert not (home / "downloads" / "whisper-tiny").exists()
    assert main(["weights", "verify", "whisper-tiny"]) == 0
    assert (
        main(["weights", "pull", "whisper-tiny", "--overwrite", "-q"]) == 0
    )  # the licence is not asked again
