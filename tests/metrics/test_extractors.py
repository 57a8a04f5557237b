"""What every extractor promises, on `tiny`; and where Inception's weights come from."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from lightning_gen.errors import UserError
from lightning_gen.metrics import weights
from lightning_gen.metrics.extractors import Features, InceptionV3Compat, Tiny, file_digest

PACKAGED = Path(weights.__file__).with_name("tiny.safetensors")


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


# Inception's weights


@pytest.fixture
def offline(monkeypatch, tmp_path) -> Path:
    """An empty torch folder, no variable, and a network that is not there."""

    def refuse(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv(weights.VARIABLE, raising=False)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return tmp_path / "torch" / "hub" / "checkpoints"


def test_without_weights_two_lines_say_what_to_do(offline):
    with pytest.raises(UserError) as caught:
        InceptionV3Compat()
    message = str(caught.value)
    assert message.count("\n") == 1
    for part in (
        weights.FILE,
        str(offline),
        "--metrics.weights",
        "LGEN_INCEPTION_WEIGHTS",
        "Name or service not known",
    ):
        assert part in message


def test_the_flag_wins_over_the_variable_over_the_folder(offline, monkeypatch, tmp_path):
    flag, variable, cached = tmp_path / "flag", tmp_path / "variable", offline / weights.FILE
    offline.mkdir(parents=True)
    for path in (flag, variable, cached):
        path.write_bytes(b"")
    assert weights.find_inception() == cached
    monkeypatch.setenv(weights.VARIABLE, str(variable))
    assert weights.find_inception() == variable
    assert weights.find_inception(str(flag)) == flag


def test_a_named_file_that_is_missing_is_an_error(offline, monkeypatch):
    with pytest.raises(UserError, match=r"no file /no/such \(--metrics.weights\)"):
        weights.find_inception("/no/such")
    monkeypatch.setenv(weights.VARIABLE, "/nor/this")
    with pytest.raises(UserError, match=r"no file /nor/this \(LGEN_INCEPTION_WEIGHTS\)"):
        weights.find_inception()


def test_a_download_lands_in_torchs_folder_and_is_checked(offline, monkeypatch):
    asked = {}

    def serve(url, path, hash_prefix, progress):
        asked.update(url=url, digest=hash_prefix)
        Path(path).write_bytes(b"weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", serve)
    assert weights.find_inception() == offline / weights.FILE
    assert asked == {"url": weights.URL, "digest": weights.SHA256}
    assert weights.SHA256.startswith("6726825d")  # the name of the file says so


class Boom:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code in a weights file ran')",))


@pytest.mark.parametrize(
    "content", [b"not a checkpoint", {"a": torch.zeros(1)}, {"a": Boom()}], ids=["text", "other", "code"]
)
def test_a_file_that_is_not_inception_is_refused_and_runs_no_code(tmp_path, content):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError, match=r"weights.pth is not torch-fidelity's Inception v3") as caught:
        InceptionV3Compat(weights=str(path))
    assert "\n" not in str(caught.value)


def test_constructing_inception_draws_no_random_numbers(tmp_path, inception_state):
    path = tmp_path / "weights.pth"
    torch.save(inception_state, path)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    extractor = InceptionV3Compat(weights=str(path))
    assert torch.equal(torch.get_rng_state(), before)
    assert extractor.weights_digest == file_digest(path)
    assert json.dumps([extractor.name, extractor.resize]) == '["inception-v3-compat", "tf1-bilinear"]'
