"""Surfaces of solids, for whatever shows meshes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import trimesh
from skimage.measure import marching_cubes

from lightning_gen import files
from lightning_gen.errors import UserError

LEVEL = 0.5
"""Occupancy at which a solid ends."""

FORMATS = ("obj", "glb")


def surface(occupancy: np.ndarray) -> trimesh.Trimesh:
    """The surface of an occupancy (X, Y, Z) in [0, 1] by marching cubes (Lorensen & Cline 1987), z upwards in a cube
    from -1 to 1; closed also where the solid reaches the border.

    Raises:
        UserError: it is empty.
    """
    if float(occupancy.max()) <= LEVEL:
        raise UserError("the solid is empty: it has no surface")
    around = np.pad(occupancy.astype(np.float32), 1)
    corners, faces, _, _ = marching_cubes(around, LEVEL)
    scale = 2 / np.array(occupancy.shape)
    return trimesh.Trimesh((corners - 0.5) * scale - 1, faces[:, ::-1], process=False)  # counter-clockwise from outside


def write(occupancy: np.ndarray, path: Path) -> None:
    """The surface as `path` says, .obj or .glb, whole or not at all. GLB has y upwards, as its definition asks.

    Raises:
        UserError: another suffix, or an empty solid.
        OSError: the folder cannot be written.
    """
    form = path.suffix.lower().removeprefix(".")
    if form not in FORMATS:
        raise UserError(f"{path}: a mesh is .obj or .glb")
    mesh = surface(occupancy)
    if form == "glb":
        mesh.apply_transform(trimesh.transformations.rotation_matrix(-np.pi / 2, [1, 0, 0]))
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write(path, mesh.export(file_type=form))
