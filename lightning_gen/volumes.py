"""Pictures of solids: what volumes look like from the side, for grids and for models that look at them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

YAW, PITCH = 0.6, 0.45
"""Where they are seen from, in radians: from the front (low y), to the left, and from above (high z)."""

ROOM = 1.45
"""Half the side of the picture, in half sides of the volume: all but the farthest corners of a cube are in it."""

LIGHT = (-0.45, 0.7, -0.55)
"""Direction towards the light: to the left, up, and to the viewer."""

INK = (0.55, 0.70, 0.92)
AMBIENT = 0.3

AT_ONCE = 16


def render(volumes: Tensor, side: int = 64) -> Tensor:
    """Volumes (N, X, Y, Z) uint8, z upwards and solid from 128 on, as shaded pictures (N, 3, side, side) uint8.

    Orthographic, on white; the surface that the viewer meets first, lit by its slope.
    """
    with torch.autocast(volumes.device.type, enabled=False):
        parts = [_render(part, side) for part in volumes.split(AT_ONCE)]
    return torch.cat(parts) if parts else volumes.new_empty(0, 3, side, side)


def _render(volumes: Tensor, side: int) -> Tensor:
    seen = _from_the_viewer(volumes.float() / 255, side)
    solid = seen > 0.5
    met = solid.any(1)
    depth = solid.float().argmax(1, keepdim=True)  # (N, 1, rows, columns): the first on the way
    smooth = F.avg_pool3d(F.pad(seen[:, None], (1,) * 6), 3, stride=1)[:, 0]
    slopes = []
    for axis in (3, 2, 1):  # to the right, down, away from the viewer
        ahead, behind = smooth.roll(-1, axis), smooth.roll(1, axis)
        slopes.append((behind - ahead).gather(1, depth)[:, 0])
    normal = F.normalize(torch.stack([slopes[0], -slopes[1], slopes[2]], dim=-1), dim=-1)
    light = F.normalize(normal.new_tensor(LIGHT), dim=0)
    bright = AMBIENT + (1 - AMBIENT) * (normal @ light).clamp_min(0)
    picture = torch.where(met[:, None], bright[:, None] * bright.new_tensor(INK).view(3, 1, 1), bright.new_ones(()))
    return (picture * 255).round().to(torch.uint8)


def _from_the_viewer(volumes: Tensor, side: int) -> Tensor:
    """The volumes (N, X, Y, Z) in the viewer's axes: (N, depth, rows, columns), the first row on top."""
    ahead = torch.tensor(
        [math.sin(YAW) * math.cos(PITCH), math.cos(YAW) * math.cos(PITCH), -math.sin(PITCH)], device=volumes.device
    )
    right = torch.tensor([math.cos(YAW), -math.sin(YAW), 0.0], device=volumes.device)
    up = torch.linalg.cross(right, ahead)
    line = (torch.arange(side, device=volumes.device) * 2 + 1) / side * ROOM - ROOM
    depth, row, column = torch.meshgrid(line, -line, line, indexing="ij")
    places = depth[..., None] * ahead + row[..., None] * up + column[..., None] * right
    grid = places.flip(-1).expand(len(volumes), -1, -1, -1, -1)  # grid_sample counts axes from the last
    return F.grid_sample(volumes[:, None], grid, align_corners=False)[:, 0]
