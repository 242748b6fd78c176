"""Whether the voices and faces of a scene may be used, where that has to be stated."""

from collections.abc import Iterator
from pathlib import Path

from affetto.provenance.consent import GROUNDS, ConsentBook, consent_required
from affetto.runtime.errors import PolicyError
from affetto.scene.model import Scene


def check_consent(scene: Scene, base: Path, *, book: ConsentBook | None = None) -> None:
    """Raise PolicyError for recordings and portraits nobody consented to, where consent is required.

    A speaker's `consent` in the scene counts for all that is theirs; else what was stated before for a file of the same
    content. A text that is spoken by the computer, over a head that is nobody's, needs none.
    """
    if not consent_required():
        return
    book = book or ConsentBook()
    without = [told for path, told in _real_media(scene, base) if book.of(path) is None]
    if without:
        raise PolicyError(
            f"nobody has stated whose these are: {', '.join(without)}: give the speaker"
            f" `consent: {{kind: {'|'.join(GROUNDS)}}}`"
        )


def _real_media(scene: Scene, base: Path) -> Iterator[tuple[Path, str]]:
    """Recordings and portraits of speakers without a consent of their own, each file once, and how to name them."""
    seen: set[Path] = set()
    for name, speaker in scene.speakers.items():
        if speaker.consent is not None:
            continue
        turns = (turn for shot in scene.shot_list for turn in shot.turns if turn.speaker == name)
        found = [(turn.audio, "voice") for turn in turns if turn.audio is not None]
        found += [(speaker.portrait.image, "portrait")] if speaker.portrait is not None else []
        for file, kind in found:
            path = base / file
            if path not in seen:
                seen.add(path)
                yield path, f"{file} ({kind} of {name})"
