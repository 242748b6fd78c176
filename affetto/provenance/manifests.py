"""C2PA manifests: who made a file with what, signed, inside it or beside it. Needs the extra `provenance`."""

import contextlib
import importlib.util
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from affetto.provenance.certificates import SigningIdentity, has_identity, signing_identity
from affetto.runtime.errors import AffettoError, MissingResourceError
from affetto.runtime.files import atomic_path

EMBEDDING: Mapping[str, str] = {
    ".wav": "audio/wav", ".flac": "audio/flac", ".mp3": "audio/mpeg", ".m4a": "audio/mp4", ".mp4": "video/mp4",
    ".mov": "video/quicktime", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".webp": "image/webp",
}  # fmt: skip
"""Formats that hold a manifest themselves; for all others it lies beside the file, with the suffix .c2pa added."""

SIDECAR_SUFFIX = ".c2pa"
_SIDECAR_TYPE = "application/octet-stream"
_RECIPE = "org.affetto.recipe"
_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/"


@dataclass(frozen=True, kw_only=True)
class Origin:
    """What a manifest says of a file: the generator, the action, the recipe, and what it was made from.

    `edited` media were recordings of a person before (voice conversion, a talking portrait); `created` ones were not.
    Ingredients that are gone are not named.
    """

    generator: str
    action: Literal["created", "edited"] = "created"
    recipe: Mapping[str, Any] = field(default_factory=dict)
    ingredients: Sequence[Path] = ()

    def assertions(self) -> list[dict[str, Any]]:
        """The C2PA assertions: one action with its digital source type, and the recipe."""
        composite = self.action == "edited"
        kind = "compositeWithTrainedAlgorithmicMedia" if composite else "trainedAlgorithmicMedia"
        actions: list[dict[str, Any]] = [
            {
                "action": "c2pa.created",
                "digitalSourceType": _SOURCE_TYPE + kind,
                "softwareAgent": {"name": "affetto", "version": version("affetto")},
                "parameters": {"org.affetto.generator": self.generator},
            }
        ]
        return [
            {"label": "c2pa.actions.v2", "data": {"actions": actions}},
            {"label": _RECIPE, "data": dict(self.recipe)},
        ]


@dataclass(frozen=True, kw_only=True)
class ManifestFound:
    """What a file's manifest says, and whether it holds: `trusted` (by our own authority), `valid`, `invalid` or `none`."""

    state: Literal["trusted", "valid", "invalid", "none"]
    where: Literal["embedded", "sidecar", ""] = ""
    generator: str = ""
    software: str = ""
    source_type: str = ""
    recipe: Mapping[str, Any] | None = None
    ingredients: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def sidecar_path(path: Path) -> Path:
    """Where the manifest of a file lies that cannot hold it itself."""
    return path.with_name(path.name + SIDECAR_SUFFIX)


def can_sign() -> bool:
    """Whether the package that signs is installed."""
    return (
        importlib.util.find_spec("c2pa") is not None and importlib.util.find_spec("cryptography") is not None
    )


def sign_file(path: Path, origin: Origin, *, shown_as: Path | None = None) -> Path:
    """Sign a finished file in place, or write a sidecar beside it; the path of what holds the manifest.

    `shown_as` is the name it will have, when `path` is a temporary one. Manifests of ingredients are kept within.
    Raises MissingResourceError without the package, AffettoError when the signature does not verify.
    """
    c2pa = _package()
    identity = signing_identity()
    title = (shown_as or path).name
    kind = EMBEDDING.get(path.suffix.lower())
    definition = {
        "claim_generator_info": [{"name": "affetto", "version": version("affetto")}],
        "title": title,
        "format": kind or _SIDECAR_TYPE,
        "assertions": origin.assertions(),
    }
    with (
        _quiet_settings(c2pa, identity) as context,
        c2pa.Builder(json.dumps(definition), context=context) as builder,
    ):
        sources = [source for source in origin.ingredients if source.is_file()]
        for source in sources:
            _add_ingredient(c2pa, builder, source, alone=len(sources) == 1)
        if kind is not None:
            with (
                atomic_path(path) as temporary,
                path.open("rb") as source,
                temporary.open("w+b") as target,
            ):
                builder.sign(_signer(c2pa, identity), kind, source, target)
            holder = path
        else:
            holder = sidecar_path(path.with_name(title))
            builder.set_no_embed()
            with tempfile.TemporaryFile() as nowhere, path.open("rb") as source:
                manifest = builder.sign(_signer(c2pa, identity), _SIDECAR_TYPE, source, nowhere)
            with atomic_path(holder) as temporary:
                temporary.write_bytes(bytes(manifest))
    found = read_manifest(path, sidecar=holder if kind is None else None)
    if found.state not in ("trusted", "valid"):
        raise AffettoError(
            f"{title}: its signature does not verify ({'; '.join(found.problems)}): report this"
        )
    return holder


def read_manifest(path: Path, *, sidecar: Path | None = None) -> ManifestFound:
    """What the manifest in a file, or in the sidecar beside it, says and whether it holds."""
    c2pa = _package()
    kind = EMBEDDING.get(path.suffix.lower())
    sidecar = sidecar or sidecar_path(path)
    beside = sidecar.is_file()
    if kind is None and not beside:
        return ManifestFound(state="none")
    authority = _own_authority()
    with _quiet_settings(c2pa, authority) as context, path.open("rb") as file:
        try:
            data = {"manifest_data": sidecar.read_bytes()} if beside else {}
            with c2pa.Reader(
                kind if not beside and kind else _SIDECAR_TYPE, file, context=context, **data
            ) as reader:
                document = json.loads(reader.json())
                state = str(reader.get_validation_state() or "Invalid").lower()
            return _described(document, state, "sidecar" if beside else "embedded")
        except (KeyError, ValueError, AttributeError, TypeError) as error:
            return ManifestFound(state="invalid", problems=(f"the manifest is damaged: {error}",))
        except c2pa.C2paError as error:
            if "ManifestNotFound" in type(error).__name__ or "ManifestNotFound" in str(error):
                return ManifestFound(state="none")
            return ManifestFound(state="invalid", problems=(str(error).splitlines()[0],))


def _described(
    document: Mapping[str, Any], state: str, where: Literal["embedded", "sidecar"]
) -> ManifestFound:
    active = document["manifests"][document["active_manifest"]]
    by_label = {each["label"]: each["data"] for each in active.get("assertions", ())}
    actions = next(
        (data["actions"] for label, data in by_label.items() if label.startswith("c2pa.actions")), [{}]
    )
    first = actions[0] if actions else {}
    agent = first.get("softwareAgent", {})
    problems = tuple(
        f"{problem['code']}: {problem.get('explanation', '')}".strip(": ")
        for problem in document.get("validation_status", ())
        if problem["code"] != "signingCredential.untrusted"
    )
    return ManifestFound(
        state="trusted" if state == "trusted" else "valid" if state == "valid" else "invalid",
        where=where,
        generator=str(first.get("parameters", {}).get("org.affetto.generator", "")),
        software=" ".join(str(agent.get(key, "")) for key in ("name", "version")).strip()
        if isinstance(agent, dict)
        else str(agent),
        source_type=str(first.get("digitalSourceType", "")).rpartition("/")[2],
        recipe=by_label.get(_RECIPE),
        ingredients=tuple(str(each.get("title", "")) for each in active.get("ingredients", ())),
        problems=problems,
    )


def _package() -> Any:
    if not can_sign():
        raise MissingResourceError("signed manifests need c2pa-python: run pip install 'affetto[provenance]'")
    import c2pa

    return c2pa


def _own_authority() -> SigningIdentity | None:
    """The identity of this user if there is one; reading a file makes none."""
    return signing_identity() if has_identity() else None


@contextlib.contextmanager
def _quiet_settings(c2pa: Any, identity: SigningIdentity | None) -> Iterator[Any]:
    """A context that draws no thumbnails, asks no server, and trusts our own authority."""
    settings: dict[str, Any] = {
        "builder": {"thumbnail": {"enabled": False}},
        "verify": {"remote_manifest_fetch": False},
    }
    if identity is not None and identity.authority is not None:
        settings["trust"] = {"user_anchors": identity.authority}
    with c2pa.Context(c2pa.Settings.from_dict(settings)) as context:
        yield context


def _signer(c2pa: Any, identity: SigningIdentity) -> Any:
    return c2pa.Signer.from_info(
        c2pa.C2paSignerInfo("es256", identity.chain.encode(), identity.key.encode(), None)
    )


def _add_ingredient(c2pa: Any, builder: Any, path: Path, *, alone: bool) -> None:
    """Name a source by its hash; when its format holds a manifest, that comes along. Only one source can be the parent."""
    kind = EMBEDDING.get(path.suffix.lower(), _SIDECAR_TYPE)
    relationship = "inputTo" if kind == _SIDECAR_TYPE else "parentOf" if alone else "componentOf"
    described = json.dumps({"title": path.name, "relationship": relationship})
    with path.open("rb") as file:
        try:
            builder.add_ingredient(described, kind, file)
        except c2pa.C2paError:  # its content is not what its name says: it is known by its hash alone
            file.seek(0)
            described = json.dumps({"title": path.name, "relationship": "inputTo"})
            builder.add_ingredient(described, _SIDECAR_TYPE, file)
