"""Equal images, equal weights: torch-fidelity's numbers. The weights are random, which the arithmetic does not mind."""

import logging

import pytest
import torch
from torch.utils.data import Dataset

from lightning_gen.metrics import frechet_distance, inception_score, kernel_distance, prdc
from lightning_gen.metrics.extractors import Features
from lightning_gen.metrics.fidelity_extractors import InceptionV3Compat

torch_fidelity = pytest.importorskip("torch_fidelity")
N_FAKE, N_REAL = 20, 24


class Images(Dataset):
    def __init__(self, images: torch.Tensor):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> torch.Tensor:
        return self.images[i]


def smooth_images(seed: int, n: int) -> torch.Tensor:
    """Coloured blobs of varied contrast, (n, 3, 32, 32) uint8: like pictures, neighbours are alike."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randn(n, 3, 4 + 2 * seed, 4 + 2 * seed, generator=random) * (
        30 + 30 * torch.rand(n, 1, 1, 1, generator=random)
    )
    fine = torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear", align_corners=False)
    return (fine + 128).clamp(0, 255).to(torch.uint8)


@pytest.fixture(scope="module")
def weights(tmp_path_factory, inception_state) -> str:
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(inception_state, path)
    return str(path)


@pytest.fixture(scope="module")
def extractor(weights) -> InceptionV3Compat:
    return InceptionV3Compat(weights=weights)


@pytest.fixture(scope="module")
def ours(extractor) -> tuple[Features, Features]:
    return extractor(smooth_images(0, N_FAKE)), extractor(smooth_images(1, N_REAL))


@pytest.fixture(scope="module")
def theirs(weights) -> dict[str, float]:
    logging.getLogger("torch_fidelity").setLevel(logging.ERROR)
    return torch_fidelity.calculate_metrics(
        input1=Images(smooth_images(0, N_FAKE)),
        input2=Images(smooth_images(1, N_REAL)),
        isc=True,
        fid=True,
        kid=True,
        prc=True,
        feature_extractor="inception-v3-compat",
        feature_layer_prc="2048",
        feature_extractor_weights_path=weights,
        kid_subset_size=16,
        batch_size=12,
        cuda=False,
        cache=False,
        save_cpu_ram=True,
        verbose=False,
    )


def test_frechet_distance(ours, theirs):
    fake, real = ours
    got = frechet_distance(fake.features, real.features)
    assert got == pytest.approx(theirs["frechet_inception_distance"], rel=1e-4)


def test_inception_score(ours, theirs):
    got = inception_score(ours[0].logits)
    assert got["mean"] == pytest.approx(theirs["inception_score_mean"], rel=1e-4)
    assert got["std"] == pytest.approx(theirs["inception_score_std"], rel=1e-4)


def test_kernel_distance(ours, theirs):
    fake, real = ours
    got = kernel_distance(fake.features, real.features, subset_size=16)
    assert got["mean"] == pytest.approx(theirs["kernel_inception_distance_mean"], rel=1e-4)
    assert got["std"] == pytest.approx(theirs["kernel_inception_distance_std"], rel=1e-4)


def test_precision_and_recall(ours, theirs):
    fake, real = ours
    got = prdc(real.features, fake.features, k=3)
    assert 0 < theirs["precision"] < 1  # or the comparison says nothing
    assert 0 < theirs["recall"] < 1
    assert got["precision"] == pytest.approx(theirs["precision"], rel=1e-4)
    assert got["recall"] == pytest.approx(theirs["recall"], rel=1e-4)


def test_the_features_are_theirs(extractor, ours):
    assert ours[0].features.shape == (N_FAKE, extractor.feature_dim)
    assert ours[0].logits.shape == (N_FAKE, extractor.logit_dim)
    assert ours[0].features.dtype == ours[0].logits.dtype == torch.float32
    torch.testing.assert_close(
        extractor(smooth_images(0, N_FAKE)[:5]).features, ours[0].features[:5], rtol=1e-4, atol=1e-5
    )
