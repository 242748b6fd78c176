import json

import pytest
from PIL import Image

from affetto.apps.cli import main
from affetto.conditioning.emotion import Emotion
from affetto.conditioning.formats import load_track


@pytest.fixture
def emotion(capsys):
    """Calls `affetto emotion ...` and gives the exit code, stdout and stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["emotion", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_parse_tells_place_strength_and_anchors(emotion):
    code, out, _ = emotion("parse", "happy@0.7")
    assert code == 0
    assert out.splitlines()[0] == "happy@0.7"
    assert "happy 0.70, neutral 0.30" in out


def test_parse_prints_one_json_document(emotion):
    code, out, _ = emotion("parse", "angry@1.5", "--taxonomy", "mead8", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["overdriven"]
    assert facts["labels"]["angry"] == 1
    assert Emotion.parse(facts["text"]) == Emotion.parse("angry@1.5")


def test_parse_lists_the_keyframes_of_a_track_and_of_a_file(emotion, tmp_path):
    assert emotion("convert", "0:neutral; 2:happy", "-o", tmp_path / "x.srt")[0] == 0
    for source in ("0:neutral; 2:happy", tmp_path / "x.srt"):
        code, out, _ = emotion("parse", source, "--json")
        assert code == 0
        assert [key["text"] for key in json.loads(out)["keyframes"]] == ["neutral", "happy"]


def test_list_names_every_term_and_label_set(emotion):
    code, out, _ = emotion("parse", "--list", "--json")
    document = json.loads(out)
    assert code == 0
    assert {"happy", "calm"} <= {term["name"] for term in document["terms"]}
    assert len(document["taxonomies"]["goemotions"]["labels"]) == 28


@pytest.mark.parametrize("suffix", [".emotion.json", ".csv", ".xml", ".emotionml", ".srt", ".vtt"])
def test_convert_writes_every_format(emotion, tmp_path, suffix):
    output = tmp_path / f"track{suffix}"
    code, out, _ = emotion("convert", "0:sad; 1:happy~cosine; 2:neutral", "-o", output)
    assert (code, out.strip()) == (0, str(output))
    assert str(load_track(output)) == "0:sad; 1:happy~cosine; 2:neutral"


def test_convert_resamples_smooths_and_limits(emotion, tmp_path):
    arguments = ("--fps", 10, "--smooth", 0.1, "--max-rate", 2)
    code, _, _ = emotion("convert", "0:sad; 2:happy", "-o", tmp_path / "x.csv", *arguments)
    assert code == 0
    assert len(load_track(tmp_path / "x.csv").keyframes) == 21


def test_convert_reads_a_table_of_another_scale(emotion, tmp_path):
    (tmp_path / "deam.csv").write_text("time,valence,arousal\n0,9,5\n")
    code, _, _ = emotion("convert", tmp_path / "deam.csv", "--scale", "1,9", "-o", tmp_path / "x.json")
    assert code == 0
    assert load_track(tmp_path / "x.json").keyframes[0].emotion.vad[:2] == (1, 0)


def test_plot_draws_a_picture_and_the_same_one_again(emotion, tmp_path):
    track = "0:neutral; 1.5:happy@0.8~cosine; 3:surprised; 4:angry@1.4; 6:neutral"
    assert emotion("plot", track, "-o", tmp_path / "a.png")[0] == 0
    assert emotion("plot", track, "-o", tmp_path / "b.png")[0] == 0
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (1800, 1000)
        assert len(picture.convert("RGB").getcolors(2_000_000)) > 1000
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize("track", ["happy@0.7", "neutral", "0:vad(0.1,0.2,0.3); 2:vad(-0.5,0.1,0)"])
def test_plot_draws_even_the_plainest_track(emotion, tmp_path, track):
    assert emotion("plot", track, "-o", tmp_path / "x.png", "--title", "Plain")[0] == 0


def test_suggest_reads_words(emotion):
    code, out, _ = emotion("suggest", "I am so happy to see you!", "--json")
    assert code == 0
    assert json.loads(out)["effective_vad"][0] > 0.2


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("parse", "hapy"), 2, "did you mean happy"),
        (("parse",), 2, "needs an emotion"),
        (("parse", "0:happy; 0:sad"), 2, "times must rise"),
        (("parse", "none.csv"), 3, "no such file"),
        (("parse", "happy", "--taxonomy", "nope"), 2, "unknown taxonomy"),
        (("convert", "happy"), 2, "needs -o"),
        (("convert", "happy", "-o", "x.mp3"), 2, "nobody writes .mp3"),
        (("convert", "happy", "-o", "nowhere/x.json"), 2, "does not exist"),
        (("convert", "happy", "-o", "x.json", "--scale", "1,9"), 2, "--scale is for .csv"),
        (("convert", "happy", "-o", "x.json", "--smooth", "-1"), 2, "--smooth must be"),
        (("plot", "happy", "-o", "x.gif"), 2, "nobody writes .gif"),
        (("plot", "happy", "-o", "x.png", "--seconds", "0"), 2, "positive length"),
        (("suggest",), 2, "either words or --from-voice"),
        (("suggest", "hi", "--from-voice", "x.wav"), 2, "either words or --from-voice"),
        (("suggest", "  "), 2, "needs words"),
    ],
)
def test_a_mistake_gives_one_line_the_right_code_and_no_file(
    emotion, tmp_path, monkeypatch, arguments, code, message
):
    monkeypatch.chdir(tmp_path)
    found, out, err = emotion(*arguments)
    assert (found, out) == (code, "")
    assert message in err
    assert len(err.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_an_existing_output_is_kept_unless_told(emotion, tmp_path):
    (tmp_path / "x.json").write_text("mine")
    code, _, err = emotion("convert", "happy", "-o", tmp_path / "x.json")
    assert code == 2
    assert "--overwrite" in err
    assert (tmp_path / "x.json").read_text() == "mine"
    assert emotion("convert", "happy", "-o", tmp_path / "x.json", "--overwrite")[0] == 0
