"""Embeddings as codes, and a prior that predicts them one by one."""

from __future__ import annotations

import pytest
import torch
from lgen_unclip.autoregressive import AutoregressivePrior, Codes
from lgen_unclip.clip import Text
from lgen_unclip.unclip import UnCLIP

from lightning_gen.errors import UserError
from lightning_gen.testing import check_model


def settled(dim: int = 8, count: int = 8, buckets: int = 256) -> tuple[Codes, torch.Tensor]:
    """Codes of embeddings with components of deviation 1, 1/2, 1/3 ..., turned, and some of those embeddings."""
    torch.manual_seed(0)
    turn = torch.linalg.qr(torch.randn(dim, dim)).Q
    embeddings = (torch.randn(20_000, dim) / torch.arange(1, dim + 1)) @ turn + 0.3
    codes = Codes(dim, count, buckets)
    for part in embeddings.split(500):
        codes.watch(part)
    codes.settle()
    return codes, embeddings


def test_the_axes_are_the_principal_components_largest_first() -> None:
    codes, embeddings = settled()
    spread = ((embeddings - embeddings.mean(0)) @ codes.axes.T).std(0)
    assert spread == pytest.approx(1 / torch.arange(1, 9), rel=0.06)
    assert (codes.axes @ codes.axes.T).allclose(torch.eye(8), atol=1e-5)


def test_codes_give_the_embedding_back_up_to_their_buckets() -> None:
    codes, embeddings = settled()
    again = codes.embedding(codes.of(embeddings))
    assert (again - embeddings).norm(dim=1).mean() < 0.05 * embeddings.std(0).norm()
    fewer, _ = settled(count=4)
    lost = (fewer.embedding(fewer.of(embeddings)) - embeddings).square().sum(1).mean()
    assert lost == pytest.approx(sum(1 / i**2 for i in range(5, 9)), rel=0.1), "what the other components hold"


def test_buckets_are_about_equally_likely() -> None:
    codes, embeddings = settled(buckets=8)
    shares = torch.bincount(codes.of(embeddings).flatten(), minlength=8) / embeddings.numel()
    assert shares == pytest.approx(torch.full((8,), 1 / 8), abs=0.02)


def prior() -> tuple[AutoregressivePrior, Text]:
    codes, _ = settled(count=5, buckets=16)
    torch.manual_seed(1)
    text = Text(torch.randn(3, 8), torch.randn(3, 4, 6), torch.tensor([[False] * 4, [False] * 3 + [True], [False] * 4]))
    return AutoregressivePrior(codes, 8, 6, 16, 1, 2, 10).eval(), text


@torch.no_grad()
def test_a_code_is_predicted_from_those_before_it_alone() -> None:
    network, text = prior()
    codes = torch.randint(16, (3, 4))
    base = network(codes, text, 1.0)
    assert base.shape == (3, 5, 16)
    for k in range(4):
        other = codes.clone()
        other[:, k] = (other[:, k] + 1) % 16
        changed = (network(other, text, 1.0) - base).abs().amax((0, 2)) > 1e-6
        assert changed.tolist() == [False] * (k + 1) + [True] * (4 - k)


@torch.no_grad()
def test_words_that_are_not_there_change_nothing() -> None:
    network, text = prior()
    codes = torch.randint(16, (3, 4))
    words = text.words.clone()
    words[1, 3] += 5
    assert network(codes, text._replace(words=words), 1.0).allclose(network(codes, text, 1.0), atol=1e-6)


@torch.no_grad()
def test_drawn_codes_have_the_frequencies_that_the_network_gives() -> None:
    network, text = prior()
    first_text = Text(*(part[:1] for part in text))
    one = Text(*(part.expand(4000, *part.shape[1:]) for part in first_text))
    chances = torch.rand(5, 4000, generator=torch.Generator().manual_seed(2))
    drawn = network.codes.of(network.sample(one, 1.0, lambda k: chances[k]))
    first = network(torch.zeros(1, 0, dtype=torch.int64), first_text, 1.0)[0, 0].softmax(0)
    assert torch.bincount(drawn[:, 0], minlength=16) / 4000 == pytest.approx(first, abs=0.03)


def test_it_learns_which_embedding_belongs_to_a_text() -> None:
    network, text = prior()
    network.train()
    wanted = 0.3 + torch.tensor([[0.8], [-0.8], [0.0]]) * network.codes.axes[0]
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        network.loss(wanted, text, 1.0).backward()
        optimizer.step()
    drawn = network.eval().sample(text, 1.0, lambda k: torch.full((3,), 0.5))
    assert (drawn - wanted).norm(dim=1).max() < 0.3


class Autoregressive(UnCLIP):
    __doc__ = UnCLIP.__doc__
    checked = UnCLIP.checked | {"prior_kind": "autoregressive", "prior_codes": 4, "prior_buckets": 8}


def test_the_model_keeps_the_contract_with_this_prior() -> None:
    check_model(Autoregressive)


def test_more_codes_than_the_embedding_has_components_are_refused() -> None:
    with pytest.raises(UserError, match=r"--model\.prior_codes 65: an embedding has 64 components"):
        UnCLIP(prior_kind="autoregressive", prior_codes=65)
