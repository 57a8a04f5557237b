"""Distances, coverage and surfaces against closed forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from lgen_voxel import meshes, scores

from lightning_gen.errors import UserError
from lightning_gen.testing import check_metric


def boxes(*heights: int) -> torch.Tensor:
    solids = torch.zeros(len(heights), 8, 8, 8, dtype=torch.bool)
    for solid, height in zip(solids, heights, strict=True):
        solid[2:6, 2:6, :height] = True
    return solids


def test_the_metric_keeps_the_contract() -> None:
    check_metric("solids")


def test_the_distance_is_one_minus_intersection_over_union() -> None:
    apart = scores.distances(boxes(2, 4), boxes(4, 8, 1))
    assert apart.numpy() == pytest.approx(np.array([[1 / 2, 3 / 4, 1 / 2], [0, 1 / 2, 3 / 4]]))
    assert scores.distances(boxes(0), boxes(3)).item() == 1
    torch.manual_seed(0)
    a, b = torch.rand(300, 4, 4, 4) < 0.3, torch.rand(5, 4, 4, 4) < 0.3
    shared = (a[:, None] & b[None]).flatten(2).sum(2)
    either = (a[:, None] | b[None]).flatten(2).sum(2)
    assert scores.distances(a, b).numpy() == pytest.approx((1 - shared / either).numpy(), abs=1e-6)


def test_coverage_and_matching_distance_of_sets_that_are_known() -> None:
    held_out = boxes(2, 4, 8)
    assert scores.compared(held_out, held_out) == {"coverage": 1.0, "mmd": 0.0, "whole": 1.0}
    collapsed = scores.compared(boxes(4, 4, 4), held_out)
    assert collapsed["coverage"] == pytest.approx(1 / 3)
    assert collapsed["mmd"] == pytest.approx((1 / 2 + 0 + 1 / 2) / 3)


def test_how_whole_a_solid_is() -> None:
    assert scores.largest_piece(boxes(3)[0].numpy()) == 1
    two = boxes(3)[0]
    two[2:6, 2:6, 7:] = True
    assert scores.largest_piece(two.numpy()) == 3 / 4
    assert scores.largest_piece(boxes(0)[0].numpy()) == 0
    touching = torch.zeros(4, 4, 4, dtype=torch.bool)
    touching[0, 0, 0] = touching[1, 1, 1] = True
    assert scores.largest_piece(touching.numpy()) == 1, "by a corner"


def test_the_surface_of_a_ball_is_closed_and_encloses_its_volume() -> None:
    line = (np.arange(32) * 2 + 1) / 32 - 1
    x, y, z = np.meshgrid(line, line, line, indexing="ij")
    smooth = np.clip((0.7 - np.sqrt(x**2 + y**2 + z**2)) * 16 + 0.5, 0, 1)
    mesh = meshes.surface(smooth)
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(4 / 3 * np.pi * 0.7**3, rel=0.02)
    assert mesh.centroid == pytest.approx([0, 0, 0], abs=0.01)


def test_a_solid_that_reaches_the_border_is_closed_too() -> None:
    mesh = meshes.surface(np.ones((8, 8, 8)))
    assert mesh.is_watertight
    assert mesh.volume == pytest.approx(8, rel=0.1)


@pytest.mark.parametrize("form", meshes.FORMATS)
def test_a_mesh_that_is_written_is_read_again_with_its_top_up(form: str, tmp_path: Path) -> None:
    meshes.write(boxes(6)[0].numpy().astype(np.float32), tmp_path / "new" / f"box.{form}")
    mesh = trimesh.load(tmp_path / "new" / f"box.{form}", force="mesh")
    up = 2 if form == "obj" else 1
    low, high = mesh.bounds
    assert low[up] == pytest.approx(-1, abs=0.2)
    assert high[up] == pytest.approx(0.5, abs=0.05)
    assert mesh.volume == pytest.approx(1 * 1 * 1.5, rel=0.2)


def test_nothing_has_no_surface_and_other_files_are_no_meshes(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the solid is empty"):
        meshes.surface(np.zeros((8, 8, 8)))
    with pytest.raises(UserError, match=r"a mesh is \.obj or \.glb"):
        meshes.write(np.ones((8, 8, 8)), tmp_path / "a.stl")
    assert not list(tmp_path.iterdir())
