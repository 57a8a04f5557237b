"""A model as a file for other programs: the same pictures, from every model that draws in one pass."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import save_file

from lightning_gen import checkpoints, registry
from lightning_gen.cli import main
from lightning_gen.errors import UserError
from lightning_gen.module import ORIGIN, GenerativeModule
from lightning_gen.sharing import graph, weights

OURS = [part.name for part in registry.parts("models") if part.distribution == registry.OURS]
PIXEL_AFTER_PIXEL = [name for name in OURS if registry.load(name).completes or name == "vq-vae"]


def built(name: str) -> GenerativeModule:
    """A small one, with weights that are no beginner's: what starts at zero, such as a gate, is moved."""
    cls = registry.load(name)
    torch.manual_seed(0)
    model: GenerativeModule = cls(**(cls.presets["quick"] | cls.checked)).eval()
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn_like(weight)
    model.clock.images = 10**7  # progan is grown
    model.origin = {"model": name, "distribution": registry.OURS, "version": "1"}
    return model


def content(model: GenerativeModule) -> dict[str, object]:
    return {"state_dict": model.state_dict(), "hyper_parameters": dict(model.hparams), ORIGIN: model.origin}


def of_pictures(model: GenerativeModule, given: dict[str, torch.Tensor]) -> dict[str, torch.Tensor] | None:
    """The inputs of a graph as the condition of a model that translates; others draw their own."""
    return (
        {model.views[0] if name == "pictures" else name: rows for name, rows in given.items()}
        if model.translates
        else None
    )


@pytest.mark.parametrize("name", [name for name in OURS if name not in PIXEL_AFTER_PIXEL])
def test_onnx_draws_what_the_model_draws(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = built(name)
    before = {key: value.clone() for key, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    written = graph.write(model, "onnx", tmp_path / "it.onnx")
    assert written.difference <= 1e-4
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items() if key in before)
    # another number of images than it was made and checked with, against `sample` itself
    session = onnxruntime.InferenceSession(tmp_path / "it.onnx")
    given = graph.inputs(model, 7, seed=3)
    (images,) = session.run(None, {key: value.numpy() for key, value in given.items()})
    condition = of_pictures(model, given)
    drawn = model.sample(7, seed=3, condition=condition).clamp(-1, 1)
    assert torch.allclose(torch.from_numpy(images), drawn, rtol=0, atol=1e-4)
    assert images.std() > 0
    assert abs(images).max() <= 1
    about = json.loads(session.get_modelmeta().custom_metadata_map["lightning_gen"])
    assert about["model"] == name


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize("name", [name for name in OURS if name not in PIXEL_AFTER_PIXEL])
def test_torchscript_draws_what_the_model_draws(name: str, tmp_path: Path) -> None:
    model = built(name)
    assert graph.write(model, "torchscript", tmp_path / "it.pt").difference <= 1e-4
    given = graph.inputs(model, 7, seed=3)
    images = torch.jit.load(str(tmp_path / "it.pt"))(*given.values())
    condition = of_pictures(model, given)
    drawn = model.sample(7, seed=3, condition=condition).clamp(-1, 1)
    assert torch.allclose(images, drawn, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", PIXEL_AFTER_PIXEL)
def test_a_model_that_draws_pixel_after_pixel_says_that_it_has_no_graph(name: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no one pass to export"):
        graph.write(built(name), "onnx", tmp_path / "it.onnx")
    assert not list(tmp_path.iterdir())


def test_a_model_that_reads_sentences_says_that_no_graph_does(tmp_path: Path) -> None:
    model = built("gan")
    model.captioned = True  # type: ignore[misc]
    with pytest.raises(UserError, match="reads sentences, which no graph does"):
        graph.write(model, "onnx", tmp_path / "it.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", OURS)
def test_safetensors_hold_the_whole_model(name: str, tmp_path: Path) -> None:
    model = built(name)
    weights.write(tmp_path / "it.safetensors", content(model))
    again, origin = checkpoints.load_model(tmp_path / "it.safetensors")
    assert origin == model.origin
    assert dict(again.hparams) == dict(model.hparams)
    for key, value in model.state_dict().items():
        other = again.state_dict()[key]
        assert torch.equal(value, other) if isinstance(value, torch.Tensor) else value == other, key


def test_a_graph_that_draws_other_images_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = built("gan")

    def other(self: GenerativeModule) -> GenerativeModule:
        copied = GenerativeModule.exportable(self)
        next(copied.generator_ema.parameters()).data.mul_(1.5)
        return copied

    monkeypatch.setattr(type(model), "exportable", other)
    (tmp_path / "it.pt").write_text("of before")
    with pytest.raises(UserError, match="draws other images, by up to 0\\."):
        graph.write(model, "torchscript", tmp_path / "it.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["it.pt"]
    assert (tmp_path / "it.pt").read_text() == "of before"


def lgen(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / "gan.ckpt"
    checkpoints.AtomicCheckpointIO().save_checkpoint(content(built("gan")), path)
    return path


def test_every_verb_that_reads_a_checkpoint_reads_safetensors(checkpoint: Path, tmp_path: Path) -> None:
    file = tmp_path / "there" / "gan.safetensors"
    assert lgen("export", checkpoint, "--out", file).exit_code == 0
    for verb in (["sample", "--n", 4, "--grid"], ["interpolate", "--png"]):
        pictures = []
        for source in (checkpoint, file):
            out = tmp_path / f"{source.suffix}.png"
            done = lgen(verb[0], source, *verb[1:], out)
            assert done.exit_code == 0, done.output
            pictures.append(out.read_bytes())
        assert pictures[0] == pictures[1]
    said = lgen("evaluate", file, "--reference", "shapes", "--n", 40, "--metrics", "fid", "--json")
    assert said.exit_code == 0, said.output
    assert lgen("export", file, "--format", "torchscript", "--out", tmp_path / "x.pt").exit_code == 0


def test_what_is_wrong_is_said_in_a_line_and_nothing_is_written(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mistake(*arguments: object) -> str:
        done = lgen("export", *arguments)
        assert done.exit_code == 2, done.output
        return done.output

    foreign, damaged = tmp_path / "foreign.safetensors", tmp_path / "damaged.safetensors"
    save_file({"a": torch.zeros(1)}, foreign)
    damaged.write_bytes(b"nothing")
    assert "was not written by lightning_gen" in mistake(foreign, "--out", tmp_path / "x.onnx", "--format", "onnx")
    assert "damaged" in mistake(damaged, "--out", tmp_path / "x.onnx", "--format", "onnx")
    assert "there is no run or checkpoint" in mistake(tmp_path / "none")
    assert "cannot write" in mistake(checkpoint, "--out", checkpoint / "x.safetensors")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "pip install 'lightning-gen[onnx]'" in mistake(checkpoint, "--format", "onnx", "--out", tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_a_model_of_a_distribution_that_is_not_here_is_named(tmp_path: Path) -> None:
    model = built("gan")
    model.origin = {"model": "tides", "distribution": "lgen-tides", "version": "2.1"}
    weights.write(tmp_path / "it.safetensors", content(model))
    with pytest.raises(UserError, match=r"holds tides of lgen-tides 2\.1, which is not installed here"):
        checkpoints.load_model(tmp_path / "it.safetensors")
