"""The native format, `*.emotion.json`: everything a track can hold, described by `emotion.schema.json`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from affetto.conditioning.emotion import MAX_INTENSITY, Emotion, Mixture
from affetto.conditioning.formats.reading import KeyframeList
from affetto.conditioning.track import MAX_KEYFRAMES, MAX_SECONDS, EmotionTrack, Keyframe, Pulse
from affetto.runtime.errors import AffettoError, InvalidInputError

_Axis = Annotated[float, Field(ge=-1, le=1)]
_Time = Annotated[float, Field(ge=0, le=MAX_SECONDS)]
_Share = Annotated[float, Field(ge=0, le=1)]
Modality = Literal["face", "voice", "music", "portrait"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class _Emotional(_Strict):
    emotion: str | None = Field(
        None, max_length=2000, description="Text form, such as happy@0.7; instead of the rest"
    )
    vad: tuple[_Axis, _Axis, _Axis] | None = Field(
        None, description="Valence, arousal, dominance at full strength"
    )
    mixture: dict[str, Annotated[float, Field(ge=0)]] | None = Field(
        None, max_length=200, description="Shares of named emotions; normalised to sum to one"
    )
    intensity: float = Field(1.0, ge=0, le=MAX_INTENSITY, description="0 is neutral, above 1 is overdrive")
    confidence: _Share = 1.0

    def value(self) -> Emotion:
        """The emotion this entry names."""
        if self.emotion is not None:
            if self.vad is not None or self.mixture is not None:
                raise InvalidInputError("give either emotion or vad and mixture, not both")
            return Emotion.parse(self.emotion)
        if self.vad is None:
            if not self.mixture:
                raise InvalidInputError("give emotion, vad or mixture")
            return Emotion.from_mixture(self.mixture, self.intensity, confidence=self.confidence)
        return Emotion(
            vad=self.vad,
            mixture=Mixture(self.mixture or {}),
            intensity=self.intensity,
            confidence=self.confidence,
        )


class KeyModel(_Emotional):
    """A keyframe."""

    t: _Time = Field(description="Seconds; rising, each once")
    ease: str = Field(
        "linear",
        max_length=100,
        description="Way to the next keyframe: hold, linear, cosine, smoothstep, catmull-rom, bezier(x1,y1,x2,y2), "
        "exp(rise,fall)",
    )


class PulseModel(_Emotional):
    """A micro-event shorter than half a second."""

    t: _Time = Field(description="Seconds; the middle of the pulse")
    seconds: float = Field(0.3, gt=0, le=0.5)
    amount: _Share = 1.0


class LaneModel(_Strict):
    """A course of emotion for one modality."""

    space: Literal["linear", "slerp", "mixture"] = "linear"
    route: Literal["arousal", "neutral"] = "arousal"
    keys: list[KeyModel] = Field(min_length=1, max_length=MAX_KEYFRAMES)
    pulses: list[PulseModel] = Field([], max_length=MAX_KEYFRAMES)


class TrackModel(LaneModel):
    """An affetto emotion track."""

    format: Literal["affetto-emotion"] = "affetto-emotion"
    version: Literal[1] = 1
    lanes: dict[Modality, LaneModel] = Field(
        {}, description="Courses that replace this one for single modalities"
    )
    lags: dict[Modality, Annotated[float, Field(ge=-10, le=10)]] = Field(
        {}, description="Seconds by which a modality follows (negative: leads)"
    )


def schema() -> dict[str, Any]:
    """The JSON Schema of the format, as published beside this module."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://affetto.dev/schema/emotion-1.json",
        **TrackModel.model_json_schema(),
    }


def read(path: Path, text: str) -> EmotionTrack:
    """The track in native JSON `text`."""
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise InvalidInputError(f"{path}:{error.lineno}: not valid JSON ({error.msg})") from error
    except (RecursionError, ValueError) as error:
        raise InvalidInputError(f"{path}:1: not valid JSON ({error})") from error
    if not isinstance(document, dict):
        raise InvalidInputError(f"{path}:1: the top of the file must be an object with a list called keys")
    try:
        model = TrackModel.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        line = _line_of(text, first["loc"])
        raise InvalidInputError(f"{path}:{line}: {where}: {first['msg'].lower()}") from error
    lanes = {name: _build(path, text, lane, ("lanes", name)) for name, lane in model.lanes.items()}
    return _build(path, text, model, (), lanes=lanes, lags=dict(model.lags))


def write(track: EmotionTrack) -> str:
    """The track as native JSON, one keyframe a line."""
    head: dict[str, Any] = {"format": "affetto-emotion", "version": 1}
    if track.lags:
        head["lags"] = dict(track.lags)
    text = json.dumps(head, ensure_ascii=False)[:-1] + ",\n" + _lane_text(track)
    if track.lanes:
        lanes = ",\n".join(
            f"{json.dumps(name)}: {{\n{_lane_text(lane)}\n}}" for name, lane in track.lanes.items()
        )
        text += f',\n"lanes": {{\n{lanes}\n}}'
    return text + "\n}\n"


def emotion_fields(emotion: Emotion) -> dict[str, Any]:
    """The emotion as plain data: the fields the format uses."""
    fields: dict[str, Any] = {"vad": list(emotion.vad)}
    if emotion.mixture:
        fields["mixture"] = dict(emotion.mixture)
    fields["intensity"] = emotion.intensity
    if emotion.confidence != 1:
        fields["confidence"] = emotion.confidence
    return fields


def _lane_text(track: EmotionTrack) -> str:
    lines = []
    if track.space != "linear" or track.route != "arousal":
        lines.append(f'"space": "{track.space}", "route": "{track.route}"')
    lines.append(_list_text("keys", [_key_fields(key) for key in track.keyframes]))
    if track.pulses:
        lines.append(_list_text("pulses", [_pulse_fields(pulse) for pulse in track.pulses]))
    return ",\n".join(lines)


def _list_text(name: str, items: list[dict[str, Any]]) -> str:
    rows = ",\n".join("  " + json.dumps(item, ensure_ascii=False) for item in items)
    return f'"{name}": [\n{rows}\n]'


def _key_fields(key: Keyframe) -> dict[str, Any]:
    ease = {} if key.ease == "linear" else {"ease": key.ease}
    return {"t": key.time, **emotion_fields(key.emotion), **ease}


def _pulse_fields(pulse: Pulse) -> dict[str, Any]:
    return {
        "t": pulse.time,
        "seconds": pulse.seconds,
        "amount": pulse.amount,
        **emotion_fields(pulse.emotion),
    }


def _build(path: Path, text: str, lane: LaneModel, at: tuple[str, ...], **options: Any) -> EmotionTrack:
    keys = KeyframeList(path)
    for index, key in enumerate(lane.keys):
        try:
            keys.add(0, key.t, key.value(), key.ease)
        except AffettoError as error:
            _blame(path, text, (*at, "keys", index), error)
    pulses = []
    for index, pulse in enumerate(lane.pulses):
        try:
            pulses.append(
                Pulse(time=pulse.t, emotion=pulse.value(), seconds=pulse.seconds, amount=pulse.amount)
            )
        except AffettoError as error:
            _blame(path, text, (*at, "pulses", index), error)
    return keys.track(space=lane.space, route=lane.route, pulses=tuple(pulses), **options)


def _blame(path: Path, text: str, location: tuple[str | int, ...], error: AffettoError) -> NoReturn:
    # Finding the line costs a scan of the file, so it waits until there is something to blame.
    where = ".".join(str(part) for part in location)
    message = str(error).removeprefix(f"{path}:0: ")
    raise InvalidInputError(f"{path}:{_line_of(text, location)}: {where}: {message}") from error


def _line_of(text: str, location: Sequence[str | int]) -> int:
    """The line where the value at a path of names and indices begins, as deep as the path can be followed."""
    decoder, position = json.JSONDecoder(), _skip(text, 0)
    for step in location:
        found = _child(decoder, text, position, step)
        if found is None:
            break
        position = found
    return text.count("\n", 0, position) + 1


def _child(decoder: json.JSONDecoder, text: str, position: int, step: str | int) -> int | None:
    """Where the member or element `step` of the value at `position` begins."""
    is_object = text[position] == "{"
    if is_object != isinstance(step, str) or text[position] not in "{[":
        return None
    position, index = _skip(text, position + 1), 0
    while text[position] not in "]}":
        name: str | int = index
        if is_object:
            name, position = decoder.raw_decode(text, position)
            position = _skip(text, position)
        if name == step:
            return position
        _, position = decoder.raw_decode(text, position)
        position, index = _skip(text, position), index + 1
    return None


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n,:":
        position += 1
    return position


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number JSON knows")
