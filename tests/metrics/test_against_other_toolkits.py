"""Our distance and our resizes beside those of pytorch-fid and clean-fid themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_gen.metrics import frechet_distance, kernel_distance
from lightning_gen.metrics.resizes import RESIZES


@pytest.fixture(scope="module")
def features() -> tuple[torch.Tensor, torch.Tensor]:
    """Two correlated, shifted sets, wider than most of their directions."""
    generator = torch.Generator().manual_seed(3)
    mix = torch.randn(64, 64, generator=generator)
    a = torch.randn(500, 64, generator=generator) @ mix
    b = torch.randn(400, 64, generator=generator) @ mix * 1.1 + 0.3
    return a, b


def moments(rows: torch.Tensor) -> tuple[np.ndarray, np.ndarray]:
    array = rows.double().numpy()
    return array.mean(0), np.cov(array, rowvar=False)


scipys_hint = pytest.mark.filterwarnings("ignore:The `disp` argument is deprecated")  # their call of sqrtm


@scipys_hint
def test_frechet_distance_is_pytorch_fids(features: tuple[torch.Tensor, torch.Tensor]) -> None:
    score = pytest.importorskip("pytorch_fid.fid_score")
    theirs = score.calculate_frechet_distance(*moments(features[0]), *moments(features[1]))
    assert frechet_distance(*features) == pytest.approx(theirs, rel=1e-6)


@scipys_hint
def test_frechet_distance_is_clean_fids(features: tuple[torch.Tensor, torch.Tensor]) -> None:
    fid = pytest.importorskip("cleanfid.fid")
    theirs = fid.frechet_distance(*moments(features[0]), *moments(features[1]))
    assert frechet_distance(*features) == pytest.approx(theirs, rel=1e-6)


def test_kernel_distance_is_clean_fids_up_to_its_choice_of_subsets(
    features: tuple[torch.Tensor, torch.Tensor],
) -> None:
    fid = pytest.importorskip("cleanfid.fid")
    np.random.seed(0)
    a, b = (rows.double().numpy() for rows in features)
    # the whole of the smaller set in every subset: what is left to chance is which rows of the larger one
    theirs = np.mean([fid.kernel_distance(a, b, num_subsets=50, max_subset_size=400) for _ in range(2)])
    ours = kernel_distance(*features, subsets=100, subset_size=400)
    assert ours["mean"] == pytest.approx(theirs, abs=4 * ours["std"] / 10 + 1e-9)


@pytest.mark.filterwarnings("ignore:'mode' parameter is deprecated")  # clean-fid's call of Pillow
@pytest.mark.parametrize("side", [32, 299, 400])
def test_clean_is_clean_fids_resize_to_the_bit(side: int) -> None:
    resize = pytest.importorskip("cleanfid.resize")
    picture = np.random.default_rng(side).integers(0, 256, (side, side, 3), dtype=np.uint8)
    theirs = resize.build_resizer("clean")(picture)
    ours = RESIZES["clean"](torch.from_numpy(picture).permute(2, 0, 1)[None], 299)[0].permute(1, 2, 0).numpy()
    assert np.array_equal(ours, theirs)
