"""Each resize is the one that its name says, and a part of no other."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torchmetrics.image import fid

from lightning_gen.errors import UserError
from lightning_gen.metrics.resizes import RESIZES, check_resize

SHAPES = [(32, 32), (28, 40), (75, 50), (299, 299), (400, 310), (1, 1)]
SIZE = 75


def pictures(height: int, width: int, n: int = 2) -> torch.Tensor:
    random = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (n, 3, height, width), generator=random, dtype=torch.uint8)


@pytest.mark.parametrize("shape", SHAPES)
def test_tf1_bilinear_is_torch_fidelitys(shape):
    want = interpolate_bilinear_2d_like_tensorflow1x(pictures(*shape).float(), (SIZE, SIZE), align_corners=False)
    assert torch.equal(RESIZES["tf1-bilinear"](pictures(*shape), SIZE), want)


def test_tf1_bilinear_reads_every_pixel_at_its_index_times_the_reduction():
    assert torch.equal(
        RESIZES["tf1-bilinear"](pictures(64, 64), 16), pictures(64, 64)[..., ::4, ::4].float()
    )  # that is: three quarters of the rows are never looked at


@pytest.mark.parametrize("shape", SHAPES)
def test_clean_is_pillows_bicubic_of_each_channel_as_floats(shape):
    found = RESIZES["clean"](pictures(*shape), SIZE)
    for picture, resized in zip(pictures(*shape), found, strict=True):
        for channel, made in zip(picture, resized, strict=True):
            image = (
                Image.fromarray(channel.numpy()).convert("F").resize((SIZE, SIZE), resample=Image.Resampling.BICUBIC)
            )
            assert np.array_equal(made.numpy(), np.clip(np.asarray(image), 0, 255))


def test_clean_does_not_round_and_stays_between_black_and_white():
    edges = (pictures(40, 40) > 127).to(torch.uint8) * 255
    found = RESIZES["clean"](edges, SIZE)
    assert (found.min(), found.max()) == (0, 255)
    assert not torch.equal(found, found.round())


@pytest.mark.parametrize("shape", SHAPES)
def test_torchmetrics_is_what_its_fid_gives_the_network(shape, monkeypatch):
    seen = []

    class First(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            raise InterruptedError

    # Its forward resizes, scales and runs; a first layer that ends it shows what would have gone in.
    monkeypatch.setattr(fid.NoTrainInceptionV3, "__init__", lambda self: torch.nn.Module.__init__(self))
    network = fid.NoTrainInceptionV3()
    network.features_list, network.use_antialias, network.INPUT_IMAGE_SIZE = ["2048"], True, SIZE
    network.Conv2d_1a_3x3 = First()
    with pytest.raises(InterruptedError):
        network(pictures(*shape))
    assert torch.equal((RESIZES["torchmetrics"](pictures(*shape), SIZE) - 128) / 128, seen[0])


@pytest.mark.parametrize("name", RESIZES)
class TestEvery:
    def test_keeps_the_values_of_pictures_that_have_the_size(self, name):
        same = RESIZES[name](pictures(SIZE, SIZE), SIZE)
        assert torch.equal(same, pictures(SIZE, SIZE).float())

    def test_gives_float32_in_the_range_of_bytes(self, name):
        for shape in SHAPES:
            found = RESIZES[name](pictures(*shape), SIZE)
            assert (found.shape, found.dtype) == ((2, 3, SIZE, SIZE), torch.float32)
            assert found.isfinite().all()
            assert found.min() >= 0
            assert found.max() <= 255

    def test_leaves_its_input_alone_and_treats_each_picture_by_itself(self, name):
        given = pictures(50, 60, n=3)
        together = RESIZES[name](given, SIZE)
        assert torch.equal(given, pictures(50, 60, n=3))
        assert torch.equal(together, torch.cat([RESIZES[name](one, SIZE) for one in given.split(1)]))

    def test_takes_no_pictures_and_grey_ones_that_were_expanded(self, name):
        assert RESIZES[name](pictures(20, 20, n=0), SIZE).shape == (0, 3, SIZE, SIZE)
        grey = pictures(20, 30)[:, :1]
        expanded = RESIZES[name](grey.expand(-1, 3, -1, -1), SIZE)
        assert torch.equal(expanded, RESIZES[name](grey.repeat(1, 3, 1, 1), SIZE))


def test_they_differ_from_each_other():
    found = [resize(pictures(100, 100), SIZE) for resize in RESIZES.values()]
    for i, one in enumerate(found):
        assert all((one - other).abs().mean() > 1 for other in found[:i])


def test_an_unknown_one_is_refused_with_the_nearest_name():
    assert check_resize("clean") == "clean"
    with pytest.raises(UserError, match=r"^unknown resize 'claen'; did you mean 'clean'\? \(there is tf1-bilinear, cl"):
        check_resize("claen")
    with pytest.raises(UserError, match=r"^unknown resize 'clean' of extractor x \(there is tf1-bilinear\)$"):
        check_resize("clean", ["tf1-bilinear"], "extractor x")
