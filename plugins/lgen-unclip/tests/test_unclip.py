"""The model keeps the contract, each stage learns from what it should, and captions reach the picture."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from lgen_unclip.clip import contrastive
from lgen_unclip.networks import Block
from lgen_unclip.unclip import UnCLIP

from lightning_gen.errors import UserError
from lightning_gen.testing import check_model

SMALL = UnCLIP.checked | {
    "vocabulary": "red blue circle",
    "prompts": ("red circle", "blue circle"),
    "prompt_labels": (3, 5),
}


def small(**settings: object) -> UnCLIP:
    torch.manual_seed(0)
    model = UnCLIP(**{**SMALL, **settings}).eval()
    for network in (model.decoder_ema, model.upsampler_ema):  # they begin as zero: give their answers some content
        torch.nn.init.normal_(network.leave[-1].weight, std=0.2)
        for block in network.modules():
            if isinstance(block, Block):
                torch.nn.init.normal_(block.second.weight, std=0.2)
    return model


def test_the_model_keeps_the_contract() -> None:
    check_model("unclip")


def test_the_loss_of_matching_embeddings_is_the_formula() -> None:
    images = F.normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    texts = F.normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(1)), dim=1)
    logits = 7 * images @ texts.T
    rows = logits.diag() - logits.logsumexp(1)
    columns = logits.diag() - logits.logsumexp(0)
    found = contrastive(images, texts, torch.tensor(7.0), torch.eye(5, dtype=torch.bool))
    assert found.item() == pytest.approx(-(rows + columns).mean().item() / 2, rel=1e-5)


def test_sentences_that_are_alike_are_no_negatives() -> None:
    one = F.normalize(torch.ones(2, 4), dim=1)
    same = torch.ones(2, 2, dtype=torch.bool)
    assert contrastive(one, one, torch.tensor(1.0), same).item() == pytest.approx(0)
    assert contrastive(one, one, torch.tensor(1.0), same.logical_and(torch.eye(2) > 0)).item() == pytest.approx(
        math.log(2)
    )


def test_clip_learns_at_the_beginning_and_then_stays_as_it_is() -> None:
    model = small()
    model._name_noise(0)  # what a trainer does before each batch
    batch = {"image": torch.rand(4, 3, 16, 16) * 2 - 1, "caption": ["red circle", "blue circle", "red", "blue"]}
    others = {"prior", "decoder", "upsampler"}
    for images_seen, learning in ((0, {"clip", *others}), (8, others)):
        model.zero_grad()
        model.clock.images = images_seen
        model.training_step(batch, 0)["loss"].backward()
        moved = {
            name
            for name, network in model.named_children()
            if any(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
        }
        assert moved == learning


def test_the_caption_changes_the_picture_and_the_seed_does() -> None:
    model = small()
    red, blue = (model.sample(2, condition={"caption": [f"{colour} circle"] * 2}) for colour in ("red", "blue"))
    assert (red - blue).abs().max() > 1e-4
    assert (red[0] - red[1]).abs().max() > 1e-2
    assert torch.equal(red, model.sample(2, condition={"caption": ["red circle"] * 2}))


def test_an_embedding_stands_in_for_a_caption() -> None:
    model = small()
    latents = model.latents(2, seed=0, start=0)
    with torch.no_grad():
        embedding = model.imagine(latents, ["red circle"] * 2)
    drawn = model.sample(2, condition={"embedding": embedding})
    assert torch.allclose(drawn, model.sample(2, condition={"caption": ["red circle"] * 2}), atol=1e-5)


def test_without_guidance_the_unconditional_picture_does_not_matter() -> None:
    """Guidance 1 is the embedding's own prediction, 0 that without it, and others lie on their line."""
    model = small(decoder_steps=1)
    condition = {"embedding": F.normalize(torch.ones(2, 8), dim=1)}
    other = {"embedding": -condition["embedding"]}
    assert torch.equal(
        model.sample(2, condition=condition, guidance=0.0), model.sample(2, condition=other, guidance=0.0)
    )
    assert not torch.equal(
        model.sample(2, condition=condition, guidance=1.0), model.sample(2, condition=other, guidance=1.0)
    )


def test_ddpm_samples_are_a_function_of_seed_and_index_too() -> None:
    model = small()
    together = model.sample(3, seed=4, start=1, sampler="ddpm")
    alone = torch.cat([model.sample(1, seed=4, start=1 + i, sampler="ddpm") for i in range(3)])
    assert torch.allclose(together, alone, atol=1e-4)
    assert (together - model.sample(3, seed=4, start=1)).abs().max() > 1e-2


def test_where_nobody_asks_the_prompts_are_drawn_with_their_labels() -> None:
    asked = small().conditions(50, seed=0, start=0)
    assert set(zip(asked["caption"], asked["label"].tolist(), strict=True)) == {("red circle", 3), ("blue circle", 5)}
    assert small().asked_labels(50, seed=0).tolist() == asked["label"].tolist()


def test_a_word_of_the_caption_that_was_not_learnt_ends_it() -> None:
    with pytest.raises(UserError, match="not learnt the word 'green'"):
        small().sample(1, condition={"caption": ["green circle"]})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"image_shape": (3, 20, 20)}, "power of two from 8 on, not 20 x 20"),
        ({"low": 16}, "--model.low 16: .* below the 16"),
        ({"decoder_multiples": (1, 2, 2, 2)}, "--model.decoder_multiples: 4 cannot be halved 3 times"),
        ({"prior_width": 9}, "--model.prior_width 9 is no multiple of --model.heads 2"),
    ],
)
def test_sizes_that_do_not_fit_are_told(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        small(**settings)
