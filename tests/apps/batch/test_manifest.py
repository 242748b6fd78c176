import json

import pytest

from affetto.apps.batch.manifest import read_manifest, read_template
from affetto.apps.batch.plan import plan_batch
from affetto.apps.batch.specs import manifest_schema
from affetto.runtime.errors import InvalidInputError
from tests.apps.conftest import tone, write_wav


def lines(path, *rows):
    path.write_text("\n".join(json.dumps(row) if isinstance(row, dict) else row for row in rows) + "\n")
    return path


MUSIC = {"generator": "music", "emotion": "happy", "output": "a.mid"}


def test_every_error_is_told_with_its_line(tmp_path):
    manifest = read_manifest(
        lines(
            tmp_path / "jobs.jsonl",
            MUSIC,
            "{not json",
            {"generator": "opera", "output": "b.mid"},
            {**MUSIC, "output": "../up.mid"},
            {**MUSIC, "output": "c.mid", "tempo": 9000},
            {**MUSIC, "output": "d.mid", "colour": "red"},
            {**MUSIC},
        )
    )
    assert [error.line for error in manifest.errors] == [2, 3, 4, 5, 6, 7]
    told = " | ".join(error.message for error in manifest.errors)
    for words in (
        "not JSON",
        "unknown generator 'opera'",
        "leaves the output folder",
        "tempo",
        "takes no 'colour'",
        "already used in line 1",
    ):
        assert words in told
    with pytest.raises(InvalidInputError, match="and 1 more"):
        manifest.checked()


@pytest.mark.parametrize(
    "output",
    ["/etc/a.mid", "..\\a.mid", "C:/a.mid", "a/../../b.mid", ".hidden.mid", "a\x07.mid", "a.exe", ""],
)
def test_outputs_stay_in_their_folder(tmp_path, output):
    assert read_manifest(lines(tmp_path / "jobs.jsonl", {**MUSIC, "output": output})).errors


def test_csv_of_a_spreadsheet_is_read_as_meant(tmp_path):
    (tmp_path / "jobs.csv").write_bytes(
        b"\xef\xbb\xbfgenerator,emotion,output,seconds,loop\r\nmusic,'=happy,a.mid,8,TRUE\r\nmusic,sad,b.mid,,\r\n"
    )
    (_, first), (line, second) = read_manifest(tmp_path / "jobs.csv").jobs
    assert (first.emotion, first.loop, first.seconds, line, second.seconds) == ("=happy", True, 8.0, 3, None)


def test_a_wrong_csv_column_names_the_known_ones(tmp_path):
    (tmp_path / "jobs.csv").write_text("generator,emotoin,output\nmusic,sad,b.mid\n")
    (error,) = read_manifest(tmp_path / "jobs.csv").errors
    assert error.line == 1
    assert "'emotoin'" in error.message
    assert "emotion" in error.message


YAML = """
defaults: {generator: music, seconds: 4}
jobs:
  - {emotion: calm, output: calm.mid}
  - just words
matrix:
  emotion: [happy, sad]
  seed: [1, 2]
template: {output: "{emotion}/{seed}.mid"}
exclude:
  - {emotion: sad, seed: 2}
"""


def test_a_matrix_fills_the_template(tmp_path):
    (tmp_path / "jobs.yaml").write_text(YAML)
    manifest = read_manifest(tmp_path / "jobs.yaml")
    assert [job.output for _, job in manifest.jobs] == ["calm.mid", "happy/1.mid", "happy/2.mid", "sad/1.mid"]
    (error,) = manifest.errors
    assert error.line == 5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: &a [x, x]\nb: [*a, *a]\n", "aliases"),
        ("jobs: {a: 1}\n", "not a list"),
        ("jobs: [\n", "not YAML"),
        (f"matrix: {{a: {list(range(101))}}}\n" + "template: {output: x}\n" + "include: 3\n", "not a list"),
        ("matrix:\n" + "".join(f"  a{n}: {list(range(100))}\n" for n in range(4)), "combinations"),
        ("speech: here\n", "unknown key 'speech'"),
        ("[" * 3000, "YAML"),
    ],
)
def test_yaml_that_is_no_manifest_is_refused_in_one_line(tmp_path, text, reason):
    (tmp_path / "jobs.yaml").write_text(text)
    with pytest.raises(InvalidInputError, match=reason):
        read_manifest(tmp_path / "jobs.yaml")


def test_a_template_for_a_hot_folder_needs_yaml(tmp_path):
    (tmp_path / "t.yaml").write_text("defaults: {generator: face}\ntemplate: {output: '{stem}.csv'}\n")
    assert read_template(tmp_path / "t.yaml") == {"generator": "face", "output": "{stem}.csv"}
    with pytest.raises(InvalidInputError, match="yaml"):
        read_template(lines(tmp_path / "t.jsonl", MUSIC))


def test_keys_follow_content_not_names(tmp_path):
    for name in ("a", "b"):
        write_wav(tmp_path / f"{name}.wav", tone(0.5))
    write_wav(tmp_path / "c.wav", 0.5 * tone(0.5))
    rows = [{"generator": "face", "audio": f"{name}.wav", "output": f"{name}.csv"} for name in "abc"]
    rows.append({**rows[0], "output": "d.csv", "emotion": "happy"})
    rows.append({**rows[0], "output": "e.csv", "id": "named"})
    plan = plan_batch(read_manifest(lines(tmp_path / "jobs.jsonl", *rows)))
    a, b, c, d, e = (job.key for job in plan.jobs)
    assert a == b == e
    assert len({a, c, d}) == 3
    assert plan.jobs[0].media_s == pytest.approx(0.5, abs=0.01)


def test_seeds_come_from_batch_seed_and_job_whatever_the_order(tmp_path):
    rows = [{**MUSIC, "output": f"{n}.mid", "tempo": 60 + n} for n in range(4)]
    forward = plan_batch(read_manifest(lines(tmp_path / "f.jsonl", *rows)), batch_seed=1)
    backward = plan_batch(read_manifest(lines(tmp_path / "b.jsonl", *rows[::-1])), batch_seed=1)
    other = plan_batch(read_manifest(lines(tmp_path / "f.jsonl", *rows)), batch_seed=2)
    seeds = [job.seed for job in forward.jobs]
    assert seeds == [job.seed for job in backward.jobs][::-1]
    assert len(set(seeds)) == 4
    assert not set(seeds) & {job.seed for job in other.jobs}


def test_shards_divide_the_jobs_without_rest(tmp_path):
    rows = [{**MUSIC, "output": f"{n}.mid", "tempo": 60 + n} for n in range(40)]
    manifest = read_manifest(lines(tmp_path / "jobs.jsonl", *rows))
    shares = [{job.name for job in plan_batch(manifest, shard=(index, 3)).jobs} for index in (1, 2, 3)]
    assert min(map(len, shares)) > 4
    assert sum(map(len, shares)) == len(set.union(*shares)) == 40


def test_a_missing_recording_and_a_wrong_emotion_are_found_before_anything_runs(tmp_path):
    write_wav(tmp_path / "a.wav", tone(0.5))
    path = lines(
        tmp_path / "jobs.jsonl",
        {"generator": "face", "audio": "gone.wav", "output": "a.csv"},
        {"generator": "face", "audio": "a.wav", "emotion": "xqzzy", "output": "b.csv"},
    )
    first, second = plan_batch(read_manifest(path)).errors
    assert "gone.wav" in str(first)
    assert "xqzzy" in str(second)


def test_the_schema_names_every_generator():
    text = json.dumps(manifest_schema())
    assert all(f'"{name}"' in text for name in ("face", "voice", "music", "talk"))
