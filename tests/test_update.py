"""Schedule, warm-up and clipping: the same for every optimizer of every model, functions of the clock."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim import Adam, AdamW

from lightning_gen.clock import Clock
from lightning_gen.data.module import RunData
from lightning_gen.data.shapes import Shapes
from lightning_gen.module import GenerativeModule
from lightning_gen.update import UpdateOptions, fuse


class Two(GenerativeModule):
    """Two weights under plain gradient descent, so that a step shows the rate and the clipping."""

    image_shape = (3, 8, 8)
    latent_dim = 1

    def __init__(self) -> None:
        super().__init__()
        self.discriminator = nn.Linear(4, 1, bias=False)
        self.generator = nn.Linear(4, 1, bias=False)
        self.moved: list[tuple[float, float]] = []

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.SGD(self.discriminator.parameters(), lr=1.0),
            torch.optim.SGD(self.generator.parameters(), lr=0.5),
        ]

    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Any:
        moved = []
        for optimizer, network in zip(self.optimizers(), (self.discriminator, self.generator), strict=True):
            before = network.weight.detach().clone()
            with self.update(optimizer) as step:
                loss = 3 * network(torch.full((1, 4), 2.0)).sum()  # its gradient is 6 in all four directions
                step.backward(loss)
            moved.append((network.weight.detach() - before).norm().item())
            assert step.grad_norm.item() == pytest.approx(12.0)
        self.moved.append(tuple(moved))
        return self.step_output(len(batch["image"]), loss_d=loss, loss_g=loss)


def train(
    options: UpdateOptions, steps: int = 4, kind: type[Two] = Two, precision: str = "32-true"
) -> list[tuple[float, float]]:
    model = kind()
    model.update_options = options
    model.clock.budget = steps * 10
    trainer = pl.Trainer(
        accelerator="cpu",
        precision=precision,
        max_epochs=-1,
        max_steps=steps,
        logger=False,
        use_distributed_sampler=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, datamodule=RunData(Shapes(resolution=8, size=50), 10, 1, seed=0))
    return model.moved


def test_each_optimizer_follows_its_own_rate_through_the_schedule() -> None:
    moved = train(UpdateOptions(lr_decay=1.0))
    assert [d for d, _ in moved] == pytest.approx([12, 9, 6, 3])
    assert [g for _, g in moved] == pytest.approx([6, 4.5, 3, 1.5])


def test_a_warm_up_rises_from_nothing() -> None:
    moved = train(UpdateOptions(lr_warmup_kimg=0.04))
    assert [d for d, _ in moved] == pytest.approx([12 * (images + 1) / 40 for images in (0, 10, 20, 30)])


def test_a_long_gradient_is_cut_to_the_largest_norm_and_reported_uncut() -> None:
    assert train(UpdateOptions(max_norm=2.0), 1) == [(pytest.approx(2.0), pytest.approx(1.0))]
    assert train(UpdateOptions(max_norm=20.0), 1) == [(pytest.approx(12.0), pytest.approx(6.0))]


class _Noticing(torch.autograd.Function):
    """Hands its input on, and notes on the way back whether autocast is on."""

    on: ClassVar[list[bool]] = []

    @staticmethod
    def forward(ctx: Any, value: torch.Tensor) -> torch.Tensor:
        return value.clone()

    @staticmethod
    def backward(ctx: Any, slope: torch.Tensor) -> torch.Tensor:
        _Noticing.on.append(torch.is_autocast_enabled("cpu"))
        return slope


class NoticingTwo(Two):
    def training_step(self, batch: dict[str, Any], batch_idx: int) -> Any:
        for optimizer, network in zip(self.optimizers(), (self.discriminator, self.generator), strict=True):
            with self.update(optimizer) as step:
                made = network(torch.ones(1, 4))
                assert made.dtype == torch.bfloat16
                step.backward(_Noticing.apply(made).sum())
        return self.step_output(len(batch["image"]))


def test_the_way_forth_is_in_bf16_and_the_way_back_is_outside_of_autocast() -> None:
    _Noticing.on.clear()
    train(UpdateOptions(), 1, NoticingTwo, "bf16-mixed")
    assert _Noticing.on == [False, False]


@given(st.floats(0, 1), st.floats(0, 50), st.integers(0, 100_000))
def test_the_rate_never_leaves_its_range(decay: float, warm: float, images: int) -> None:
    clock = Clock(images)
    clock.budget = 60_000
    assert 0 <= UpdateOptions(lr_decay=decay, lr_warmup_kimg=warm).rate(clock) <= 1


def test_adam_is_fused_unless_it_was_asked_not_to_be_or_has_stepped() -> None:
    weight = torch.nn.Parameter(torch.ones(3))
    plain, asked, stepped = Adam([weight]), Adam([weight], foreach=True), AdamW([weight])
    weight.grad = torch.ones(3)
    stepped.step()
    other = torch.optim.SGD([weight], 0.1)
    fuse([plain, asked, stepped, other])
    assert [optimizer.param_groups[0]["fused"] for optimizer in (plain, asked, stepped)] == [True, None, None]


@pytest.mark.parametrize("kind", [Adam, AdamW])
def test_the_fused_step_is_the_same_up_to_rounding(kind: type[Adam]) -> None:
    ways = []
    for fused in (False, True):
        torch.manual_seed(1)
        weight = torch.nn.Parameter(torch.randn(1000))
        optimizer = kind([weight], 0.01, (0.5, 0.99))
        if fused:
            fuse([optimizer])
        for _ in range(20):
            weight.grad = torch.randn(1000)
            optimizer.step()
        ways.append(weight.detach())
    assert ways[1].allclose(ways[0], rtol=1e-5, atol=1e-6)
