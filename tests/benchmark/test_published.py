"""A published number is ranked with ours only where every field that its source states, and must state, is equal."""

from __future__ import annotations

import dataclasses

import pytest
from result_rows import OFFICIAL, TINY, evaluation, row, table

from lightning_gen.benchmark.leaderboard import build, markdown
from lightning_gen.benchmark.published import apart, matches, published

EVIDENCE = {"source read", "logs parsed", "table image", "secondary"}


def of(block: str, method: str):
    return next(found for found in published() if (found.block, found.method) == (block, method))


MIMICRY = of("P3", "SNGAN")


def test_every_row_has_scores_a_source_and_evidence():
    assert {found.block.split()[0] for found in published()} == {f"P{i}" for i in range(1, 9)}
    for found in published():
        assert found.scores
        assert found.source
        assert found.evidence in EVIDENCE
        assert found.checkpoint in (None, "best", "final")
        assert found.conditional in (None, True, False)
        assert set(found.spread) <= set(found.scores)


def test_numbers_keep_their_published_digits():
    assert str(of("P1", "SNGAN").scores["precision"]) == "0.70"
    assert of("P1", "SNGAN").scores["precision"] == 0.7


def test_the_same_protocol_matches():
    assert matches(MIMICRY, OFFICIAL) == []


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"extractor": "tiny"}, "extractor inception-v3-compat, ours tiny"),
        ({"resize": "clean"}, "resize tf1-bilinear, ours clean"),
        ({"split": "test"}, "split train, ours test"),
        ({"n_reference": 10000}, "n_reference 50000, ours 10000"),
        ({"n_fake": 2000}, "n_fake 50000, ours 2000"),
        ({"settings": {"is.splits": 1}}, "is_splits 10, ours 1"),
        ({"reference": "cifar10-jpeg.tar.xz (JPEG)"}, "reference cifar10, ours cifar10-jpeg.tar.xz (JPEG)"),
    ],
)
def test_one_field_that_differs_is_the_reason(change, reason):
    assert matches(MIMICRY, dataclasses.replace(OFFICIAL, **change)) == [reason]


@pytest.mark.parametrize("name", ["extractor", "resize", "split", "n_reference", "n_fake", "reference", "is_splits"])
def test_what_a_source_leaves_open_matches_nothing(name):
    protocol = dataclasses.replace(MIMICRY.protocol, **{name: None})
    assert matches(dataclasses.replace(MIMICRY, protocol=protocol), OFFICIAL) == [f"{name} not stated"]


def test_splits_do_not_matter_to_a_row_without_an_inception_score():
    protocol = dataclasses.replace(MIMICRY.protocol, is_splits=None)
    assert matches(dataclasses.replace(MIMICRY, protocol=protocol, scores={"fid": 1.0}), OFFICIAL) == []


def test_hearsay_is_not_ranked():
    assert matches(of("P8", "R3GAN"), OFFICIAL) == ["quoted by others, the original was not opened"]
    assert matches(of("P8", "StyleGAN2-ADA"), OFFICIAL) == []


def test_studiogan_is_another_protocol_by_its_resize():
    assert "resize friendly, ours tf1-bilinear" in matches(of("P1", "SNGAN"), OFFICIAL)


def test_a_matching_row_is_ranked_among_ours_and_no_longer_apart():
    text = markdown(build([row(evaluations=(evaluation(20.0, passport=OFFICIAL, kid=0.01),))]))
    lines = table(text)
    ours = next(line for line in lines if line["entry"] == "dcgan")
    sngan = next(line for line in lines if line["entry"] == "SNGAN (published: mimicry)")
    assert int(sngan["#"]) < int(ours["#"])
    assert (sngan["FID ↓"], sngan["seeds"]) == ("16.77 ± 0.04", "n=3")
    assert sngan["KID ↓"] == "-", "its subsets are not stated"
    assert (
        "Published: fid50k_full as NVIDIA defines it: NVlabs/stylegan2-ada-pytorch, README.md (source read); " in text
    )
    assert "### mimicry\n" not in text
    assert "### PyTorch-StudioGAN benchmark" in text


def test_a_lossy_copy_of_the_data_is_ranked_with_nothing_published():
    text = markdown(build([row(evaluations=(evaluation(1.8),))]))
    assert [line["entry"] for line in table(text)] == ["dcgan"]
    _, _, others = text.partition("## Published numbers, other protocol")
    assert "reference cifar10, ours cifar10-jpeg.tar.xz (JPEG)" in others
    assert "SNGAN" in others


def test_every_published_row_is_shown_once():
    shown = [found for other in apart([TINY]) for found in other.rows]
    assert len(shown) == len(published())
    assert set(map(id, shown)) == set(map(id, published()))


def test_the_reasons_are_those_against_the_nearest_of_ours():
    near = next(other for other in apart([TINY, OFFICIAL]) if other.title == "PyTorch-StudioGAN benchmark")
    assert near.reasons == ("resize friendly, ours tf1-bilinear", "is_splits 1, ours 10")


def test_published_numbers_are_silent_where_the_data_is_other():
    shapes = dataclasses.replace(TINY, reference="shapes gentle")
    assert "ublished" not in markdown(build([row(evaluations=(evaluation(1.8, passport=shapes),))]))
