"""FLAME as a layer through which gradients flow: motion to vertices, for the losses of training."""

import numpy as np
import torch
from einops import einsum, rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from affetto.generators.face.full.flint import JAW
from affetto.head.flame import SHAPES, FlameModel
from affetto.head.flame_points import flame_points
from affetto.head.model import HeadModel
from affetto.runtime.errors import UsageError

MILLIMETRES = 1000.0
_JOINT = 2


class FlameLayer(nn.Module):
    """Expression and jaw to the vertices of the mean face, in millimetres; head, neck and eyes stay at rest.

    Only the skin's vertices are computed. `lips` are those about the mouth.
    """

    def __init__(self, flame: FlameModel, head: HeadModel, expressions: int) -> None:
        super().__init__()
        if expressions > flame.expressions:
            raise UsageError(f"this FLAME has {flame.expressions} expressions, the network {expressions}")
        skin = np.flatnonzero(flame.weights[:, 3:].sum(axis=1) < 0.5)
        modes = flame.shapedirs[..., SHAPES : SHAPES + expressions]
        joint = einsum(flame.J_regressor[_JOINT], flame.v_template, "v, v xyz -> xyz")
        carried = einsum(flame.J_regressor[_JOINT], modes, "v, v xyz mode -> xyz mode")
        self._keep("rest", flame.v_template[skin])
        self._keep("modes", modes[skin])
        self._keep("bends", flame.posedirs[skin][..., 9 * (_JOINT - 1) : 9 * _JOINT])
        self._keep("follow", flame.weights[skin, _JOINT])
        self._keep("joint", joint)
        self._keep("carried", carried)
        self.register_buffer("lips", torch.from_numpy(_about_the_mouth(flame, head, skin)), persistent=False)

    def _keep(self, name: str, values: np.ndarray) -> None:
        tensor = torch.from_numpy(np.ascontiguousarray(values, np.float32))
        self.register_buffer(name, tensor, persistent=False)

    def forward(self, motion: Float[Tensor, "clip frame channel"]) -> Float[Tensor, "clip frame vertex 3"]:
        """The vertices at each frame."""
        expression, jaw = motion[..., :-JAW].float(), motion[..., -JAW:].float()
        shaped = self.get_buffer("rest") + einsum(
            self.get_buffer("modes"), expression, "v xyz mode, b t mode -> b t v xyz"
        )
        turn = rotations(jaw)
        bend = rearrange(turn - torch.eye(3, device=turn.device), "b t row column -> b t (row column)")
        posed = shaped + einsum(self.get_buffer("bends"), bend, "v xyz mode, b t mode -> b t v xyz")
        centre = self.get_buffer("joint") + einsum(
            self.get_buffer("carried"), expression, "xyz mode, b t mode -> b t xyz"
        )
        offset = posed - centre[:, :, None]
        turned = einsum(turn, offset, "b t row column, b t v column -> b t v row")
        moved = posed + self.get_buffer("follow")[:, None] * (turned - offset)
        return MILLIMETRES * moved

    def mouth(self, vertices: Float[Tensor, "clip frame vertex 3"]) -> Float[Tensor, "clip frame lip 3"]:
        """The lips' vertices about their middle at rest."""
        lips = self.get_buffer("lips")
        middle = MILLIMETRES * self.get_buffer("rest")[lips].mean(0)
        return vertices[:, :, lips] - middle


def rotations(vectors: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch 3 3"]:
    """Rotation matrices of axis-angle vectors (Rodrigues), smooth through zero."""
    angle = vectors.square().sum(-1, keepdim=True).clamp_min(1e-12).sqrt()[..., None]
    x, y, z = vectors.unbind(-1)
    zero = torch.zeros_like(x)
    cross = torch.stack([zero, -z, y, z, zero, -x, -y, x, zero], dim=-1).unflatten(-1, (3, 3))
    sine, versine = torch.sin(angle) / angle, (1.0 - torch.cos(angle)) / angle.square()
    return torch.eye(3, device=vectors.device) + sine * cross + versine * (cross @ cross)


def _about_the_mouth(
    flame: FlameModel, head: HeadModel, skin: Int[np.ndarray, "skin"]
) -> Int[np.ndarray, "lip"]:
    """Which of the skin's vertices lie within 1.3 half mouth widths of the mouth's middle."""
    points = flame_points(flame, head)
    left, right = points["mouth_corner_left"], points["mouth_corner_right"]
    reach = 0.65 * np.linalg.norm(left - right)
    middle = points["inner_upper_lip"]
    near = np.linalg.norm(flame.v_template[skin] - middle, axis=1) < reach
    return np.flatnonzero(near)
