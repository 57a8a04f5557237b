"""Parts, kept casts, activations computed again and compiled networks change what a step costs, not what it does."""

from __future__ import annotations

import copy
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from lightning_gen import execution, experiment, registry, settings
from lightning_gen.errors import UserError
from lightning_gen.layers import blur, enlarged
from lightning_gen.models.dcgan import DCGAN
from lightning_gen.module import GenerativeModule
from lightning_gen.update import Update, UpdateOptions

OURS = [part.name for part in registry.parts("models") if part.distribution == registry.OURS]

QUICK = ("--seed", "3", "--trainer.precision", "32-true", "--data.size", "64", "--data.batch_size", "4")


def trained(tmp_path: Path, model: str, *arguments: str, steps: int = 2) -> dict[str, Tensor]:
    """The weights after a few steps."""
    small = [f"--model.{key}={value}" for key, value in registry.load(model).checked.items()]
    batch = 4 * registry.load(model).presets["quick"].get("critic_steps", 1)
    chosen = settings.resolve(
        [*QUICK, *small, "--kimg", str(steps * batch / 1000), *arguments], model=model, preset="quick"
    )
    for callback in ("metrics", "samples"):
        chosen.values[callback]["every_kimg"] = 0
    chosen.values["logger"] = ["none"]
    folder = tmp_path / f"{model}-{len(list(tmp_path.iterdir()))}"
    experiment.fit(chosen, folder, say=lambda line: None, show_progress=False)
    state: dict[str, Any] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return {key: value for key, value in state["state_dict"].items() if isinstance(value, Tensor)}


def apart(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The share of weights that differ by more than rounding: Adam's first step turns a gradient of all but 0 into one
    of full length, in the direction that rounding gives it."""
    assert ours.keys() == theirs.keys()
    weights = [key for key, value in ours.items() if value.is_floating_point()]
    mine, other = (torch.cat([state[key].flatten() for key in weights]) for state in (ours, theirs))
    return float((~torch.isclose(mine, other, rtol=1e-3, atol=1e-5)).double().mean())


def test_the_gradient_of_all_parts_is_that_of_the_batch() -> None:
    torch.manual_seed(0)
    network, rows = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)), torch.randn(7, 3)

    def gradient(accumulate: int) -> Tensor:
        module = GenerativeModule()
        module.update_options = UpdateOptions(accumulate=accumulate)
        module.manual_backward = lambda loss: loss.backward()  # type: ignore[method-assign, assignment]
        network.zero_grad()
        step = Update(module)
        for part in step.parts(rows):
            step.backward(network(part).square().mean())
        return torch.cat([parameter.grad.flatten() for parameter in network.parameters()])

    for parts in (2, 3, 7):  # also where they are not equally long
        assert gradient(parts).allclose(gradient(1), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        ("progan", ["--model.norm", "pixel"]),
        ("progan", ["--model.norm", "batch"]),  # whose statistics must see a batch once
        ("stylegan2", ["--model.path_penalty", "2", "--model.mixing", "0.9"]),
        ("r3gan", []),
    ],
)
def test_computing_activations_again_changes_no_weight(tmp_path: Path, model: str, arguments: list[str]) -> None:
    kept = trained(tmp_path, model, *arguments)
    again = trained(tmp_path, model, *arguments, "--update.recompute", "true")
    assert apart(kept, again) < 1e-3


@pytest.mark.parametrize(
    ("model", "arguments"),
    [("dcgan", []), ("wgan-gp", []), ("stylegan2", ["--model.path_penalty", "2"])],
)
def test_compiled_networks_learn_the_same_also_under_penalties(
    tmp_path: Path, model: str, arguments: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Penalties differentiate twice, which the compiler refuses; its code generator would only cost minutes here."""
    plain = trained(tmp_path, model, *arguments)
    called = set()

    def noted(function: Any) -> Any:
        return lambda *inputs, **options: called.add(function.__self__) or function(*inputs, **options)

    monkeypatch.setattr(torch, "compile", noted)
    seen = trained(tmp_path, model, *arguments, "--update.compile", "true")
    assert len(called) == 2  # both networks
    assert apart(plain, seen) == 0
    monkeypatch.undo()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    assert apart(plain, trained(tmp_path, model, *arguments, "--update.compile", "true")) < 5e-3


@pytest.mark.parametrize(
    ("model", "setting", "reason"),
    [
        ("cyclegan", "--update.accumulate=2", "as a whole"),
        ("vae", "--update.accumulate=2", "as a whole"),
        ("vae", "--augment.kind=diffaugment", "no discriminator"),
        ("dcgan", "--update.recompute=true", "no blocks"),
        ("dcgan", "--update.accumulate=3", "does not divide"),
        ("infogan", "--data.batch_size=1", "2 or more in a process's batch"),
        ("infogan", "--update.accumulate=16", "and in a part"),
    ],
)
def test_what_a_model_cannot_do_is_said_before_anything_is_left(
    tmp_path: Path, model: str, setting: str, reason: str
) -> None:
    chosen = settings.resolve([setting, "--kimg", "0.1"], model=model, preset="quick")
    for callback in ("metrics", "samples"):
        chosen.values[callback]["every_kimg"] = 0
    chosen.values["logger"] = ["none"]
    with pytest.raises(UserError, match=reason):
        experiment.fit(chosen, tmp_path / "run", say=lambda line: None, show_progress=False)
    assert not (tmp_path / "run").exists()


class Listening(nn.Conv2d):
    """A convolution that notes in which calls it was one of those that are differentiated twice."""

    def __init__(self) -> None:
        super().__init__(1, 1, 3)
        self.heard: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        answer = super().forward(x)
        self.heard.append("_Convolution" in answer.grad_fn.name())
        return answer


def test_what_a_penalty_differentiates_twice_is_seen_by_its_input_and_nothing_else_is() -> None:
    generator, discriminator = Listening(), Listening()
    execution.follow_penalties(generator, "cpu")
    execution.follow_penalties(discriminator, "cpu")
    images = torch.ones(2, 1, 8, 8)
    followed = images.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        discriminator(images)
        discriminator(generator(images))  # follows a generator that learns: no penalty asks for its gradient
        assert not any([*generator.heard, *discriminator.heard])
        for given in (followed, followed + 1, followed.bfloat16(), generator(followed)):  # augmented, or rounded before
            discriminator(given)
            assert discriminator.heard[-1]
        discriminator.requires_grad_(False)
        discriminator(followed)
        assert not discriminator.heard[-1]
    copied = copy.deepcopy(generator)
    assert copied(followed).shape == (2, 1, 6, 6)
    assert len(copied.heard) == len(generator.heard) + 1, "a copy is a network of its own"


@pytest.mark.parametrize("model", ["progan", "wgan-gp", "r3gan", "stylegan2", "infogan", "cgan-projection"])
def test_penalties_move_weights_under_bf16_as_they_do_in_float32(
    tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the directions that the discriminator's gradients have in the first step; batches of 4 are what goes wrong."""
    gradients: list[Tensor] = []
    clip = GenerativeModule.on_before_optimizer_step

    def noted(self: GenerativeModule, optimizer: torch.optim.Optimizer) -> None:
        found = [p.grad.flatten() for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        gradients.append(torch.cat(found))
        clip(self, optimizer)

    monkeypatch.setattr(GenerativeModule, "on_before_optimizer_step", noted)
    heavy = ["--model.penalty", "1000"]
    for precision in ("32-true", "bf16-mixed"):
        trained(tmp_path, model, *heavy, "--trainer.precision", precision, steps=1)
    half = len(gradients) // 2
    assert float(torch.cosine_similarity(gradients[0], gradients[half], dim=0)) > 0.97


@pytest.mark.parametrize("unit", [None, "amx_bf16", "avx512_bf16"])
def test_bf16_is_taken_on_cpus_that_have_units_for_it(unit: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    units = {"avx512_f": True, "amx_bf16": False, "avx512_bf16": False} | ({unit: True} if unit else {})
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units, raising=False)
    assert execution.fast_precision("cpu") == ("bf16-mixed" if unit else "32-true")
    assert execution.fast_precision("cuda") == "32-true"


@pytest.mark.parametrize("filtered", [partial(blur, padding=1, stride=2), enlarged])
def test_strided_filters_are_in_float32_on_cpus_and_come_out_as_they_went_in(
    filtered: Callable[[Tensor], Tensor],
) -> None:
    """Their gradient in bf16 takes a CPU ten to thirty times as long."""
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        whole, half = filtered(x), filtered(x.bfloat16())
    assert (whole.dtype, half.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(whole, filtered(x))
    assert torch.equal(half, filtered(x.bfloat16().float()).bfloat16())


def test_a_cast_is_made_once_in_a_block_and_forgotten_after_it() -> None:
    weight, x = nn.Parameter(torch.ones(4, 4)), torch.ones(1, 4)
    with torch.autocast("cpu", torch.bfloat16, cache_enabled=False):
        with execution.kept_casts("cpu"):
            with torch.no_grad():
                x @ weight
            product = (x @ weight).sum()
        product.backward()
        with torch.no_grad():
            weight.add_(1.0)
        assert float((x @ weight).sum().detach()) == 32
        assert not torch.is_autocast_cache_enabled()
    assert weight.grad is not None


FREED = """
import resource
import numpy as np
import lightning_gen.execution
{prepare}
faults = []
for _ in range(8):
    layers = [np.ones(1 << 19) for _ in range(16)]  # 4 MB each, as a step's activations
    del layers
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
print(faults[-1] - faults[3])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="is about glibc's allocator")
def test_what_a_step_frees_is_kept_for_the_next_one() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}

    def faults(prepare: str, **chosen: str) -> int:
        command = [sys.executable, "-c", FREED.format(prepare=prepare)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment | chosen)
        return int(done.stdout)

    keep = "lightning_gen.execution.keep_freed_memory()"
    kept = faults(keep)
    assert 10 * kept < faults("")
    assert 10 * kept < faults(keep, MALLOC_TRIM_THRESHOLD_="131072"), "who sets the allocator has chosen"


def test_all_that_a_network_computes_is_in_the_layout_of_its_weights_whatever_the_images_are_in() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = nn.Sequential(nn.Conv2d(3, 8, 1), nn.LeakyReLU(), nn.Conv2d(8, 4, 3))

    model, images, seen = Model(), torch.randn(2, 3, 8, 8), []
    plain = model.network(images)
    execution.channels_last(model)
    for layer in model.network:
        layer.register_forward_hook(lambda layer, inputs, output: seen.append(output))
    torch.testing.assert_close(model.network(images), plain)
    assert len(seen) == 3
    assert all(maps.is_contiguous(memory_format=torch.channels_last) for maps in seen)


@pytest.mark.parametrize("name", OURS)
def test_our_own_models_take_images_in_any_layout(name: str) -> None:
    cls = registry.load(name)
    assert execution.takes_any_layout(cls(**cls.presets.get("quick", {}) | cls.checked))


class Smaller(DCGAN):
    """A stranger's, with a constructor of its own."""

    def __init__(self) -> None:
        super().__init__((3, 32, 32), 4, 2)


class Flattening(nn.Module):
    """As many a stranger's network does it."""

    def __init__(self) -> None:
        super().__init__()
        self.maps, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(4 * 32 * 32, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps = torch.relu(self.maps(images))
        return self.last(maps.view(maps.size(0), -1)).view(-1)


def test_code_of_strangers_may_view_images_unless_it_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert execution.takes_any_layout(Smaller()), "it computes by our code alone"
    model = Smaller()
    model.discriminator = Flattening()
    assert not execution.takes_any_layout(model)
    monkeypatch.setattr(Smaller, "any_layout", True)
    assert execution.takes_any_layout(model)
    execution.channels_last(model)
    with pytest.raises(RuntimeError, match="view size is not compatible"):
        model.discriminator(torch.randn(2, 3, 32, 32))


def test_frames_for_a_network_of_images_stay_as_they_are() -> None:
    class Frames(nn.Conv2d):
        def forward(self, frames: Tensor) -> Tensor:
            return super().forward(frames.view(-1, *frames.shape[2:]))

    model = nn.Module()
    model.network = Frames(3, 4, 1)
    execution.channels_last(model)
    assert model.network(torch.randn(2, 5, 3, 8, 8)).shape == (10, 4, 8, 8)
