"""Two rows are compared where they were measured alike; otherwise the fields that differ are named."""

from __future__ import annotations

import dataclasses
import math

import pytest
from result_rows import OFFICIAL, TINY, evaluation, failed, row, table

from lightning_gen.benchmark.compare import compare
from lightning_gen.errors import UserError


def test_scores_stand_side_by_side_with_their_difference():
    a = row("dcgan", evaluations=(evaluation(1.80, kid=0.01, **{"is": 5.0}), evaluation(1.7, "best")))
    b = row("progan", evaluations=(evaluation(1.50, kid=0.01, **{"is": 4.5}),))
    text = compare(a, b)
    assert TINY.digest() in text
    lines = {line["score"]: line for line in table(text)}
    assert set(lines) == {"fid/tiny", "is/tiny", "kid/tiny"}
    assert lines["fid/tiny"] == {
        "score": "fid/tiny", "weights": "final", "dcgan, seed 0": "1.80", "progan, seed 0": "1.50",
        "difference": "-0.300", "better": "second",
    }  # fmt: skip
    assert lines["is/tiny"]["better"] == "first"
    assert (lines["kid/tiny"]["difference"], lines["kid/tiny"]["better"]) == ("0", "-")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"n_fake": 10000}, "n_fake: 2000 and 10000"),
        ({"resize": "clean"}, "resize: antialiased-bicubic and clean"),
        ({"settings": {**TINY.settings, "prdc.k": 5}}, "settings.prdc.k: 3 and 5"),
        ({"settings": {"is.splits": 10, "prdc.k": 3}}, "settings.kid.subset_size: 1000 and not set"),
        ({"reference_digest": "beef", "reference": "shapes"}, "(cifar10-jpeg.tar.xz (JPEG)) and beef (shapes)"),
    ],
)
def test_unlike_passports_are_refused_and_the_field_is_named(change, told):
    other = dataclasses.replace(TINY, **change)
    with pytest.raises(UserError) as refusal:
        compare(row("dcgan"), row("progan", evaluations=(evaluation(1.5, passport=other),)))
    assert told in str(refusal.value)
    assert len(str(refusal.value).splitlines()) == 2


def test_of_several_protocols_the_shared_one_is_compared():
    a = row("dcgan", evaluations=(evaluation(1.8), evaluation(20.0, passport=OFFICIAL)))
    b = row("progan", evaluations=(evaluation(15.0, passport=OFFICIAL),))
    assert [line["score"] for line in table(compare(a, b))] == ["fid/inception-v3-compat"]


def test_a_failed_row_has_nothing_to_compare():
    with pytest.raises(UserError, match="progan, seed 1 has no scores: no memory"):
        compare(row(), failed("progan", 1, "no memory"))


def test_weights_that_only_one_row_has_are_named():
    with pytest.raises(UserError, match="dcgan, seed 0 has scores of final, progan, seed 0 of raw weights"):
        compare(row("dcgan"), row("progan", evaluations=(evaluation(1.5, "raw"),)))


def test_a_score_without_a_number_has_no_difference():
    (line,) = table(compare(row("dcgan", fid=None), row("progan")))
    assert (line["dcgan, seed 0"], line["difference"], line["better"]) == ("-", "-", "-")


def test_a_score_that_is_not_finite_is_shown_as_it_is_and_nan_is_never_better():
    a, b = (
        row(evaluations=(evaluation(math.nan, kid=1.0),)),
        row("progan", evaluations=(evaluation(1.5, kid=math.inf),)),
    )
    fid, kid = table(compare(a, b))
    assert (fid["dcgan, seed 0"], fid["difference"], fid["better"]) == ("nan", "nan", "-")
    assert (kid["progan, seed 0"], kid["difference"], kid["better"]) == ("inf", "+inf", "first")


def test_two_rows_of_one_name_are_told_apart():
    (line,) = table(compare(row(), row(fid=1.5)))
    assert {"dcgan, seed 0 (first)", "dcgan, seed 0 (second)"} <= set(line)
