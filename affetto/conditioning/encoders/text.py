"""Text -> emotion without a network: VADER's valence and the emotion words of the lexicon, in context."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from vaderSentiment.vaderSentiment import SentimentIntensityAnalyzer

from affetto.conditioning.charts import complete_dominance
from affetto.conditioning.emotion import Emotion, Mixture
from affetto.conditioning.encoders.base import Reading
from affetto.conditioning.encoders.text_words import SET_PHRASES, felt_terms, phrase_widths, word_terms
from affetto.conditioning.lexicon import EMOJI, LEXICON, lookup
from affetto.conditioning.track import EmotionTrack, Keyframe
from affetto.runtime.errors import InvalidInputError

MAX_CHARACTERS = 1_000_000
_WORD = re.compile(r"[a-zA-Z]+(?:['-][a-zA-Z]+)*|[.,;:!?…()\n]")
_SENTENCE = re.compile(r"(?<=[.!?…\n])\s+|\n+")
_SENTENCE_WORDS = 60  # longer ones are read in pieces, so that time stays linear in length
_STRETCHED = re.compile(r"([a-zA-Z])\1{2,}")
_EMOJI = re.compile("|".join(sorted(map(re.escape, EMOJI), key=len, reverse=True)))


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_BOOSTERS = _words(
    "very really so extremely absolutely totally completely incredibly deeply utterly terribly awfully such too truly "
    "insanely super hugely intensely immensely overwhelmingly madly beyond fucking freaking most"
)
_DAMPENERS = _words("slightly somewhat barely hardly rather fairly mildly kinda sorta almost little bit")
_NEGATIONS = _words(
    "not no never none nobody nothing neither nor without cannot cant dont doesnt didnt isnt arent wasnt werent wont "
    "wouldnt aint rarely seldom stop stopped"
)
_CONTRASTS = _words("but however yet though although still")
_COPULAS = _words("am i'm feel feels feeling felt is are was were he's she's they're we're you're be")
_STOPS = frozenset(".,;:!?…()\n")
_SCOPE = 4  # words a negation reaches


@dataclass(frozen=True)
class _Hit:
    """One emotion word in its context."""

    term: str
    weight: float
    strength: float  # of the feeling, before punctuation


@dataclass(frozen=True)
class _Clue:
    """What one sentence says."""

    hits: tuple[_Hit, ...]
    compound: float  # VADER's valence
    scored: int  # words VADER knows
    arousal: float  # from capitals, exclamation marks and stretched letters


class TextEncoder:
    """Reads the emotion that English text expresses, in less than a millisecond a sentence, offline.

    Valence is VADER's compound (Hutto & Gilbert 2014) joined with the terms of Russell & Mehrabian that the text names;
    negation turns a term within its clause, boosters and dampeners scale it, capitals, exclamation marks and stretched
    letters raise arousal. Confidence is how much of the emotional vocabulary was understood.
    """

    modality = "text"

    @property
    def taxonomy(self) -> tuple[str, ...]:
        """Every term of the lexicon."""
        return tuple(LEXICON)

    def __call__(self, text: str) -> Emotion:
        """The emotion of the text; neutral with confidence near 0 when it names none."""
        return self.read(text).emotion

    def read(self, source: str) -> Reading:
        """The emotion of the text with its uncertainty."""
        if len(source) > MAX_CHARACTERS:
            raise InvalidInputError(
                f"a text of {len(source)} characters exceeds {MAX_CHARACTERS}: cut it into parts"
            )
        clues = [_clue(sentence) for sentence in _sentences(source)]
        return _judge(clues)

    def track(self, cues: Iterable[tuple[float, str]]) -> EmotionTrack:
        """The emotions of timed lines (start in seconds, text), each turning into the next over a cosine."""
        keyframes = tuple(Keyframe(time=start, emotion=self(text), ease="cosine") for start, text in cues)
        return EmotionTrack(keyframes=keyframes) if keyframes else EmotionTrack.constant(Emotion.neutral())


@lru_cache(maxsize=1)
def _vader() -> SentimentIntensityAnalyzer:
    return SentimentIntensityAnalyzer()


def _sentences(text: str) -> list[str]:
    plain = text.replace("’", "'").replace("‘", "'").replace("\ufe0f", "")
    pieces: list[str] = []
    for sentence in _SENTENCE.split(plain):
        words = sentence.split()
        pieces += [" ".join(words[i : i + _SENTENCE_WORDS]) for i in range(0, len(words), _SENTENCE_WORDS)]
    return pieces


def _clue(sentence: str) -> _Clue:
    stretched = bool(_STRETCHED.search(sentence))
    squeezed = _STRETCHED.sub(r"\1", sentence) if stretched else sentence
    doubled = _STRETCHED.sub(r"\1\1", sentence) if stretched else sentence
    tokens = _WORD.findall(squeezed)
    words = [token.lower() for token in tokens]
    if stretched and not any(word in word_terms() for word in words):
        tokens = _WORD.findall(doubled)
        words = [token.lower() for token in tokens]
    letters = [token for token in tokens if len(token) > 1 and token[0].isalpha()]
    capitals = sum(token.isupper() for token in letters)
    shouting = bool(letters) and capitals == len(letters) and len(letters) > 1
    hits = _hits(tokens, words, shouting=shouting) + _emoji_hits(sentence)
    marks = min(sentence.count("!"), 4)
    arousal = 0.08 * marks + 0.15 * (shouting or (capitals > 0 and _emphatic(tokens))) + 0.1 * stretched
    lexicon = _vader().lexicon
    scored = sum(word in lexicon for word in words)
    compound = (
        float(_vader().polarity_scores(squeezed)["compound"]) if scored or hits or sentence.strip() else 0.0
    )
    return _Clue(hits=hits, compound=compound, scored=scored, arousal=min(arousal, 0.45))


def _emphatic(tokens: list[str]) -> bool:
    """Whether a word that says something about feeling, and no abbreviation, stands in capitals."""
    return any(len(token) > 1 and token.isupper() and token.lower() in _known_words() for token in tokens)


@lru_cache(maxsize=1)
def _known_words() -> frozenset[str]:
    return frozenset(word_terms()) | frozenset(_vader().lexicon) | _BOOSTERS | _NEGATIONS | _DAMPENERS


def _hits(tokens: list[str], words: list[str], *, shouting: bool) -> tuple[_Hit, ...]:
    """The emotion words with what negates, boosts and contrasts them."""
    contrast = next((i for i, word in enumerate(words) if word in _CONTRASTS and i > 0), None)
    found: list[_Hit] = []
    position = 0
    while position < len(words):
        term, width = _term_at(words, position)
        if term is None:
            position += width
            continue
        before = _before(words, position)
        strength = 0.8
        near = before[-3:]
        if any(word in _BOOSTERS for word in near):
            strength = 1.0
        if any(word in _DAMPENERS for word in near) or near[-2:] in (["kind", "of"], ["sort", "of"]):
            strength = 0.45
        emphasised = not shouting and any(
            token.isupper() and len(token) > 1 for token in tokens[position - len(near) : position + width]
        )
        weight = 1.25 if emphasised else 1.0
        if contrast is not None:
            weight *= 0.6 if position < contrast else 1.4
        negated = _negated(before)
        if negated:
            term, strength = _opposite(term), strength * 0.6
        found.append(_Hit(term=term, weight=weight * (0.7 if negated else 1.0), strength=strength))
        position += width
    return tuple(found)


def _term_at(words: list[str], position: int) -> tuple[str | None, int]:
    """The term named at `position` and over how many words; (None, width) where a set phrase names none."""
    terms, word = word_terms(), words[position]
    for width in phrase_widths().get(word, ()):
        form = "-".join(words[position : position + width])
        if form in terms:
            return terms[form], width
        if form in SET_PHRASES:
            return None, width
    if word in terms:
        return terms[word], 1
    felt = felt_terms()
    if word in felt and position:
        scaled = position > 1 and words[position - 1] in _BOOSTERS | _DAMPENERS
        if words[position - 1 - scaled] in _COPULAS:  # feel strong, am so strong; not: is a strong coffee
            return felt[word], 1
    return None, 1


def _before(words: list[str], position: int) -> list[str]:
    """The words of the same clause before `position`, the last few of them."""
    clause: list[str] = []
    for word in reversed(words[max(0, position - _SCOPE - 2) : position]):
        if word in _STOPS or word in _CONTRASTS:
            break
        clause.append(word)
    return clause[::-1]


def _negated(before: list[str]) -> bool:
    reach = before[-_SCOPE:]
    for index, word in enumerate(reach):
        if word not in _NEGATIONS and not word.endswith("n't"):
            continue
        following = reach[index + 1 : index + 2]
        if following in (["only"], ["just"], ["doubt"]) or (word == "never" and "so" in reach[index:]):
            continue  # not only happy; without doubt; never been so happy
        if following == ["stop"] or (
            word == "stop" and index and reach[index - 1].startswith(("can", "could"))
        ):
            continue  # cannot stop crying
        return True
    return False


@lru_cache(maxsize=512)
def _opposite(term: str) -> str:
    """What is left when a term is denied: less than its opposite, in the same region of arousal."""
    valence, arousal, _ = LEXICON[term].vad
    if term in ("surprised", "astonished", "startled"):
        return "uninterested"
    if valence > 0.1:
        if arousal < -0.1:
            return "tense"
        return "uninterested" if arousal > 0.55 and term != "happy" else "sad"
    return "relaxed" if valence < -0.1 else "uninterested"


def _emoji_hits(sentence: str) -> tuple[_Hit, ...]:
    hits = []
    for match in _EMOJI.findall(sentence):
        emotion = Emotion.parse(EMOJI[match])
        hits += [
            _Hit(term=t, weight=1.0, strength=emotion.intensity) for t in emotion.mixture if t != "neutral"
        ]
    return tuple(hits)


def _judge(clues: list[_Clue]) -> Reading:
    hits = [hit for clue in clues for hit in clue.hits]
    scored = sum(clue.scored for clue in clues)
    spoken = [clue for clue in clues if clue.hits or abs(clue.compound) > 0.05]
    valence = float(np.mean([clue.compound for clue in spoken])) if spoken else 0.0
    cue = max((clue.arousal for clue in clues), default=0.0)
    if hits:
        return _from_terms(hits, valence, cue, scored)
    arousal = float(np.clip(0.25 * abs(valence) + (cue if spoken else 0.5 * cue), -1, 1))
    dominance = float(complete_dominance(np.array(valence), np.array(arousal))) * min(1.0, 2 * abs(valence))
    strength = float(np.clip(max(abs(valence), 0.5 * cue), 0, 1))
    name = "happy" if valence > 0 else "displeased"
    mixture = {"neutral": 1 - strength, name: strength} if strength > 0 else {"neutral": 1.0}
    return Reading(
        modality="text",
        vad=np.array([valence, arousal, dominance]),
        variance=np.array([0.12, 0.15, 0.15]) if spoken else np.array([0.3, 0.2, 0.2]),
        mixture=mixture,
        confidence=0.35 * min(1.0, 0.4 + abs(valence)) if spoken else 0.05,
    )


def _from_terms(hits: list[_Hit], valence: float, cue: float, scored: int) -> Reading:
    weights = np.array([hit.weight for hit in hits])
    strengths = np.array([hit.strength for hit in hits])
    share = weights / weights.sum()
    strength = float(np.clip(share @ strengths + 0.5 * cue, 0, 1))
    mixture: dict[str, float] = {"neutral": 1 - strength}
    for hit, part in zip(hits, share * strengths / (share @ strengths), strict=True):
        mixture[hit.term] = mixture.get(hit.term, 0.0) + strength * float(part)
    named = np.sum([p * np.array(lookup(t).vad) for t, p in mixture.items()], axis=0)
    vad = named + np.array([0.0, cue, 0.0])
    # the words' own valence, and VADER's for what surrounds them
    vad[0] = 0.7 * vad[0] + 0.3 * valence if scored else vad[0]
    understood = len(hits) / max(len(hits), scored)
    pull = float(share @ np.abs([lookup(hit.term).vad[0] - vad[0] for hit in hits]))
    return Reading(
        modality="text",
        vad=np.clip(vad, -1, 1),
        variance=np.array([0.04, 0.06, 0.06]) * (1 + pull) / max(understood, 0.25),
        mixture=Mixture(mixture),
        confidence=float(np.clip(0.4 + 0.55 * understood - 0.2 * min(pull, 1.0), 0.1, 0.95)),
    )
