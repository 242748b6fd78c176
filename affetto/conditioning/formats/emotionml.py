"""EmotionML 1.0 (W3C Recommendation, 22 May 2014): one `<emotion>` per keyframe, scale values in [0, 1]."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, ParseError, TreeBuilder
from xml.sax.saxutils import quoteattr

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser

from affetto.conditioning.emotion import MAX_INTENSITY, Emotion, Mixture, mean_vad
from affetto.conditioning.formats.reading import KeyframeList, blaming, number
from affetto.conditioning.track import MAX_KEYFRAMES, MAX_SECONDS, EmotionTrack
from affetto.runtime.errors import InvalidInputError

NAMESPACE = "http://www.w3.org/2009/10/emotionml"
OURS = "https://affetto.dev/ns/emotion"
_AXES = {
    "pleasure": "valence", "valence": "valence", "arousal": "arousal", "activation": "arousal",
    "dominance": "dominance", "potency": "dominance", "power": "dominance", "control": "dominance",
    "intensity": "intensity",
}  # fmt: skip
_IGNORED = {"unpredictability"}  # an fsre dimension without a place here
_MAX_DEPTH = 32
_MAX_TRACE = MAX_KEYFRAMES


@dataclass(frozen=True, kw_only=True)
class _Numbered:
    """An `<emotion>` element with the line it starts on."""

    line: int
    element: Element


class _LineBuilder(TreeBuilder):
    """Builds the tree and notes where every `<emotion>` starts; refuses absurdly deep documents."""

    parser: Any = None

    def __init__(self) -> None:
        super().__init__()
        self.emotions: list[_Numbered] = []
        self._depth = 0

    def start(self, tag: str, attrs: dict[str, str], /) -> Element:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise InvalidInputError(f"elements nested deeper than {_MAX_DEPTH}")
        element = super().start(tag, attrs)
        if _local(tag) == "emotion":
            if len(self.emotions) >= MAX_KEYFRAMES:
                raise InvalidInputError(f"more than {MAX_KEYFRAMES} emotions: thin the track out")
            self.emotions.append(_Numbered(line=self.parser.parser.CurrentLineNumber, element=element))
        return element

    def end(self, tag: str, /) -> Element:
        self._depth -= 1
        return super().end(tag)


def read(path: Path, text: str) -> EmotionTrack:
    """The track in EmotionML `text`; emotions with an end are held until then, traces become a keyframe a sample.

    Category names of the W3C vocabularies and of ours are known. Absolute times count from the earliest start.
    """
    root, emotions = _parse(path, text)
    if _local(root.tag) not in ("emotionml", "emotion"):
        raise InvalidInputError(
            f"{path}:1: the root is <{_local(root.tag)}>, not <emotionml>: is this EmotionML?"
        )
    starts = [_time_ms(path, item, "start") for item in emotions]
    known = [start for start in starts if start is not None]
    # Milliseconds since 1970 in recordings, since the beginning in our own files.
    origin = min(known) if known and max(known) > MAX_SECONDS * 1000 else 0.0
    keys = KeyframeList(path)
    order = sorted(range(len(emotions)), key=lambda i: starts[i] or 0.0) if origin else range(len(emotions))
    for position, index in enumerate(order):
        item = emotions[index]
        begin = max((starts[index] or 0.0) - origin, 0.0) / 1000
        following = order[position + 1] if position + 1 < len(emotions) else None
        limit = math.inf if following is None else ((starts[following] or 0.0) - origin) / 1000
        end = _time_ms(path, item, "end")
        until = None if end is None else (end - origin) / 1000
        for time, emotion, ease in _keyframes(path, item, begin, until, limit):
            keys.add(item.line, time, emotion, ease)
    options = _options(root)
    return keys.track(**options)


def write(track: EmotionTrack) -> str:
    """The keyframes as an EmotionML document with the vocabularies it uses; times in milliseconds.

    Intensity is written as half its value, since ours may reach 2. Eases and space travel in `<info>`.
    """
    terms = sorted({name for key in track.keyframes for name in key.emotion.mixture})
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<emotionml version="1.0" xmlns="{NAMESPACE}" xmlns:affetto="{OURS}"'
        + (' category-set="#terms"' if terms else "")
        + ' dimension-set="#vad">',
        f'  <info><affetto:track space="{track.space}" route="{track.route}"/></info>',
        '  <vocabulary type="dimension" id="vad">',
        *(f'    <item name="{name}"/>' for name in ("pleasure", "arousal", "dominance", "intensity")),
        "  </vocabulary>",
    ]
    if terms:
        lines += ['  <vocabulary type="category" id="terms">']
        lines += [f"    <item name={quoteattr(name)}/>" for name in terms]
        lines += ["  </vocabulary>"]
    for key in track.keyframes:
        emotion = key.emotion
        sure = "" if emotion.confidence == 1 else f' confidence="{emotion.confidence!r}"'
        lines.append(f'  <emotion start="{round(key.time * 1000)}">')
        lines.append(f'    <info><affetto:key t="{key.time!r}" ease="{key.ease}"/></info>')
        lines += [
            f'    <category name={quoteattr(name)} value="{_unit(share)}"{sure}/>'
            for name, share in emotion.mixture.items()
        ]
        lines += [
            f'    <dimension name="{name}" value="{_unit((axis + 1) / 2)}"{sure}/>'
            for name, axis in zip(("pleasure", "arousal", "dominance"), emotion.vad, strict=True)
        ]
        lines.append(f'    <dimension name="intensity" value="{_unit(emotion.intensity / MAX_INTENSITY)}"/>')
        lines.append("  </emotion>")
    return "\n".join([*lines, "</emotionml>", ""])


def _parse(path: Path, text: str) -> tuple[Element, list[_Numbered]]:
    builder = _LineBuilder()
    # Whatever encoding the file declares, it was read as UTF-8.
    parser = DefusedXMLParser(target=builder, encoding="utf-8", forbid_dtd=True)
    builder.parser = parser
    try:
        parser.feed(BytesIO(text.encode()).getvalue())
        root = parser.close()
    except ParseError as error:
        raise InvalidInputError(f"{path}:{error.position[0]}: not valid XML ({error})") from error
    except DefusedXmlException as error:
        raise InvalidInputError(f"{path}:1: a DTD or entities are refused: remove the DOCTYPE") from error
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}:{parser.parser.CurrentLineNumber}: {error}") from error
    return root, builder.emotions


def _keyframes(
    path: Path, item: _Numbered, begin: float, until: float | None, limit: float
) -> Iterator[tuple[float, Emotion, str]]:
    with blaming(path, item.line):
        ours = next((e for e in item.element.iter(f"{{{OURS}}}key")), None)
        traces = [e for e in item.element.iter() if _local(e.tag) == "trace"]
        if traces:
            yield from _traced(item.element, begin, limit)
            return
        emotion = _emotion(item.element, 0)
        if ours is not None:
            yield number(ours.get("t") or str(begin), "t"), emotion, ours.get("ease") or "linear"
            return
        yield begin, emotion, "linear"
        if until is not None and begin < until < limit:
            yield until, emotion, "linear"


def _traced(element: Element, begin: float, limit: float) -> Iterator[tuple[float, Emotion, str]]:
    count, rate = 0, 0.0
    for trace in element.iter():
        if _local(trace.tag) == "trace":
            hertz = number((trace.get("freq") or "").lower().replace("hz", "").strip(), "freq")
            samples = len((trace.get("samples") or "").split())
            if not hertz > 0 or not samples:
                raise InvalidInputError("a trace needs freq above 0 Hz and samples")
            if count and (samples, hertz) != (count, rate):
                raise InvalidInputError("traces of one emotion must have the same freq and number of samples")
            count, rate = samples, hertz
    if count > _MAX_TRACE:
        raise InvalidInputError(f"a trace of {count} samples, at most {_MAX_TRACE} are read")
    for sample in range(count):
        time = begin + sample / rate
        if time >= limit:
            return
        yield time, _emotion(element, sample), "linear"


def _emotion(element: Element, sample: int) -> Emotion:
    axes: dict[str, float] = {}
    mixture: dict[str, float] = {}
    confidence = []
    written_here = any(_local(e.tag) == "key" and e.tag.startswith(f"{{{OURS}}}") for e in element.iter())
    for child in element:
        kind, name = _local(child.tag), (child.get("name") or "").strip()
        if kind not in ("category", "dimension"):
            continue
        value = _value(child, sample, name)
        if child.get("confidence"):
            confidence.append(_in_unit(number(child.get("confidence", ""), "confidence"), "confidence"))
        if kind == "category":
            mixture[name] = mixture.get(name, 0.0) + (1.0 if value is None else value)
        elif name.lower() in _AXES:
            if value is None:
                raise InvalidInputError(f"dimension {name!r} needs a value")
            axes[_AXES[name.lower()]] = value
        elif name.lower() not in _IGNORED:
            raise InvalidInputError(f"unknown dimension {name!r}: known are {', '.join(_AXES)}")
    names = Mixture(mixture if any(mixture.values()) else {})
    if not names and not {"valence", "arousal"} <= set(axes):
        raise InvalidInputError("an emotion needs a category, or pleasure and arousal")
    intensity = axes["intensity"] * (MAX_INTENSITY if written_here else 1.0) if "intensity" in axes else None
    if intensity is None:
        # A lone category's value is how strong it is; several share the emotion among them.
        intensity = min(max(mixture.values()), 1.0) if len(mixture) == 1 and not axes else 1.0
    sure = sum(confidence) / len(confidence) if confidence else 1.0
    if {"valence", "arousal"} <= set(axes):
        v, a = (round(2 * axes[axis] - 1, 9) for axis in ("valence", "arousal"))
        d = round(2 * axes["dominance"] - 1, 9) if "dominance" in axes else None
        point = Emotion.from_vad(v, a, d).vad
        if names and max(abs(x - y) for x, y in zip(point, mean_vad(names), strict=True)) < 1e-6:
            point = mean_vad(names)  # nine digits were written: the names know the rest
        return Emotion(vad=point, mixture=names, intensity=intensity, confidence=sure)
    return Emotion.from_mixture(names, intensity, confidence=sure)


def _value(child: Element, sample: int, name: str) -> float | None:
    trace = next((e for e in child if _local(e.tag) == "trace"), None)
    text = child.get("value") if trace is None else (trace.get("samples") or "").split()[sample]
    return None if text is None else _in_unit(number(text, f"the value of {name}"), f"the value of {name}")


def _in_unit(value: float, what: str) -> float:
    if not 0 <= value <= 1:
        raise InvalidInputError(f"{what} must lie in [0, 1] as EmotionML has it, got {value:g}")
    return value


def _time_ms(path: Path, item: _Numbered, which: str) -> float | None:
    with blaming(path, item.line):
        if which == "start":
            text = item.element.get("start") or item.element.get("offset-to-start")
            return None if text is None else number(text, "start")
        if item.element.get("end"):
            return number(item.element.get("end", ""), "end")
        if item.element.get("duration"):
            return (_time_ms(path, item, "start") or 0.0) + number(
                item.element.get("duration", ""), "duration"
            )
        return None


def _options(root: Element) -> dict[str, str]:
    ours = next(root.iter(f"{{{OURS}}}track"), None)
    if ours is None:
        return {}
    return {"space": ours.get("space", "linear"), "route": ours.get("route", "arousal")}


def _unit(value: float) -> str:
    return f"{value:.9g}"


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
