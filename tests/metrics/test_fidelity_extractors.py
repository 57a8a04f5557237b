"""Equal files, equal pictures: torch-fidelity's features, and torchmetrics' where its resize is asked for.

The weights are random, and most of the files small: each weight is a few thousand numbers, read in overlapping rows.
"""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from lightning_gen.metrics import weights
from lightning_gen.metrics.dinov2 import DINOv2
from lightning_gen.metrics.extractors import file_digest
from lightning_gen.metrics.fidelity_extractors import (
    VGG16,
    CLIPViTB32,
    DINOv2ViTB14,
    InceptionV3Compat,
    PublishedExtractor,
)
from lightning_gen.metrics.resizes import RESIZES

CLASSES = [InceptionV3Compat, CLIPViTB32, DINOv2ViTB14, VGG16]
Reference = Callable[[Tensor], tuple[Tensor, ...]]


def pictures(n: int = 2, size: int = 40) -> Tensor:
    random = torch.Generator().manual_seed(n)
    return torch.randint(0, 256, (n, 3, size, size), generator=random, dtype=torch.uint8)


def overlapping(network: nn.Module) -> dict[str, Tensor]:
    """Weights for a network that was built on the meta device."""
    random = torch.Generator().manual_seed(0)
    state = {}
    for name, weight in network.state_dict().items():
        if weight.ndim == 1:
            # Norms and scales near one, biases near zero; in half precision, as CLIP is published.
            state[name] = (float("bias" not in name) + 0.1 * torch.randn(weight.shape, generator=random)).half()
        else:
            inputs = weight[0].numel()
            numbers = torch.randn(3 * len(weight) + inputs, generator=random) / inputs**0.5
            state[name] = numbers.half().as_strided((len(weight), inputs), (3, 1)).view(weight.shape)
    return state


@pytest.fixture(scope="session")
def files(tmp_path_factory, inception_state) -> dict[str, Path]:
    """A weights file for each network."""
    from torch_fidelity.feature_extractor_clip import CLIPVisual
    from torchvision.models import vgg16

    with torch.device("meta"):
        networks = {
            "clip-vit-b-32": CLIPVisual(512, 224, 12, 768, 32),
            "dinov2-vit-b-14": DINOv2(),
            "vgg16": vgg16(),
        }
    states = {name: overlapping(network) for name, network in networks.items()}
    states["clip-vit-b-32"] |= {"text_projection": torch.zeros(2, 512), "transformer.weight": torch.zeros(3)}
    folder = tmp_path_factory.mktemp("weights")
    for name, state in {"inception-v3-compat": inception_state, **states}.items():
        torch.save(state, folder / name)
    return {name: folder / name for name in weights.PUBLISHED}


@pytest.fixture(scope="session")
def ours(files) -> dict[str, PublishedExtractor]:
    return {cls.name: cls(weights=str(files[cls.name])) for cls in CLASSES}


def inception(path: Path) -> Reference:
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    return FeatureExtractorInceptionV3("inception-v3-compat", ["2048", "logits_unbiased"], str(path))


def clip(path: Path) -> Reference:
    from torch_fidelity.feature_extractor_clip import FeatureExtractorCLIP

    with pytest.MonkeyPatch.context() as patch:  # it opens nothing but archives
        patch.setattr(torch.jit, "load", lambda *_, **__: SimpleNamespace(state_dict=lambda: torch.load(path)))
        return FeatureExtractorCLIP("clip-vit-b-32", ["clip"], str(path))


def dinov2(path: Path) -> Reference:
    from torch_fidelity.feature_extractor_dinov2 import FeatureExtractorDinoV2

    network = DINOv2()
    network.load_state_dict(torch.load(path))
    with pytest.MonkeyPatch.context() as patch:  # it runs the authors' repository, or whatever torch.hub gives it
        patch.setenv("XFORMERS_DISABLED", "1")
        patch.setattr(torch.hub, "load", lambda *_: network)
        return FeatureExtractorDinoV2("dinov2-vit-b-14", ["dinov2"])


def vgg(path: Path) -> Reference:
    from torch_fidelity.feature_extractor_vgg16 import FeatureExtractorVGG16

    return FeatureExtractorVGG16("vgg16", ["fc2_relu"], str(path))


def close(found: Tensor, want: Tensor) -> None:
    """Up to float32's rounding through some hundred layers: ours add in another order, which is faster."""
    torch.testing.assert_close(found, want, rtol=1e-5, atol=3e-5 * float(want.abs().max()))


@pytest.mark.parametrize(
    ("cls", "theirs"),
    list(zip(CLASSES, [inception, clip, dinov2, vgg], strict=True)),
    ids=[cls.name for cls in CLASSES],
)
def test_the_features_are_torch_fidelitys(cls, theirs, ours, files):
    extractor = ours[cls.name]
    found = extractor(pictures())
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        want = theirs(files[cls.name])(pictures())
    assert (found.features.shape, found.features.dtype) == ((2, cls.feature_dim), torch.float32)
    assert (found.features[0] - found.features[1]).abs().max() > 1e-3  # or the comparison says nothing
    close(found.features, want[0])
    assert (found.logits is None) == (cls.logit_dim is None)
    if found.logits is not None:
        assert found.logits.shape == (2, cls.logit_dim)
        close(found.logits, want[1])


def test_with_their_resize_the_features_are_torchmetrics(files):
    from torchmetrics.image.fid import NoTrainInceptionV3

    with torch.random.fork_rng(devices=[]), torch.no_grad():
        theirs = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(files["inception-v3-compat"]))(pictures())
    found = InceptionV3Compat(weights=str(files["inception-v3-compat"]), resize="torchmetrics")(pictures())
    close(found.features, theirs)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.name)
def test_a_resize_is_a_choice_that_changes_the_features(cls, ours, files):
    usual = ours[cls.name]
    assert usual.resize == cls.resizes[0] == "tf1-bilinear"
    for name in cls.resizes[1:]:
        other = cls(weights=str(files[cls.name]), resize=name)
        assert (other.resize, other.weights_digest) == (name, usual.weights_digest)
        assert not torch.allclose(other(pictures()).features, usual(pictures()).features)
        resized = RESIZES[name](pictures(), cls.size)
        assert torch.equal(other(pictures()).features, other.run((resized - other.mean) / other.deviation).features)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.name)
def test_construction_draws_no_random_numbers_and_the_network_is_fixed(cls, files):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    extractor = cls(weights=str(files[cls.name]))
    found = extractor(pictures(1)).features
    assert torch.equal(torch.get_rng_state(), before)
    assert extractor.weights_digest == file_digest(files[cls.name])
    assert not any(weight.requires_grad for weight in extractor.parameters())
    nn.ModuleList([extractor]).train().to(torch.bfloat16)
    assert not any(module.training for module in extractor.modules())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(extractor(pictures(1)).features, found)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.name)
def test_no_pictures_give_no_features(cls, ours):
    assert ours[cls.name](pictures(0)).features.shape == (0, cls.feature_dim)


def test_clip_takes_a_file_of_its_picture_half_alone(ours, files, tmp_path):
    whole = torch.load(files["clip-vit-b-32"])
    torch.save({name: v for name, v in whole.items() if name.startswith("visual.")}, tmp_path / "half")
    found = CLIPViTB32(weights=str(tmp_path / "half"))(pictures()).features
    assert torch.equal(found, ours["clip-vit-b-32"](pictures()).features)
