"""Pictures of an animated surface: one call opens the best renderer this machine has."""

import functools
import subprocess
import sys
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, UInt8

from affetto.head.posing import Poser
from affetto.head.prepare import prepare_surface
from affetto.head.raster_moderngl import ModernGLRenderer
from affetto.head.raster_numba import NumbaRenderer, sees_back_faces
from affetto.head.rotation import euler_matrix
from affetto.head.stage import STUDIO, Background, Camera, Lighting
from affetto.media.animation.curves import FaceCurves
from affetto.media.mesh import AnimatedMesh, Surface
from affetto.runtime.errors import MissingResourceError, UsageError

BACKENDS = ("auto", "numba", "moderngl")
CHUNK_FRAMES = 32  # deformed at once; bounds memory for any length


@runtime_checkable
class Renderer(Protocol):
    """Makes pictures of one surface; the topology, camera and lights are fixed when it is opened."""

    backend: str
    size: tuple[int, int]

    def frame(
        self,
        vertices: Float[np.ndarray, "vertex 3"],
        rotation: Float[np.ndarray, "3 3"] | None = None,
        pivot: Float[np.ndarray, "3"] | None = None,
        follow: Float[np.ndarray, "share"] | None = None,
    ) -> UInt8[np.ndarray, "row column 3"]:
        """One picture (sRGB) with the vertices at `vertices` (metres), the head turned by `rotation` about `pivot`.

        `follow` is each vertex's share of the rotation, 1 on the head and 0 on the shoulders; without it the share
        falls with the height below the pivot, see `default_follow`. Without a pivot all turns about the origin.
        """
        ...

    def close(self) -> None:
        """Free what the renderer holds on the graphics device."""
        ...


@runtime_checkable
class AnimatedHead(Protocol):
    """What `render_curves` needs of a head; `HeadModel` is one."""

    @property
    def mesh(self) -> AnimatedMesh:
        """The surface at rest with its pivot."""
        ...

    @property
    def head_weights(self) -> Float[np.ndarray, "vertex"]:
        """Each vertex's share of the head's rotation."""
        ...

    def deform(
        self, weights: Float[np.ndarray, "*frame 52"], *, eyes: Float[np.ndarray, "*frame 2 2"] | None = None
    ) -> Float[np.ndarray, "frame vertex 3"]:
        """The vertices at each frame, the head not yet turned."""
        ...


def open_renderer(
    surface: Surface,
    *,
    size: tuple[int, int] = (512, 512),
    backend: str = "auto",
    camera: Camera | None = None,
    lights: Lighting = STUDIO,
    background: Background | None = None,
) -> Renderer:
    """A renderer of `surface` for pictures of `size` (width, height), 2x2 antialiased.

    `auto` takes moderngl when EGL opens a context on a graphics card, and numba otherwise, which is faster than OpenGL
    emulated on the processor; both give the same picture within 2/255 on average. Raises `UsageError` for an unknown backend or an impossible size, `MissingResourceError` when moderngl is
    asked for by name and no context opens.
    """
    width, height = size
    if backend not in BACKENDS:
        raise UsageError(f"unknown renderer {backend!r}: use {', '.join(BACKENDS)}")
    if not (16 <= width <= 8192 and 16 <= height <= 8192):
        raise UsageError(f"picture size {width}x{height}: use 16 to 8192 pixels a side")
    if not len(surface.triangles):
        raise UsageError("the surface has no triangles: there is nothing to render")
    if backend == "moderngl" and not gl_works():
        raise MissingResourceError(
            "no OpenGL context opens here (EGL): install libegl1 and Mesa, or use numba"
        )
    camera = Camera() if camera is None else camera
    prepared = prepare_surface(surface, camera, height)
    with_gl = backend == "moderngl" or (backend == "auto" and gl_accelerated())
    chosen = ModernGLRenderer if with_gl else NumbaRenderer
    return chosen(
        prepared,
        Poser(prepared, camera),
        size=size,
        camera=camera,
        lighting=lights,
        background=Background() if background is None else background,
        cull=not sees_back_faces(prepared, camera),
    )


_EMULATORS = ("llvmpipe", "softpipe", "swiftshader", "swrast")


@functools.cache
def gl_renderer() -> str | None:
    """Who draws in an OpenGL context opened through EGL, such as a graphics card's name; None when none opens.

    Tried once, in a process of its own, because drivers may abort.
    """
    probe = (
        "import moderngl; context = moderngl.create_context(standalone=True, backend='egl', require=330); "
        "print(context.info['GL_RENDERER'])"
    )
    try:
        done = subprocess.run(
            [sys.executable, "-c", probe], capture_output=True, text=True, timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or "unnamed" if done.returncode == 0 else None


def gl_works() -> bool:
    """Whether an OpenGL context opens through EGL."""
    return gl_renderer() is not None


def gl_accelerated() -> bool:
    """Whether OpenGL draws on a graphics card rather than on the processor."""
    name = gl_renderer()
    return name is not None and not any(emulator in name.lower() for emulator in _EMULATORS)


def render_curves(
    head: AnimatedHead, curves: FaceCurves, renderer: Renderer
) -> Iterator[UInt8[np.ndarray, "row column 3"]]:
    """The frames of a performance, one by one; memory does not grow with its length."""
    pivot = np.asarray(head.mesh.head_pivot)
    for start in range(0, len(curves), CHUNK_FRAMES):
        part = curves.sliced(start, start + CHUNK_FRAMES)
        rotations = euler_matrix(part.head)
        for vertices, rotation in zip(head.deform(part.weights, eyes=part.eyes), rotations, strict=True):
            yield renderer.frame(vertices, rotation, pivot, head.head_weights)
