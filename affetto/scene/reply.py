"""An answer to what someone wrote: which emotion fits, and what to say.

After the empathetic avatars of AvaMERG (Zhang et al. 2025) and emotion-aware dialogue encoders: first what the other
feels, then the emotion that answers it, then the words. The words come from a template, or from an OpenAI-compatible
endpoint that the user names; nothing is sent anywhere unless one is named.
"""

import http.client
import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

import numpy as np

from affetto.conditioning.emotion import Emotion
from affetto.conditioning.encoders.text import TextEncoder
from affetto.conditioning.track import EmotionTrack
from affetto.runtime.errors import InvalidInputError, TryAgainError, UsageError
from affetto.scene.model import Reply

MAX_RESPONSE = 256 * 1024
MAX_WORDS = 1_200  # characters of an answer

_FITTING = {  # what the other feels -> what answers it: attack, then the course of the answer
    "happy": "0:happy@0.8",
    "excited": "0:happy@0.9",
    "surprised": "0:surprised@0.6; 1.2:happy@0.5",
    "sad": "0:sad@0.5; 2.5:calm@0.6",
    "fear": "0:sad@0.3; 1.5:calm@0.8",
    "angry": "0:calm@0.5",
    "disgusted": "0:sad@0.3; 1.5:calm@0.5",
    "contempt": "0:calm@0.4",
    "bored": "0:happy@0.5",
    "relaxed": "0:calm@0.6",
    "neutral": "0:calm@0.3",
}
_TEMPLATES = {
    "happy": (
        "That is wonderful to hear! Tell me, what made it so good?",
        "I am so glad for you! You can be proud of that.",
    ),
    "excited": ("How exciting! I would love to hear how it goes on.",),
    "surprised": ("Really? I did not expect that either. How do you feel about it now?",),
    "sad": (
        "I am so sorry. That sounds heavy. Do you want to tell me more about it?",
        "That must hurt. Take the time you need; you do not have to carry it alone.",
    ),
    "fear": (
        "I understand that this is frightening. Let us look at it together, one step at a time.",
        "It is alright to be afraid. What would help you feel a little safer now?",
    ),
    "angry": (
        "I can see why you are upset. What happened, and what would put it right?",
        "That would annoy me too. Let us see what we can do about it.",
    ),
    "disgusted": ("That sounds truly unpleasant. I am sorry that you had to see it.",),
    "contempt": ("You seem to have made up your mind. What would change it?",),
    "bored": ("Then let us find something that is worth your time. What did you last enjoy?",),
    "relaxed": ("That sounds peaceful. Enjoy it.",),
    "neutral": ("Thank you for telling me. How do you feel about it?",),
}
_ASK = (
    "Someone wrote to you. Answer as a kind listener in one to three short spoken sentences. Reply with JSON only:"
    ' {"emotion": one emotion with a strength such as "calm@0.6" or a track such as "0:sad@0.4; 2:calm@0.6",'
    ' "text": what you say}.'
)


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is said, how it feels, what was read from the other's words, and where the answer comes from."""

    text: str
    emotion: str
    felt: str
    source: str


def answer(reply: Reply, *, seed: int = 0) -> Answer:
    """An answer to `reply.to`; raises TryAgainError when the endpoint fails, InvalidInputError when it answers nonsense."""
    felt = TextEncoder()(reply.to)
    klass = _class_of(felt)
    if reply.endpoint is None:
        choices = _TEMPLATES[klass]
        text = choices[int(np.random.default_rng([seed, len(reply.to)]).integers(len(choices)))]
        return Answer(text=text, emotion=_FITTING[klass], felt=str(felt), source="template")
    text, emotion = _asked(reply, felt)
    return Answer(text=text, emotion=emotion or _FITTING[klass], felt=str(felt), source=reply.endpoint)


def _class_of(felt: Emotion) -> str:
    """The class whose answers fit a feeling: the nearest, and neutral when hardly anything is felt."""
    if felt.intensity * felt.confidence < 0.08 and float(np.abs(felt.effective_vad()).max()) < 0.2:
        return "neutral"
    anchors = sorted(_FITTING, key=lambda name: Emotion.from_label(name).distance(felt.scaled(1.0)))
    return next(name for name in anchors if name != "neutral")


def _asked(reply: Reply, felt: Emotion) -> tuple[str, str | None]:
    """Text and emotion (None when it names none that is known) from the endpoint."""
    headers = {"Content-Type": "application/json"}
    if reply.key_variable is not None:
        key = os.environ.get(reply.key_variable)
        if not key:
            raise UsageError(
                f"the environment variable {reply.key_variable} is not set: put the endpoint's key there"
            )
        headers["Authorization"] = f"Bearer {key}"
    body = {
        "model": reply.model,
        "messages": [
            {"role": "system", "content": _ASK},
            {"role": "user", "content": f"(reads as {felt}) {reply.to}"},
        ],
        "temperature": 0,
    }
    address = f"{str(reply.endpoint).rstrip('/')}/chat/completions"
    request = urllib.request.Request(address, json.dumps(body).encode(), headers, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=reply.timeout_s) as response:
            raw = response.read(MAX_RESPONSE + 1)
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise TryAgainError(
            f"{address}: does not answer ({reason}): check that it runs, or leave endpoint away"
        ) from error
    if len(raw) > MAX_RESPONSE:
        raise InvalidInputError(f"{address}: answers more than {MAX_RESPONSE // 1024} KiB: use another model")
    return _read_answer(raw, address)


def _read_answer(raw: bytes, address: str) -> tuple[str, str | None]:
    try:
        content: Any = json.loads(raw)["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise InvalidInputError(
            f"{address}: is no OpenAI-compatible chat endpoint: check the address"
        ) from error
    if not isinstance(content, str) or not content.strip():
        raise InvalidInputError(f"{address}: answers without text: use another model")
    emotion: str | None = None
    text = content.strip()
    start, stop = text.find("{"), text.rfind("}")
    if 0 <= start < stop:
        try:
            found = json.loads(text[start : stop + 1])
            text, emotion = str(found["text"]).strip(), str(found.get("emotion") or "") or None
        except (ValueError, KeyError, TypeError):
            pass  # then all of it is what is said
    if emotion is not None:
        try:
            EmotionTrack.parse(emotion)
        except UsageError:
            emotion = None
    if not any(letter.isalnum() for letter in text):
        raise InvalidInputError(f"{address}: answers without words: use another model")
    return text[:MAX_WORDS], emotion
