"""The renderer that uses OpenGL through EGL: a graphics card, or Mesa's software rasteriser; no display needed."""

from typing import Any

import moderngl
import numpy as np
from jaxtyping import Float, UInt8

from affetto.head.posing import Poser
from affetto.head.prepare import SHOULDER, PreparedSurface
from affetto.head.stage import Background, Camera, Lighting

_EGL: dict[str, Any] = {"backend": "egl"}
_VERTEX = """
#version 330
uniform vec4 lens;  // focal x, focal y, near, far
in vec3 position; in vec3 normal; in vec2 uv; in vec3 material;
centroid out vec3 v_position; centroid out vec3 v_normal; centroid out vec2 v_uv; centroid out vec3 v_material;
void main() {
    v_position = position; v_normal = normal; v_uv = uv; v_material = material;
    float depth = (-position.z * (lens.w + lens.z) - 2.0 * lens.w * lens.z) / (lens.w - lens.z);
    gl_Position = vec4(position.xy * lens.xy, depth, -position.z);
}
"""

_FRAGMENT = """
#version 330
const int COUNT = @COUNT@;
const float SHOULDER = @SHOULDER@;
uniform sampler2D albedo;
uniform vec3 toward[COUNT];
uniform vec3 rows[COUNT + 3];  // light colours, sky, ground, (wrap, rim, 0)
centroid in vec3 v_position; centroid in vec3 v_normal; centroid in vec2 v_uv; centroid in vec3 v_material;
out vec4 colour;

vec3 display(vec3 light) {
    vec3 over = max(light - SHOULDER, 0.0) / (1.0 - SHOULDER);
    light = mix(light, SHOULDER + (1.0 - SHOULDER) * over / (1.0 + over), step(SHOULDER, light));
    return mix(12.92 * light, 1.055 * pow(max(light, 1e-9), vec3(1.0 / 2.4)) - 0.055, step(0.0031308, light));
}

void main() {
    vec3 n = normalize(v_normal);
    if (!gl_FrontFacing) n = -n;
    vec3 view = -normalize(v_position);
    float gloss = v_material.x, warmth = v_material.y, open = v_material.z;
    float facing = max(dot(n, view), 0.0);
    vec3 sky = rows[COUNT], ground = rows[COUNT + 1];
    vec3 wrap = rows[COUNT + 2].x + warmth * vec3(0.15, 0.04, 0.0);
    float up = 0.5 + 0.5 * n.y;
    vec3 openness = open + vec3(0.35, 0.10, 0.0) * warmth * (1.0 - open) * open;
    vec3 diffuse = mix(ground, sky, up) * openness;
    vec3 shine = pow(1.0 - facing, 3.0) * rows[COUNT + 2].y * up * sky * open;
    float exponent = exp2(3.0 + 8.0 * gloss);
    float peak = (exponent + 8.0) / 25.132741 * min(3.0 * gloss, 1.0);
    for (int k = 0; k < COUNT; k++) {
        float cosine = dot(n, toward[k]);
        diffuse += rows[k] * max((cosine + wrap) / (1.0 + wrap), 0.0) * open * (2.0 - open);
        if (cosine > 0.0) {
            vec3 halfway = normalize(toward[k] + view);
            float mirror = 0.04 + 0.96 * pow(max(1.0 - dot(view, halfway), 0.0), 5.0);
            float lobe = exp(max(exponent * (dot(n, halfway) - 1.0), -80.0));
            shine += rows[k] * (lobe * peak * mirror * min(4.0 * cosine, 1.0) * open);
        }
    }
    colour = vec4(display(texture(albedo, v_uv).rgb * diffuse + shine), 1.0);
}
"""

_WALL_VERTEX = """
#version 330
in vec2 corner;
void main() { gl_Position = vec4(corner, 0.0, 1.0); }
"""

_WALL_FRAGMENT = """
#version 330
uniform sampler2D wall;
out vec4 colour;
void main() { colour = vec4(texelFetch(wall, ivec2(gl_FragCoord.xy), 0).rgb / 255.0, 1.0); }
"""


class ModernGLRenderer:
    """Pictures of one surface by OpenGL with 4x multisampling; see `affetto.head.render.open_renderer`.

    A renderer belongs to the thread that opened it.
    """

    backend = "moderngl"

    def __init__(
        self,
        prepared: PreparedSurface,
        poser: Poser,
        *,
        size: tuple[int, int],
        camera: Camera,
        lighting: Lighting,
        background: Background,
        cull: bool,
    ) -> None:
        self.size = size
        self._poser = poser
        self._context = context = moderngl.create_context(standalone=True, require=330, **_EGL)
        samples = min(4, context.max_samples)
        self._canvas = context.framebuffer(
            [context.renderbuffer(size, 4, samples=samples)],
            context.depth_renderbuffer(size, samples=samples),
        )
        self._resolved = context.framebuffer([context.renderbuffer(size, 4)])
        self._flags = moderngl.DEPTH_TEST | (moderngl.CULL_FACE if cull else 0)
        self._points = context.buffer(reserve=prepared.positions.nbytes, dynamic=True)
        self._normals = context.buffer(reserve=prepared.positions.nbytes, dynamic=True)
        self._program = self._shader(lighting, camera, prepared, size)
        self._vertex_array = context.vertex_array(
            self._program,
            [
                (self._points, "3f", "position"),
                (self._normals, "3f", "normal"),
                (context.buffer(prepared.attributes.tobytes()), "2f 3f", "uv", "material"),
            ],
            context.buffer(prepared.triangles.tobytes()),
        )
        self._albedo = self._texture(prepared.texture, smooth=True)
        self._wall = self._texture(background.picture(size)[::-1], smooth=False)
        self._wall_program = context.program(vertex_shader=_WALL_VERTEX, fragment_shader=_WALL_FRAGMENT)
        triangle = np.array([-1, -1, 3, -1, -1, 3], np.float32)
        self._wall_array = context.vertex_array(
            self._wall_program, [(context.buffer(triangle.tobytes()), "2f", "corner")]
        )

    def frame(
        self,
        vertices: Float[np.ndarray, "vertex 3"],
        rotation: Float[np.ndarray, "3 3"] | None = None,
        pivot: Float[np.ndarray, "3"] | None = None,
        follow: Float[np.ndarray, "share"] | None = None,
    ) -> UInt8[np.ndarray, "row column 3"]:
        """One picture (sRGB) of the surface with its vertices at `vertices`; see `affetto.head.render.Renderer`."""
        points, normals = self._poser.pose(vertices, rotation, pivot, follow)
        self._points.write(points)
        self._normals.write(normals)
        self._canvas.use()
        self._canvas.clear()
        self._context.disable(moderngl.DEPTH_TEST | moderngl.CULL_FACE)
        self._wall.use(0)
        self._wall_array.render(moderngl.TRIANGLES)
        self._context.enable(self._flags)
        self._albedo.use(0)
        self._vertex_array.render(moderngl.TRIANGLES)
        self._context.copy_framebuffer(self._resolved, self._canvas)
        rows = np.frombuffer(self._resolved.read(components=3, alignment=1), np.uint8)
        width, height = self.size
        return np.ascontiguousarray(rows.reshape(height, width, 3)[::-1])

    def close(self) -> None:
        """Free the OpenGL context and all it holds."""
        self._context.release()

    def _shader(
        self, lighting: Lighting, camera: Camera, prepared: PreparedSurface, size: tuple[int, int]
    ) -> moderngl.Program:
        source = _FRAGMENT.replace("@COUNT@", str(len(lighting.lights))).replace("@SHOULDER@", str(SHOULDER))
        program = self._context.program(vertex_shader=_VERTEX, fragment_shader=source)
        reach = np.linalg.norm(prepared.positions - np.array(camera.target), axis=1).max()
        tangent = 1.0 / np.tan(np.radians(camera.field_of_view) / 2.0)
        lens = (
            tangent * size[1] / size[0],
            tangent,
            0.05 * camera.distance,
            camera.distance + 2.0 * float(reach),
        )
        self._write(program, "lens", np.array(lens))
        self._write(program, "toward", lighting.directions())
        extra = [lighting.sky, lighting.ground, (lighting.wrap, lighting.rim, 0.0)]
        self._write(program, "rows", np.concatenate([lighting.colours(), np.array(extra)]))
        return program

    @staticmethod
    def _write(program: moderngl.Program, name: str, values: Float[np.ndarray, "..."]) -> None:
        uniform = program[name]
        assert isinstance(uniform, moderngl.Uniform)
        uniform.write(values.astype(np.float32).tobytes())

    def _texture(self, pixels: Float[np.ndarray, "row column 3"], *, smooth: bool) -> moderngl.Texture:
        height, width = pixels.shape[:2]
        texture = self._context.texture(
            (width, height), 3, np.ascontiguousarray(pixels).tobytes(), dtype="f4"
        )
        filtering = moderngl.LINEAR if smooth else moderngl.NEAREST
        texture.filter = (filtering, filtering)
        texture.repeat_x = texture.repeat_y = False
        return texture
