"""Who stands before the camera: the performers of a scene, as 3D heads or as portraits."""

from typing import TYPE_CHECKING

from affetto.runtime.errors import UsageError
from affetto.scene.performers import person
from affetto.scene.pictures import HeadPerformer, Performer

if TYPE_CHECKING:
    from affetto.scene.director import Director
    from affetto.scene.performance import Performance


def open_performers(director: "Director", performance: "Performance", picture: str) -> dict[str, Performer]:
    """Every speaker of a scene who can be seen, by name; `picture` is head or talking.

    Raises UsageError for a portrait that the scene does not have.
    """
    scene = director.scene
    if picture == "head":
        return {
            name: HeadPerformer(person(scene.speakers[name].head), curves)
            for name, curves in performance.curves.items()
        }
    missing = [name for name in performance.curves if scene.speakers[name].portrait is None]
    if missing:
        raise UsageError(f"{missing[0]} has no portrait: add portrait: {{image: FILE}}")
    from affetto.scene.portraits import PortraitPerformer  # loads the portrait's networks

    return {name: PortraitPerformer.of(director, performance, name) for name in performance.curves}
