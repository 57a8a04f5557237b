"""PixelRNN: both recurrences see all that comes before a number and nothing after, and cached sampling is sampling."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from lightning_gen.errors import UserError
from lightning_gen.models.pixelrnn import PixelRNN


def small(shape: tuple[int, int, int] = (3, 4, 4), **settings: object) -> PixelRNN:
    torch.manual_seed(0)
    own = {"levels": 4, "hidden": 12, "layers": 2, "head": 48}
    return PixelRNN(image_shape=shape, **{**own, **settings}).double().eval()


@pytest.mark.parametrize("recurrence", ["row", "diagonal"])
@pytest.mark.parametrize("shape", [(3, 4, 4), (1, 3, 5), (1, 5, 3)])
def test_no_number_sees_itself_or_a_later_one_and_all_in_the_field_of_the_recurrence_are_seen(
    recurrence: str, shape: tuple[int, int, int]
) -> None:
    model = small(shape, recurrence=recurrence, layers=3, hidden=48)  # no place where all ReLUs happen to be off
    order = [(c, i, j) for i in range(shape[1]) for j in range(shape[2]) for c in range(shape[0])]
    image = torch.rand(1, *shape, dtype=torch.float64) * 2 - 1
    with torch.no_grad():
        before = model.network(image)
        for place, where in enumerate(order):
            other = image.clone()
            other[(0, *where)] += 1
            moved = (model.network(other) != before).any(2)[0]
            changed = [bool(moved[number]) for number in order]
            assert not any(changed[: place + 1]), f"{where} is seen by {order[changed.index(True)]}"
            for number, seen in zip(order[place + 1 :], changed[place + 1 :], strict=True):
                assert seen or not in_the_field(recurrence, shape, where, number), f"{number} does not see {where}"


def in_the_field(recurrence: str, shape: tuple[int, int, int], seen: tuple[int, ...], by: tuple[int, ...]) -> bool:
    """Whether the published network lets `by` see `seen`, an earlier number.

    A state of the Row LSTM sees a triangle of the rows above. The Diagonal BiLSTM runs over what the first layer made,
    which at a pixel does not hold that pixel yet: so the last of a row reaches the next row by the first layer's
    window alone.
    """
    (_, i, j), (_, row, column) = seen, by
    if recurrence == "row":
        return i == row or abs(j - column) <= row - i
    return not (j == shape[2] - 1 and row == i + 1 and j - column > 3)


@torch.no_grad()
def naive(model: PixelRNN, uniform: Tensor, known: Tensor | None) -> Tensor:
    drawn = torch.zeros(uniform.shape, dtype=torch.long)
    for i, j, c in itertools.product(range(uniform.shape[2]), range(uniform.shape[3]), range(uniform.shape[1])):
        chances = model.network(model.intervals.middles(drawn).double())[:, c, :, i, j].softmax(1).cumsum(1)
        number = (chances < uniform[:, c, i, j, None]).sum(1).clamp_max(model.network.levels - 1)
        if known is not None:
            number = torch.where(known[:, c, i, j] < 0, number, known[:, c, i, j])
        drawn[:, c, i, j] = number
    return drawn


@pytest.mark.parametrize("recurrence", ["row", "diagonal"])
@pytest.mark.parametrize("shape", [(3, 5, 4), (1, 4, 6)])
def test_cached_sampling_equals_naive_number_for_number(recurrence: str, shape: tuple[int, int, int]) -> None:
    model = small(shape, recurrence=recurrence, levels=16)
    uniform = model.latents(3, seed=0, start=0)
    known = torch.where(torch.rand(3, *shape) < 0.3, torch.randint(0, 16, (3, *shape)), -1)
    for kept in (None, known):
        assert torch.equal(model.network.draw(uniform, model.intervals.middles, kept), naive(model, uniform, kept))


@pytest.mark.parametrize("recurrence", ["row", "diagonal"])
def test_the_likelihood_is_a_distribution_over_all_images(recurrence: str) -> None:
    model = small((1, 2, 2), recurrence=recurrence)
    numbers = torch.tensor(list(itertools.product(range(4), repeat=4))).view(-1, 1, 2, 2)
    with torch.no_grad():
        logits = model.network(model.intervals.middles(numbers).double()).log_softmax(2)
    log_p = logits.gather(2, numbers.unsqueeze(2)).flatten(1).sum(1)
    assert torch.exp(log_p).sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    ("settings", "said"),
    [({"hidden": 10}, "3 channels"), ({"head": 40}, "3 channels"), ({"levels": 3}, "power of two")],
)
def test_impossible_settings_are_refused_in_one_line(settings: dict[str, int], said: str) -> None:
    with pytest.raises(UserError, match=said):
        small(**settings)
