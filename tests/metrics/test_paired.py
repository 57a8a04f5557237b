"""PSNR and SSIM by hand, LPIPS against torch-fidelity's; VGG16's weights are random, those above published."""

import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torchvision

from lightning_gen import scoring
from lightning_gen.errors import UserError
from lightning_gen.metrics import LPIPS, paired, psnr, ssim
from lightning_gen.metrics.extractors import file_digest


def images(seed: int, *shape: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape or (5, 3, 24, 20), generator=random, dtype=torch.uint8)


def noisy(clean: torch.Tensor, deviation: float, seed: int = 9) -> torch.Tensor:
    noise = deviation * torch.randn(clean.shape, generator=torch.Generator().manual_seed(seed))
    return (clean + noise).round().clamp(0, 255).to(torch.uint8)


# PSNR


def test_psnr_of_a_constant_error():
    a = images(0).clamp(max=250)
    assert psnr(a, a + 5) == pytest.approx(20 * math.log10(255 / 5), rel=1e-6)
    assert psnr(a, a) == math.inf


def test_psnr_is_a_mean_over_images_not_that_of_the_set():
    a = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    b = torch.stack([torch.full((1, 4, 4), value, dtype=torch.uint8) for value in (1, 100)])
    want = (20 * math.log10(255) + 20 * math.log10(2.55)) / 2
    assert psnr(a, b) == pytest.approx(want, rel=1e-6)


def test_the_border_is_left_out():
    a = images(0)
    b = a.clone()
    b[..., 0, :] ^= 255
    b[..., 5, 5] ^= 16  # one pixel inside, in each channel
    error = 16**2 / (20 * 16)
    assert psnr(a, b, crop=2) == pytest.approx(10 * math.log10(255**2 / error), rel=1e-6)
    assert psnr(a, b) < psnr(a, b, crop=2)
    assert ssim(a, b) < ssim(a, b, crop=2)


def test_luminance_goes_from_16_to_235_and_green_counts_most():
    colours = [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 255, 0), (0, 0, 255)]
    pixels = torch.tensor(colours, dtype=torch.uint8).view(5, 3, 1, 1)
    got = paired.luminance(pixels).flatten().tolist()
    assert got == pytest.approx([16, 235, 81.481, 144.553, 40.966])
    grey = images(1, 4, 1, 16, 16).expand(-1, 3, -1, -1)
    # of grey pictures the luminance has 219 levels where the pictures have 255
    want = psnr(grey, noisy(grey[:, :1], 10).expand(-1, 3, -1, -1)) + 20 * math.log10(255 / 219)
    assert psnr(grey, noisy(grey[:, :1], 10).expand(-1, 3, -1, -1), luma=True) == pytest.approx(want, rel=1e-6)


# SSIM


def ssim_by_definition(a: torch.Tensor, b: torch.Tensor) -> float:
    """Equations 13 to 16, window by window."""
    position = torch.arange(11).double() - 5
    weights = torch.exp(-(position[:, None] ** 2 + position**2) / (2 * 1.5**2))
    weights = (weights / weights.sum()).flatten()
    x, y = (image.double().unfold(2, 11, 1).unfold(3, 11, 1).flatten(-2) for image in (a, b))
    mean_x, mean_y = x @ weights, y @ weights
    spread_x, spread_y = (x - mean_x[..., None]) ** 2 @ weights, (y - mean_y[..., None]) ** 2 @ weights
    together = ((x - mean_x[..., None]) * (y - mean_y[..., None])) @ weights
    c1, c2 = 2.55**2, 7.65**2
    value = (2 * mean_x * mean_y + c1) * (2 * together + c2)
    return float((value / ((mean_x**2 + mean_y**2 + c1) * (spread_x + spread_y + c2))).mean())


@pytest.mark.parametrize("channels", [1, 3])
def test_ssim_is_that_of_its_definition(channels):
    clean = images(2, 40, channels, 17, 15)  # more images than are computed at once
    assert ssim(clean, noisy(clean, 40)) == pytest.approx(ssim_by_definition(clean, noisy(clean, 40)), rel=1e-6)
    assert ssim(clean, clean) == pytest.approx(1)


def test_ssim_falls_with_noise_and_knows_inversion():
    ramp = torch.arange(32, dtype=torch.uint8).mul(8).expand(1, 3, 32, 32)
    assert 1 > ssim(ramp, noisy(ramp, 5)) > ssim(ramp, noisy(ramp, 30)) > 0
    assert ssim(ramp, 255 - ramp) < 0


# LPIPS


@pytest.fixture(scope="module")
def backbone(tmp_path_factory) -> Path:
    """Random weights of VGG16's convolutions; what stands above them is not looked at."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        with torch.device("meta"):
            shapes = torchvision.models.vgg16().features.state_dict()
        # scaled as He et al. do: the signal neither dies nor explodes on its way
        state = {
            f"features.{name}": torch.randn(value.shape) * (2 / value[0].numel()) ** 0.5
            if value.ndim == 4
            else torch.zeros(value.shape)
            for name, value in shapes.items()
        }
    path = tmp_path_factory.mktemp("weights") / "vgg16.pth"
    torch.save(state, path)
    return path


@pytest.fixture(scope="module")
def lpips(backbone) -> LPIPS:
    return LPIPS(backbone=str(backbone))


def test_lpips_is_torch_fidelitys(lpips, backbone, monkeypatch):
    from torch_fidelity import sample_similarity_lpips as theirs

    features = torchvision.models.vgg16().features
    features.load_state_dict({name.removeprefix("features."): v for name, v in torch.load(backbone).items()})
    linear = torch.load(paired._linear_weights(None), map_location="cpu", weights_only=True)
    monkeypatch.setattr(theirs, "torchvision_load_pretrained_vgg16", lambda: SimpleNamespace(features=features))
    monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: linear)
    network = theirs.SampleSimilarityLPIPS("lpips-vgg16")
    a = images(0, 4, 3, 40, 32)
    b = noisy(a, torch.tensor([5.0, 20, 60, 120]).view(4, 1, 1, 1))
    with torch.no_grad():
        want = network(a, b).flatten()
    torch.testing.assert_close(lpips(a, b), want, rtol=1e-4, atol=1e-6)
    assert (want.diff() > 0).all()


def test_lpips_of_equal_images_is_zero_and_the_order_does_not_matter(lpips):
    a, b = images(0, 2, 3, 16, 16), images(1, 2, 3, 16, 16)
    assert lpips(a, a).tolist() == [0, 0]
    torch.testing.assert_close(lpips(a, b), lpips(b, a))
    grey = a[:, :1]
    torch.testing.assert_close(lpips(grey, b[:, :1]), lpips(grey.expand(-1, 3, -1, -1), b[:, :1].expand(-1, 3, -1, -1)))


def test_lpips_ignores_autocast_and_training_and_draws_no_random_numbers(lpips, backbone):
    a, b = images(0, 2, 3, 16, 16), images(1, 2, 3, 16, 16)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(torch.nn.ModuleList([lpips]).train()[0](a, b), lpips(a, b))
    before = torch.get_rng_state()
    fresh = LPIPS(backbone=str(backbone))
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(p.requires_grad for p in fresh.parameters())


def test_lpips_weights_can_be_named(lpips, backbone, tmp_path, monkeypatch):
    linear = torch.load(paired._linear_weights(None), map_location="cpu", weights_only=True)
    named = tmp_path / "weights-vgg16-lpips.pth"
    torch.save({name: 2 * value for name, value in linear.items()}, named)
    a, b = images(0, 2, 3, 16, 16), images(1, 2, 3, 16, 16)
    torch.testing.assert_close(LPIPS(str(named), str(backbone))(a, b), 2 * lpips(a, b))
    monkeypatch.setenv("LGEN_LPIPS_WEIGHTS", str(named))
    monkeypatch.setenv("LGEN_VGG16_WEIGHTS", str(backbone))
    torch.testing.assert_close(LPIPS()(a, b), 2 * lpips(a, b))


def test_other_weights_of_either_network_have_another_passport(backbone, tmp_path, monkeypatch):
    from torchvision.utils import save_image

    for side in ("a", "b"):
        (tmp_path / side).mkdir()
        save_image(images(ord(side), 3, 16, 16) / 255, tmp_path / side / "0.png")
    other, linear = tmp_path / "other.pth", tmp_path / "linear.pth"
    torch.save({name: 2 * value for name, value in torch.load(backbone).items()}, other)
    published = torch.load(paired._linear_weights(None), map_location="cpu", weights_only=True)
    torch.save({name: 2 * value for name, value in published.items()}, linear)
    found = []
    for vgg16, layers in ((backbone, ""), (other, ""), (backbone, linear)):
        monkeypatch.setenv("LGEN_VGG16_WEIGHTS", str(vgg16))
        monkeypatch.setenv("LGEN_LPIPS_WEIGHTS", str(layers))
        found.append(scoring.score_pairs(str(tmp_path / "a"), str(tmp_path / "b"), ["lpips", "psnr"]).passport)
    assert len({passport.digest() for passport in found}) == 3
    assert found[-1].weights_digest == f"{file_digest(backbone)}+{file_digest(linear)}"
    alone = scoring.score_pairs(str(tmp_path / "a"), str(tmp_path / "b"), ["psnr"]).passport
    assert (alone.extractor, alone.weights_digest) == ("none", "")


def test_missing_and_foreign_lpips_weights_are_named(backbone, tmp_path, monkeypatch):
    monkeypatch.setenv("LGEN_LPIPS_WEIGHTS", "/no/such")
    with pytest.raises(UserError, match=r"weights of LPIPS: no file /no/such \(LGEN_LPIPS_WEIGHTS\)"):
        LPIPS(backbone=str(backbone))
    monkeypatch.delenv("LGEN_LPIPS_WEIGHTS")
    with pytest.raises(UserError, match="no file /no/such"):
        LPIPS(backbone="/no/such")
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(UserError, match=r"text is not torchvision's VGG16") as caught:
        LPIPS(backbone=str(tmp_path / "text"))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="does not hold its linear layers"):
        LPIPS(weights=str(backbone), backbone=str(backbone))


def test_without_a_backbone_the_message_says_which_file_to_put_where(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv("LGEN_VGG16_WEIGHTS", raising=False)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(UserError, match=r"(?s)vgg16-397923af\.pth.*LGEN_VGG16_WEIGHTS") as caught:
        LPIPS()
    assert str(tmp_path / "torch" / "hub" / "checkpoints") in str(caught.value)


# Mistakes


@pytest.mark.parametrize("score", [psnr, ssim])
@pytest.mark.parametrize(
    ("a", "b", "options", "error", "message"),
    [
        (torch.zeros(1, 3, 16, 16), images(0, 1, 3, 16, 16), {}, TypeError, "uint8 tensors, 0..255, not torch.float32"),
        (images(0, 1, 3, 16, 16), [1], {}, TypeError, "not list"),
        (images(0, 2, 3, 16, 16), images(0, 1, 3, 16, 16), {}, ValueError, "of one shape"),
        (images(0, 1, 2, 16, 16), images(0, 1, 2, 16, 16), {}, ValueError, r"\(N, 1 or 3, H, W\)"),
        (images(0, 0, 3, 16, 16), images(0, 0, 3, 16, 16), {}, UserError, "0 images"),
        (images(0, 1, 3, 16, 16), images(0, 1, 3, 16, 16), {"crop": 8}, UserError, "16x16 pixels, crop 8"),
        (images(0, 1, 3, 16, 16), images(0, 1, 3, 16, 16), {"crop": -1}, UserError, "crop -1"),
        (images(0, 1, 1, 16, 16), images(0, 1, 1, 16, 16), {"luma": True}, UserError, "one channel"),
    ],
)
def test_mistakes_are_named(score, a, b, options, error, message):
    with pytest.raises(error, match=message):
        score(a, b, **options)


def test_images_smaller_than_a_window_are_refused(lpips):
    small = images(0, 1, 3, 10, 20)
    with pytest.raises(UserError, match="at least 11x11"):
        ssim(small, small)
    with pytest.raises(UserError, match="at least 16x16, not 10x20"):
        lpips(small, small)
