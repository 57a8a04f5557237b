"""Where the weights of published networks come from, and that reading them runs no code."""

import re
from pathlib import Path

import pytest
import torch

from lightning_gen import registry
from lightning_gen.errors import UserError
from lightning_gen.metrics import weights

NAMES = list(weights.PUBLISHED)
NAME = "vgg16"
VARIABLE = "LGEN_VGG16_WEIGHTS"


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path) -> Path:
    """An empty torch folder, no variable, and a network that is not there."""

    def refuse(*_, **__):
        raise OSError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    for about in weights.PUBLISHED.values():
        monkeypatch.delenv(about.variable, raising=False)
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    return tmp_path / "torch" / "hub" / "checkpoints"


@pytest.mark.parametrize("name", NAMES)
def test_without_weights_two_lines_say_what_to_do(name, offline):
    cls = registry.load(name, "extractors")
    assert not cls.at_hand()
    with pytest.raises(UserError) as caught:
        cls()
    message, about = str(caught.value), weights.PUBLISHED[name]
    assert message.count("\n") == 1
    for part in (name, about.file, str(offline), "--metrics.weights", about.variable, about.url, "not known"):
        assert part in message


def test_every_network_has_its_own_variable_and_file():
    assert len({about.variable for about in weights.PUBLISHED.values()}) == len(NAMES)
    assert len({about.file for about in weights.PUBLISHED.values()}) == len(NAMES)
    assert all(re.fullmatch(r"LGEN_[A-Z0-9]+_WEIGHTS", about.variable) for about in weights.PUBLISHED.values())
    assert all(re.fullmatch(r"[0-9a-f]{8,64}", about.sha256) for about in weights.PUBLISHED.values())


def test_the_files_are_those_of_the_libraries():
    from torch_fidelity import feature_extractor_clip, feature_extractor_inceptionv3
    from torchvision.models import VGG16_Weights

    assert weights.PUBLISHED["clip-vit-b-32"].url == feature_extractor_clip.MODEL_URLS["clip-vit-b-32"]
    assert weights.PUBLISHED["inception-v3-compat"].url == feature_extractor_inceptionv3.URL_INCEPTION_V3
    assert weights.PUBLISHED["vgg16"].url == VGG16_Weights.IMAGENET1K_V1.url
    for name in ("inception-v3-compat", "vgg16"):  # torch.hub's convention
        assert weights.PUBLISHED[name].sha256.startswith(Path(weights.PUBLISHED[name].file).stem.rpartition("-")[2])


def test_the_flag_wins_over_the_variable_over_the_folder(offline, monkeypatch, tmp_path):
    flag, variable, cached = tmp_path / "flag", tmp_path / "variable", offline / weights.PUBLISHED[NAME].file
    offline.mkdir(parents=True)
    for path in (flag, variable, cached):
        path.write_bytes(b"")
    assert weights.find(NAME) == cached
    assert registry.load(NAME, "extractors").at_hand()
    monkeypatch.setenv(VARIABLE, str(variable))
    assert weights.find(NAME) == variable
    assert weights.find(NAME, str(flag)) == flag


def test_a_named_file_that_is_missing_is_an_error(monkeypatch):
    with pytest.raises(UserError, match=r"no file /no/such \(--metrics.weights\)"):
        weights.find(NAME, "/no/such")
    monkeypatch.setenv(VARIABLE, "/nor/this")
    with pytest.raises(UserError, match=rf"no file /nor/this \({VARIABLE}\)"):
        weights.find(NAME)


@pytest.mark.parametrize("name", NAMES)
def test_a_download_lands_in_torchs_folder_and_is_checked(name, offline, monkeypatch):
    asked = {}

    def serve(url, path, hash_prefix, progress):
        asked.update(url=url, digest=hash_prefix)
        Path(path).write_bytes(b"weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", serve)
    about = weights.PUBLISHED[name]
    assert weights.find(name) == offline / about.file
    assert asked == {"url": about.url, "digest": about.sha256}


class Boom:
    def __reduce__(self):
        return (exec, ("raise SystemExit('code in a weights file ran')",))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "content",
    [b"not a checkpoint", {"a": torch.zeros(1)}, {"a": Boom()}, [3]],
    ids=["text", "other weights", "code", "no state_dict"],
)
def test_a_file_of_something_else_is_refused_and_runs_no_code(tmp_path, name, content):
    path = tmp_path / "weights.pth"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(UserError) as caught:
        registry.load(name, "extractors")(weights=str(path))
    assert str(caught.value).startswith(
        f"weights of extractor {name}: {path} is not {weights.PUBLISHED[name].network} ("
    )
    assert "\n" not in str(caught.value)
    assert "weights_only" not in str(caught.value)  # torch advises to load such a file as code


def test_half_precision_is_read_as_float32_and_counters_stay_whole(tmp_path):
    torch.save({"a": torch.ones(2).half(), "n": torch.tensor(3)}, tmp_path / "weights.pt")
    state = weights.read(NAME, tmp_path / "weights.pt")
    assert (state["a"].dtype, state["n"].dtype) == (torch.float32, torch.int64)


@pytest.mark.filterwarnings("ignore:.torch.jit.s.* is deprecated:FutureWarning")  # to write one; reading is ours
def test_a_torchscript_archive_is_opened_only_if_it_is_the_published_one(tmp_path, monkeypatch):
    path = tmp_path / "archive.pt"
    torch.jit.script(torch.nn.Linear(2, 1).half()).save(path)
    with pytest.raises(UserError, match=r"is not OpenAI's CLIP ViT-B/32 \(ValueError: a TorchScript archive, which"):
        registry.load("clip-vit-b-32", "extractors")(weights=str(path))
    published = weights.PUBLISHED["clip-vit-b-32"]._replace(sha256=weights.file_digest(path, 64))
    monkeypatch.setitem(weights.PUBLISHED, "clip-vit-b-32", published)
    state = weights.read("clip-vit-b-32", path)
    assert {name: value.dtype for name, value in state.items()} == {"weight": torch.float32, "bias": torch.float32}
