"""What every extractor promises, on `tiny`."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from lightning_gen import registry
from lightning_gen.errors import UserError
from lightning_gen.metrics import extractors
from lightning_gen.metrics.extractors import Extractor, Features, Tiny, file_digest

PACKAGED = Path(extractors.__file__).with_name("tiny.safetensors")


def images(n: int, *shape: int, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (n, *(shape or (3, 32, 32))), generator=random, dtype=torch.uint8)


@pytest.fixture(scope="module")
def tiny() -> Tiny:
    return Tiny()


def test_the_packaged_file_is_small_and_says_what_it_is():
    assert PACKAGED.stat().st_size <= 1_500_000
    with safe_open(PACKAGED, "pt") as file:
        said = file.metadata()
    assert float(said["test_accuracy"]) >= 0.85
    assert len(said["data_sha256"]) == 64
    assert said["date"]


def test_tiny_answers_in_the_promised_shapes(tiny):
    found = tiny(images(5))
    assert isinstance(found, Features)
    assert found.features.shape == (5, tiny.feature_dim)
    assert found.logits.shape == (5, tiny.logit_dim)
    assert found.features.dtype == found.logits.dtype == torch.float32
    assert not found.features.requires_grad
    assert (tiny.name, tiny.resize, tiny.weights_digest) == ("tiny", "antialiased-bicubic", file_digest(PACKAGED))


def test_features_do_not_depend_on_the_batch(tiny):
    all_at_once = tiny(images(70))
    one_by_one = [tiny(part) for part in images(70).split(1)]
    in_blocks = [tiny(part) for part in images(70).split(32)]
    for parts in (one_by_one, in_blocks):
        torch.testing.assert_close(torch.cat([p.features for p in parts]), all_at_once.features, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(torch.cat([p.logits for p in parts]), all_at_once.logits, rtol=1e-5, atol=1e-5)


def test_autocast_training_mode_dtype_and_random_state_change_nothing(tiny):
    want = tiny(images(4)).features
    torch.manual_seed(1)
    state = torch.get_rng_state()
    fresh = Tiny()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(fresh(images(4)).features, want)
    assert torch.equal(torch.get_rng_state(), state)
    around = nn.ModuleList([fresh]).train().to(torch.bfloat16).double()
    assert not fresh.training
    assert not any(module.training for module in fresh.modules())
    assert all(weight.dtype == torch.float32 for weight in around.parameters())
    assert torch.equal(fresh(images(4)).features, want)


def test_grey_is_repeated_and_other_sizes_are_resized(tiny):
    grey = images(3, 1, 32, 32)
    assert torch.equal(tiny(grey).features, tiny(grey.expand(-1, 3, -1, -1).contiguous()).features)
    small = images(3)
    blocks = small.repeat_interleave(4, -1).repeat_interleave(4, -2)  # 128x128
    near, far = tiny(blocks).features - tiny(small).features, tiny(small[:1]).features - tiny(small[1:2]).features
    assert near.abs().mean() < far.abs().mean()
    assert tiny(images(2, 3, 28, 40)).features.shape == (2, tiny.feature_dim)


def test_an_antialiased_reduction_does_not_see_a_checkerboard(tiny):
    checkerboard = (torch.arange(128)[:, None] + torch.arange(128)) % 2 * 255
    flat = torch.full((1, 3, 32, 32), 128, dtype=torch.uint8)
    seen = tiny(checkerboard.to(torch.uint8).expand(1, 3, 128, 128)).features
    torch.testing.assert_close(seen, tiny(flat).features, rtol=0.1, atol=0.1)


def test_no_images_give_no_features(tiny):
    assert tiny(images(0)).features.shape == (0, tiny.feature_dim)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (
            torch.zeros(1, 3, 32, 32),
            TypeError,
            "extractor tiny takes images as uint8 tensors, 0..255, not torch.float32",
        ),
        ([1], TypeError, "not list"),
        (images(1, 4, 32, 32), ValueError, r"\(N, 1 or 3, H, W\), not \(1, 4, 32, 32\)"),
        (images(3, 32, 32), ValueError, r"not \(3, 32, 32\)"),
    ],
)
def test_other_inputs_are_refused(tiny, wrong, error, message):
    with pytest.raises(error, match=message):
        tiny(wrong)


def test_tiny_refuses_a_file_that_is_not_its_own(tmp_path):
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(UserError, match=r"text was not made by benchmarks/tiny/train.py"):
        Tiny(weights=str(tmp_path / "text"))
    with pytest.raises(UserError, match="missing cannot be read"):
        Tiny(weights=str(tmp_path / "missing"))


def test_a_resize_is_chosen_by_name_and_an_unknown_one_refused():
    assert Tiny(resize="antialiased-bicubic").resize == Tiny.resizes[0]
    with pytest.raises(UserError) as caught:
        Tiny(resize="antialiased-bicubik")
    assert str(caught.value) == (
        "unknown resize 'antialiased-bicubik' of extractor tiny; did you mean 'antialiased-bicubic'? "
        "(there is antialiased-bicubic)"
    )


@pytest.mark.parametrize("name", registry.names("extractors"))
def test_what_a_registered_extractor_is_can_be_read_off_its_class(name):
    cls = registry.load(name, "extractors")
    assert issubclass(cls, Extractor)
    assert cls.name == name
    assert cls.feature_dim > 0
    assert cls.logit_dim is None or cls.logit_dim > 0
    assert cls.resizes
    assert len(cls.__doc__.splitlines()[0]) < 120
