"""Autoregressive models: nothing sees what comes after it, and cached sampling is sampling."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from lightning_gen.autoregressive import GatedPixelCNN
from lightning_gen.errors import UserError
from lightning_gen.models.pixelcnn import PixelCNN

ORDERS = ("rgb", "rbg", "grb", "gbr", "brg", "bgr")


def pixelcnn(shape: tuple[int, int, int] = (3, 4, 4), **settings: object) -> PixelCNN:
    torch.manual_seed(0)
    own = {"levels": 4, "width": 12, "layers": 3, "kernel": 3}
    return PixelCNN(image_shape=shape, **{**own, **settings}).double().eval()


def order_of_numbers(shape: tuple[int, int, int], channels: list[int]) -> list[tuple[int, int, int]]:
    """(channel, row, column) of every number of an image, in the order in which they come."""
    return [(c, i, j) for i in range(shape[1]) for j in range(shape[2]) for c in channels]


@pytest.mark.parametrize("channel_order", ORDERS)
@pytest.mark.parametrize("kernel", [3, 5])
def test_no_number_sees_itself_or_a_later_one_and_every_earlier_one_is_seen(channel_order: str, kernel: int) -> None:
    model = pixelcnn(channel_order=channel_order, kernel=kernel, layers=4, width=48)
    order = order_of_numbers(model.image_shape, ["rgb".index(name) for name in channel_order])
    numbers = torch.randint(0, 4, (1, 3, 4, 4))
    with torch.no_grad():
        before = model.network(model.intervals.middles(numbers).double())
    for place, (c, i, j) in enumerate(order):
        image = model.intervals.middles(numbers).double()
        own = model.order.index(c)
        image[0, own, i, j] += 1
        with torch.no_grad():
            moved = (model.network(image) != before).any(2)[0]
        changed = [bool(moved[model.order.index(b), row, column]) for b, row, column in order]
        assert not any(changed[: place + 1]), f"number {place} is seen by {changed.index(True)}"
        # without a blind spot everything after it sees it, as far as the windows reach on this small image
        assert all(changed[place + 1 :]), f"number {place} is not seen by all after it"


def test_a_perturbed_image_changes_no_likelihood_before_it_through_the_whole_model() -> None:
    model = pixelcnn((1, 5, 5), width=4)
    image = torch.randint(0, 256, (1, 1, 5, 5), dtype=torch.uint8)
    with torch.no_grad():
        logits = model.network(model.intervals.middles(model.numbers(image / 127.5 - 1)).double())
        for place in range(25):
            other = image.clone()
            other[0, 0, place // 5, place % 5] ^= 0x80
            again = model.network(model.intervals.middles(model.numbers(other / 127.5 - 1)).double())
            assert torch.equal(again.flatten(3)[..., : place + 1], logits.flatten(3)[..., : place + 1])


@torch.no_grad()
def naive(network: GatedPixelCNN, uniform: Tensor, embed: object, label: Tensor | None, known: Tensor | None) -> Tensor:
    """A pass over the whole image for every number."""
    drawn = torch.zeros(uniform.shape, dtype=torch.long)
    height, width = uniform.shape[2:]
    for i, j, c in itertools.product(range(height), range(width), range(network.groups)):
        logits = network(embed(drawn).double(), label)[:, c, :, i, j]
        chances = logits.softmax(1).cumsum(1)
        number = (chances < uniform[:, c, i, j, None]).sum(1).clamp_max(network.levels - 1)
        if known is not None:
            number = torch.where(known[:, c, i, j] < 0, number, known[:, c, i, j])
        drawn[:, c, i, j] = number
    return drawn


@pytest.mark.parametrize("shape", [(3, 6, 6), (1, 8, 5)])
@pytest.mark.parametrize("classes", [0, 5])
@pytest.mark.parametrize("kernel", [3, 5])
def test_cached_sampling_equals_naive_number_for_number(shape: tuple[int, int, int], classes: int, kernel: int) -> None:
    model = pixelcnn(shape, num_classes=classes, conditional=classes > 0, kernel=kernel, levels=16)
    uniform = model.latents(4, seed=0, start=0)
    label = torch.arange(4) if classes else None
    known = torch.where(torch.rand(4, *shape) < 0.3, torch.randint(0, 16, (4, *shape)), -1)
    for kept in (None, known):
        cached = model.network.draw(uniform, lambda number: model.intervals.middles(number)[:, None], label, kept)
        assert torch.equal(cached, naive(model.network, uniform, model.intervals.middles, label, kept))


def test_the_likelihood_is_a_distribution_over_all_images() -> None:
    model = pixelcnn((1, 2, 2), levels=4, width=4)
    numbers = torch.tensor(list(itertools.product(range(4), repeat=4))).view(-1, 1, 2, 2)
    with torch.no_grad():
        logits = model.network(model.intervals.middles(numbers).double()).log_softmax(2)
    log_p = logits.gather(2, numbers.unsqueeze(2)).flatten(1).sum(1)
    assert torch.exp(log_p).sum().item() == pytest.approx(1, abs=1e-5)


def test_fewer_levels_still_give_the_bits_of_eight() -> None:
    model = pixelcnn((1, 4, 4), levels=4, width=4).float()
    with torch.no_grad():
        for part in model.network.logits.parameters():
            part.zero_()  # says that every interval is as likely
    batch = {"image": torch.randint(0, 256, (2, 1, 4, 4), dtype=torch.uint8)}
    assert model.score_images(batch)["nll"] == pytest.approx(torch.full((2,), 16 * math.log(256)), rel=1e-6)


@pytest.mark.parametrize("channel_order", ORDERS)
def test_samples_are_images_in_their_own_channels(channel_order: str) -> None:
    model = pixelcnn(channel_order=channel_order)
    images = torch.rand(3, 3, 4, 4) * 2 - 1
    known = {"image": images, "known": torch.ones(3, 1, 4, 4, dtype=torch.bool)}
    kept = model.sample(3, condition=known)
    assert (kept - images).abs().max() <= 32.5 / 127.5  # the middles of 4 intervals


def test_completion_keeps_the_known_half_and_draws_the_other() -> None:
    model = pixelcnn((1, 6, 6), levels=16, width=4)
    images = torch.rand(2, 1, 6, 6) * 2 - 1
    known = torch.zeros(2, 1, 6, 6, dtype=torch.bool)
    known[:, :, :3] = True
    first, second = (model.sample(2, seed=seed, condition={"image": images, "known": known}) for seed in (0, 1))
    assert torch.equal(first[:, :, :3], second[:, :, :3])
    assert not torch.equal(first[:, :, 3:], second[:, :, 3:])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"width": 10}, "3 channels"),
        ({"levels": 10}, "power of two"),
        ({"kernel": 4}, "odd"),
        ({"conditional": True}, "no labels"),
    ],
)
def test_impossible_settings_are_refused_in_one_line(settings: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        pixelcnn(**settings)
