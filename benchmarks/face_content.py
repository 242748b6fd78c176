"""How well phones and lip closures are read off held-out voices: python benchmarks/face_content.py DATA.

EMO-DB's test speakers carry hand-made labels; the Dutch speaker's were made by two aligners other than the network
judged (`affetto.evaluation.face_sets`). A closure is met when the lips
are shut at some frame within its window +-40 ms; a shut stretch is false when no window is that near.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from affetto.evaluation.face_sets import dutch_test, emodb_test
from affetto.speech.content import ClosureRule, SpeechContent, closure_events, loudness_curve
from affetto.speech.corpus import Utterance
from affetto.speech.phones import BILABIALS, VISEME_INDEX, closure_windows, phone_frames
from affetto.speech.reader import ContentReader

SLACK_S = 0.040
VISEMES = np.array(VISEME_INDEX)


def runs(flags):
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [
        ((start - 0.5) / 50.0, (stop - 0.5) / 50.0)
        for start, stop in zip(edges[::2], edges[1::2], strict=True)
    ]


def near(one, other):
    return one[0] <= other[1] + SLACK_S and one[1] >= other[0] - SLACK_S


def closures(shuts: Sequence[np.ndarray], clips: Sequence[Utterance]) -> str:
    met = asked = true = made = 0
    offsets, shut_s, total_s, asked_s = [], 0.0, 0.0, 0.0
    for shut, clip in zip(shuts, clips, strict=True):
        windows = closure_windows(clip.phones)
        weak = [
            (phone.start, phone.end) for phone in clip.phones if phone.phone in BILABIALS and not phone.closes
        ]
        times = np.flatnonzero(shut) / 50.0
        found = runs(shut)
        for window in windows:
            hit = bool(np.any((times >= window[0] - SLACK_S) & (times <= window[1] + SLACK_S)))
            asked, met = asked + 1, met + hit
            asked_s += window[1] - window[0]
            middles = [sum(run) / 2 for run in found if near(run, window)]
            if hit and middles:
                offsets.append(min((middle - sum(window) / 2 for middle in middles), key=abs))
        made += len(found)
        true += sum(any(near(run, window) for window in windows + weak) for run in found)
        shut_s, total_s = shut_s + shut.sum() / 50.0, total_s + clip.seconds
    late = np.asarray(offsets) * 1000.0
    return (
        f"recall {met / asked:.3f} of {asked}, precision {true / max(made, 1):.3f} of {made}, shut {shut_s / total_s:.3f}"
        f" of the time (labels {asked_s / total_s:.3f}), offset median {np.median(late):+.0f} ms,"
        f" 90 % within {np.percentile(np.abs(late), 90):.0f} ms"
    )


def naming(contents: Sequence[SpeechContent], clips: Sequence[Utterance]) -> str:
    said, heard = [], []
    for content, clip in zip(contents, clips, strict=True):
        said.append(phone_frames(clip.phones, len(content), 50.0).astype(int))
        heard.append(content.phones.argmax(axis=1))
    truth, guess = np.concatenate(said), np.concatenate(heard)
    speech = truth != 0
    same = VISEMES[truth] == VISEMES[guess]
    return (
        f"phones {np.mean(truth == guess):.3f}, visemes {same.mean():.3f}; within speech"
        f" {np.mean(truth[speech] == guess[speech]):.3f} and {same[speech].mean():.3f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", default="embedded")
    options = parser.parse_args()
    reader = ContentReader.from_pretrained(options.weights, device="cpu")
    for name, clips in (("EMO-DB 12 and 16", emodb_test(options.data)), ("Dutch", dutch_test(options.data))):
        contents = [reader(clip.samples) for clip in clips]
        print(
            f"{name}: {len(clips)} clips, {sum(clip.seconds for clip in clips) / 60:.1f} min; {naming(contents, clips)}"
        )
        print(f"  network   {closures([closure_events(content) for content in contents], clips)}")
        for shut in (0.2, 0.3, 0.4):
            rule = ClosureRule(shut=shut, open=0.65 * shut)
            print(
                f"  shut={shut}   {closures([closure_events(content, rule) for content in contents], clips)}"
            )
        for quiet_db in (10, 20):
            quiet = [loudness_curve(clip.samples) < 1.0 - quiet_db / 40.0 for clip in clips]
            print(f"  quiet {quiet_db} dB {closures(quiet, clips)}")


if __name__ == "__main__":
    main()
