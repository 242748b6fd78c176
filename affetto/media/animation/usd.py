"""USD scenes (.usda, .usdc): a skinned head with blend shapes and its performance; needs the extra `usd`.

Maya, Houdini, Blender, Unreal and Omniverse read UsdSkel. One skeleton (Body, Head, EyeLeft, EyeRight) has the rotations;
the face has BlendShape prims; one SkelAnimation holds both. Colours are per vertex, so no texture file lies beside it.
"""

import importlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from affetto.media.animation.curves import FaceCurves
from affetto.media.animation.parts import Part, head_shares, split_mesh, target_normals, target_weights
from affetto.media.animation.rotations import quaternions
from affetto.media.mesh import AnimatedMesh
from affetto.runtime.errors import MissingResourceError, UsageError
from affetto.runtime.files import atomic_path

STILL_METRES = 2e-6
JOINTS = ("Body", "Body/Head", "Body/Head/EyeLeft", "Body/Head/EyeRight")


def _pxr() -> Any:
    """The USD modules; they are an extra because the wheel has 200 MB."""
    names = ("Gf", "Sdf", "Usd", "UsdGeom", "UsdSkel", "Vt")
    try:
        return SimpleNamespace(**{name: importlib.import_module(f"pxr.{name}") for name in names})
    except ImportError as error:
        raise MissingResourceError("USD files need usd-core: run pip install 'affetto[usd]'") from error


def write_usd(path: str | Path, mesh: AnimatedMesh, curves: FaceCurves, *, overwrite: bool = True) -> Path:
    """Write a USD scene of the head performing the curves; metres, Y up, one time code a frame. Returns the path.

    Raises `MissingResourceError` without usd-core. The same input always gives the same bytes.
    """
    path = Path(path)
    if path.suffix.lower() not in (".usda", ".usdc"):
        raise UsageError(f"{path}: USD is written as .usda or .usdc")
    pxr = _pxr()
    stage = pxr.Usd.Stage.CreateInMemory()
    pxr.UsdGeom.SetStageUpAxis(stage, pxr.UsdGeom.Tokens.y)
    pxr.UsdGeom.SetStageMetersPerUnit(stage, 1.0)
    for name in ("TimeCodesPerSecond", "FramesPerSecond"):
        getattr(stage, f"Set{name}")(curves.fps)
    stage.SetStartTimeCode(0)
    stage.SetEndTimeCode(max(0, len(curves) - 1))
    root = pxr.UsdSkel.Root.Define(stage, "/Affetto")
    stage.SetDefaultPrim(root.GetPrim())
    skeleton = _skeleton(pxr, stage, mesh)
    animation = _animation(pxr, stage, mesh, curves)
    pxr.UsdSkel.BindingAPI.Apply(skeleton.GetPrim()).CreateAnimationSourceRel().SetTargets(
        [animation.GetPath()]
    )
    for joint, part in enumerate(split_mesh(mesh), start=1):
        if len(part.triangles):
            prim = _mesh(pxr, stage, mesh, part, joint, skeleton)
            if joint == 1:
                _blend_shapes(pxr, stage, mesh, part, prim)
    with atomic_path(path, overwrite=overwrite) as temporary:
        stage.GetRootLayer().Export(str(temporary))
    return path


def _places(mesh: AnimatedMesh) -> list[np.ndarray]:
    """Where each joint stands relative to its parent."""
    pivot = np.asarray(mesh.head_pivot, float)
    return [np.zeros(3), pivot, *(np.asarray(centre, float) - pivot for centre in mesh.eye_centres)]


def _skeleton(pxr: Any, stage: Any, mesh: AnimatedMesh) -> Any:
    def shift(vector: np.ndarray) -> Any:
        return pxr.Gf.Matrix4d().SetTranslate(pxr.Gf.Vec3d(*vector.tolist()))

    places = _places(mesh)
    skeleton = pxr.UsdSkel.Skeleton.Define(stage, "/Affetto/Skeleton")
    skeleton.CreateJointsAttr(JOINTS)
    skeleton.CreateRestTransformsAttr(pxr.Vt.Matrix4dArray([shift(place) for place in places]))
    worlds = [places[0], places[1], *(places[1] + place for place in places[2:])]
    skeleton.CreateBindTransformsAttr(pxr.Vt.Matrix4dArray([shift(world) for world in worlds]))
    return skeleton


def _animation(pxr: Any, stage: Any, mesh: AnimatedMesh, curves: FaceCurves) -> Any:
    animation = pxr.UsdSkel.Animation.Define(stage, "/Affetto/Performance")
    animation.CreateJointsAttr(JOINTS)
    animation.CreateTranslationsAttr(_vectors(pxr, np.stack(_places(mesh)).astype(np.float32)))
    animation.CreateScalesAttr(pxr.Vt.Vec3hArray([pxr.Gf.Vec3h(1, 1, 1)] * len(JOINTS)))
    animation.CreateBlendShapesAttr(mesh.names)
    tracks = [quaternions(curves.head), *(quaternions(curves.eyes[:, side]) for side in (0, 1))]
    rotations = animation.CreateRotationsAttr()
    weights = animation.CreateBlendShapeWeightsAttr()
    for frame, row in enumerate(target_weights(mesh, curves)):
        turns = [(0.0, 0.0, 0.0, 1.0), *(track[frame] for track in tracks)]
        quats = [pxr.Gf.Quatf(float(q[3]), float(q[0]), float(q[1]), float(q[2])) for q in turns]
        rotations.Set(pxr.Vt.QuatfArray(quats), frame)
        weights.Set(pxr.Vt.FloatArray.FromNumpy(np.ascontiguousarray(row, np.float32)), frame)
    return animation


def _vectors(pxr: Any, values: np.ndarray) -> Any:
    return pxr.Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(values, np.float32))


def _colours(mesh: AnimatedMesh, part: Part) -> np.ndarray:
    """The texture under each vertex as linear RGB 0..1."""
    texture = mesh.surface.texture
    height, width = texture.shape[:2]
    columns = np.clip((part.uvs[:, 0] * width).astype(int), 0, width - 1)
    rows = np.clip((part.uvs[:, 1] * height).astype(int), 0, height - 1)
    encoded = texture[rows, columns].astype(np.float64) / 255.0
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def _mesh(pxr: Any, stage: Any, mesh: AnimatedMesh, part: Part, joint: int, skeleton: Any) -> Any:
    """A mesh prim in place (not relative to its joint): the face bound to head and body, an eyeball to its joint."""
    geometry = pxr.UsdGeom.Mesh.Define(stage, f"/Affetto/{part.name}")
    points = mesh.surface.positions[part.source]
    geometry.CreatePointsAttr(_vectors(pxr, points))
    geometry.CreateExtentAttr(_vectors(pxr, np.stack([points.min(axis=0), points.max(axis=0)])))
    geometry.CreateFaceVertexCountsAttr(pxr.Vt.IntArray(len(part.triangles), 3))
    geometry.CreateFaceVertexIndicesAttr(pxr.Vt.IntArray.FromNumpy(part.triangles.ravel()))
    geometry.CreateNormalsAttr(_vectors(pxr, part.normals))
    geometry.SetNormalsInterpolation(pxr.UsdGeom.Tokens.vertex)
    geometry.CreateSubdivisionSchemeAttr(pxr.UsdGeom.Tokens.none)
    geometry.CreateDisplayColorPrimvar(pxr.UsdGeom.Tokens.vertex).Set(_vectors(pxr, _colours(mesh, part)))
    coordinates = pxr.UsdGeom.PrimvarsAPI(geometry).CreatePrimvar(
        "st", pxr.Sdf.ValueTypeNames.TexCoord2fArray, pxr.UsdGeom.Tokens.vertex
    )
    upwards = np.stack([part.uvs[:, 0], 1.0 - part.uvs[:, 1]], axis=1).astype(np.float32)
    coordinates.Set(pxr.Vt.Vec2fArray.FromNumpy(np.ascontiguousarray(upwards)))
    binding = pxr.UsdSkel.BindingAPI.Apply(geometry.GetPrim())
    binding.CreateSkeletonRel().SetTargets([skeleton.GetPath()])
    if joint == 1:
        share = head_shares(mesh, part)
        pairs = np.stack([share, 1 - share], axis=1).astype(np.float32)
        indices = np.tile(np.array([1, 0], np.int32), len(share))
        binding.CreateJointIndicesPrimvar(constant=False, elementSize=2).Set(
            pxr.Vt.IntArray.FromNumpy(indices)
        )
        weights = pxr.Vt.FloatArray.FromNumpy(pairs.ravel())
        binding.CreateJointWeightsPrimvar(constant=False, elementSize=2).Set(weights)
    else:
        binding.CreateJointIndicesPrimvar(constant=True, elementSize=1).Set([joint])
        binding.CreateJointWeightsPrimvar(constant=True, elementSize=1).Set([1.0])
    binding.CreateGeomBindTransformAttr(pxr.Gf.Matrix4d(1.0))
    return geometry.GetPrim()


def _blend_shapes(pxr: Any, stage: Any, mesh: AnimatedMesh, face: Part, prim: Any) -> None:
    rest = mesh.surface.normals()
    paths = []
    for shape, name in enumerate(mesh.names):
        blend = pxr.UsdSkel.BlendShape.Define(stage, prim.GetPath().AppendChild(name))
        offsets = mesh.deltas[shape][face.source]
        kept = np.flatnonzero(np.abs(offsets).max(axis=1) > STILL_METRES).astype(np.int32)
        blend.CreateOffsetsAttr(_vectors(pxr, offsets[kept]))
        blend.CreateNormalOffsetsAttr(_vectors(pxr, target_normals(mesh, face, shape, rest)[kept]))
        blend.CreatePointIndicesAttr(pxr.Vt.IntArray.FromNumpy(kept))
        paths.append(blend.GetPath())
    binding = pxr.UsdSkel.BindingAPI(prim)
    binding.CreateBlendShapesAttr(mesh.names)
    binding.CreateBlendShapeTargetsRel().SetTargets(paths)
