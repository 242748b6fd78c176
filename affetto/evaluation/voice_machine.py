"""What the voice converter costs, and whether it repeats itself: speed, memory, bytes."""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from affetto.evaluation.bench_parts import demo_speech, peak_mib
from affetto.generators.voice.pipeline import VoiceConverter
from affetto.provenance.settings import marking

_SPEED_SECONDS = 30.0
_MEMORY_SECONDS = (150.0, 300.0)  # by then every buffer has had its largest size

Figure = tuple[str, float, str, bool | None]


def machine_rows(converter: VoiceConverter, seed: int) -> Iterator[Figure]:
    """Measure, value, bar and whether it holds, for all that needs no data."""
    speech = demo_speech(_SPEED_SECONDS)
    converter(speech.sliced(0.0, 3.0), "angry", seed=seed)
    started, busy = time.perf_counter(), time.process_time()
    converter(speech, "angry", seed=seed)
    worked, waited = time.process_time() - busy, time.perf_counter() - started
    factor = worked / speech.seconds
    # On idle cores the clock shows no more than the processors' time; on busy ones it measures the others' work.
    yield "real-time factor in processor time", factor, "<= 0.4", factor <= 0.4
    yield "real-time factor by the clock, as busy as the machine is", waited / speech.seconds, "", None
    short = demo_speech(6.0)
    with tempfile.TemporaryDirectory() as folder, marking(sign="never"):  # signatures differ each time
        files = [Path(folder) / f"{index}.wav" for index in range(2)]
        for file in files:
            converter(short, "0:angry@0.7; 3:sad", seed=seed).save(file)
        same = files[0].read_bytes() == files[1].read_bytes()
    yield "same seed gives the same bytes (1 = yes)", float(same), "1", same
    kept = [
        np.array_equal(converter(short, emotion, strength=strength).audio.samples, short.samples)
        for emotion, strength in (("angry", 0.0), ("sad@0", 1.0), ("neutral", 1.0))
    ]
    yield "strength 0 returns the very samples (1 = yes)", float(all(kept)), "1", all(kept)
    growth = _memory_growth()
    yield "peak memory of a stream, 300 s over 150 s, MiB", growth, "<= 32", growth <= 32


_MEMORY_PROGRAM = """
import sys
from pathlib import Path
from affetto.generators.voice.pipeline import VoiceConverter
converter = VoiceConverter.from_pretrained("embedded", device="cpu")
for piece in converter.stream(sys.argv[1], "happy"):
    pass
# Not getrusage: its peak includes that of the process which started this one.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
print(peak.split()[1])
"""


def _memory_growth() -> float:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "speech.wav"
        peaks = [peak_mib(_MEMORY_PROGRAM, path, seconds) for seconds in _MEMORY_SECONDS]
    return peaks[1] - peaks[0]
