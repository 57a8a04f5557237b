"""Tables rank what was measured alike, show how sure a number is, and hide nothing."""

from __future__ import annotations

import dataclasses
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st
from result_rows import OFFICIAL, TINY, evaluation, failed, row, table

from lightning_gen.benchmark.leaderboard import build, markdown
from lightning_gen.benchmark.numbers import count, mean_and_deviation, number
from lightning_gen.metrics.passport import PROTOCOL, Passport

SHAPES = dataclasses.replace(TINY, reference="shapes gentle", reference_digest="51a9e5")
"""A protocol that no published number concerns."""


def written(rows) -> str:
    return markdown(build(rows))


def changed(name: str) -> Passport:
    value = getattr(SHAPES, name)
    other = {**value, "prdc.k": 5} if isinstance(value, dict) else value + 1 if isinstance(value, int) else f"{value}x"
    return dataclasses.replace(SHAPES, **{name: other})


@pytest.mark.parametrize("name", PROTOCOL)
def test_unlike_passports_never_share_a_table(name):
    other = changed(name)
    board = build([row("a", evaluations=(evaluation(1.0, passport=SHAPES),)),
                   row("b", evaluations=(evaluation(2.0, passport=other),))])  # fmt: skip
    assert [[line.name for line in found.lines] for found in board.tables] == [["a"], ["b"]]
    assert {found.digest for found in board.tables} == {SHAPES.digest(), other.digest()}


def test_what_does_not_change_the_number_does_not_part_rows():
    later = dataclasses.replace(SHAPES, seed=3, code_version="9", libraries={"torch": "9"}, checkpoint_digest="ab")
    board = build([row("a", evaluations=(evaluation(1.0, passport=SHAPES),)),
                   row("b", evaluations=(evaluation(2.0, passport=later),))])  # fmt: skip
    assert [line.name for line in board.tables[0].lines] == ["a", "b"]


def test_the_heading_states_the_whole_protocol_and_its_digest():
    text = written([row()])
    for word in (
        TINY.extractor,
        TINY.weights_digest[:8],
        TINY.resize,
        TINY.dtype,
        "2,000 generated images",
        "rounding nearest",
        "cifar10-jpeg.tar.xz (JPEG)",
        TINY.reference_digest[:8],
        "split train, 50,000 images",
        "is.splits 10, kid.subset_size 1000, prdc.k 3",
        f"`{TINY.digest()}`",
    ):
        assert word in text


def test_rows_are_ranked_by_the_mean_of_their_frechet_distance():
    rows = [row("a", seed, fid) for seed, fid in enumerate((3.0, 1.0))]
    rows += [row("b", seed, fid) for seed, fid in enumerate((1.6, 1.4))]
    rows += [row("c", 0, 9.0), row("d", 0, None)]
    assert [(line["#"], line["entry"]) for line in table(written(rows))] == [
        ("1", "b"), ("2", "a"), ("3", "c"), ("-", "d")
    ]  # fmt: skip


def test_final_best_and_raw_weights_are_rows_of_their_own():
    evaluations = (
        evaluation(1.8, "final"),
        evaluation(1.7, "best", images_seen=300_000),
        evaluation(2.5, "raw"),
    )
    lines = table(written([row(evaluations=evaluations)]))
    assert [(line["weights"], line["FID/tiny ↓"], line["kimg"]) for line in lines] == [
        ("best", "1.70", "300 of 400"),
        ("final", "1.80", "400"),
        ("raw", "2.50", "400"),
    ]


def test_a_line_shows_mean_deviation_seeds_and_cost():
    values = (1.70, 1.80, 2.00)
    rows = [row("dcgan", seed, fid, seconds=60.0 * (20 + seed)) for seed, fid in enumerate(values)]
    (line,) = table(written(rows))
    assert line["FID/tiny ↓"] == f"{statistics.fmean(values):.2f} ± {statistics.stdev(values):.2f}" == "1.83 ± 0.15"
    assert (line["seeds"], line["minutes"], line["images/s"], line["parameters"]) == (
        "n=3", "21.0", "575", "3.57M + 656k"
    )  # fmt: skip


def test_one_seed_has_no_deviation_and_says_so():
    (line,) = table(written([row()]))
    assert (line["FID/tiny ↓"], line["seeds"]) == ("1.80", "n=1")


def test_failed_rows_are_listed_with_their_reason_and_counted():
    rows = [row("dcgan", 0), failed("dcgan", 1, "diverged at 120 kimg"), failed("vae", 0, None)]
    text = written(rows)
    assert "- dcgan, seed 1: diverged at 120 kimg" in text
    assert "- vae, seed 0: no reason given" in text
    assert [line["seeds"] for line in table(text)] == ["n=1 of 2"]


def test_a_row_that_was_never_scored_is_listed():
    assert "- vae, seed 0: done, but not evaluated" in written([row(), row("vae", evaluations=())])


def test_a_seed_without_a_finite_score_does_not_vanish_from_the_mean():
    (line,) = table(written([row(seed=0), row(seed=1, fid=None), row(seed=2, fid=float("nan"))]))
    assert (line["FID/tiny ↓"], line["seeds"]) == ("1.80 (1 of 3 finite)", "n=3")


@pytest.mark.parametrize("change", [{"settings": {"model.width": 64}}, {"kimg": 200.0}, {"model": "progan"}])
def test_seeds_of_unlike_runs_are_not_averaged(change):
    board = build([row(seed=0), row(seed=1, **change)])
    assert [line.measured for line in board.tables[0].lines] == [1, 1]


def test_seeds_whose_preset_was_changed_between_them_are_told_apart_by_what_changed():
    rows = [row(seed=i, resolved={"model.lr": lr, "model.width": 8}) for i, lr in enumerate((0.1, 0.1, 0.2))]
    lines = table(written([*rows, row(seed=3)]))
    assert sorted((line["entry"], line["seeds"]) for line in lines) == [
        ("dcgan (dcgan, model.width 32, model.lr 0.1)", "n=2"),
        ("dcgan (dcgan, model.width 32, model.lr 0.2)", "n=1"),
        ("dcgan (dcgan, model.width 32, the preset's settings of that day, not recorded)", "n=1"),
    ]


def test_samples_drawn_with_other_options_are_rows_of_their_own():
    truncated = dataclasses.replace(TINY, sampling={"truncation": 0.7})
    lines = table(written([row(evaluations=(evaluation(1.8), evaluation(1.5, passport=truncated)))]))
    assert [line["weights"] for line in lines] == ["final, truncation 0.7", "final"]


def test_all_tables_have_the_same_columns_in_a_fixed_order():
    rows = [row(evaluations=(
        evaluation(1.8, passport=SHAPES, coverage=0.5, kid=0.01, precision=0.7, **{"is": 5.0}),
        evaluation(20.0, passport=dataclasses.replace(SHAPES, extractor="inception-v3-compat")),
    ))]  # fmt: skip
    text = written(rows)
    heads = [list(table(text, i)[0]) for i in (0, 1)]
    assert heads[0][4:9] == ["FID/tiny ↓", "IS/tiny ↑", "KID/tiny ↓", "precision/tiny ↑", "coverage/tiny ↑"]
    plain = [[head.split()[0].split("/")[0] for head in found] for found in heads]
    assert plain[0] == plain[1]
    assert heads[1][4] == "FID ↓", "only Inception's is called plain FID"


def test_deviations_over_splits_are_no_columns():
    scores = {"fid/tiny": 1.8, "is/tiny": 5.0, "is/tiny/std": 0.1, "is/tiny/1-split": 5.1, "mode_coverage": 45}
    text = written([row(evaluations=(dataclasses.replace(evaluation(1.8), scores=scores),))])
    assert list(table(text)[0])[4:7] == ["FID/tiny ↓", "IS/tiny ↑", "mode coverage ↑"]


def test_a_bar_or_a_line_break_in_a_name_does_not_break_the_table():
    (line,) = table(written([row("a|b\nc")]))
    assert line["entry"] == "a\\|b c"


def test_a_suite_without_rows_says_so():
    assert "No row has a score yet" in written([])


ROWS = st.lists(
    st.tuples(
        st.sampled_from(["dcgan", "progan", "vae"]),
        st.integers(0, 3),
        st.floats(0.1, 500, allow_nan=False),
        st.sampled_from(["final", "best", "raw"]),
        st.sampled_from([TINY, SHAPES, OFFICIAL]),
        st.booleans(),
    ),
    unique_by=lambda made: made[:2],
    max_size=12,
)


@given(ROWS.flatmap(lambda rows: st.tuples(st.just(rows), st.permutations(rows))))
def test_the_order_of_rows_does_not_change_the_leaderboard(orders):
    def rows(made):
        return [
            row(entry, seed, evaluations=(evaluation(fid, weights, passport),)) if done else failed(entry, seed, "why")
            for entry, seed, fid, weights, passport, done in made
        ]

    one, other = orders
    assert written(rows(one)) == written(rows(other))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.8, "1.80"),
        (23.456, "23.5"),
        (575.2, "575"),
        (25e3, "25,000"),
        (0.01249, "0.0125"),
        (0, "0"),
        (3e-6, "3.00e-06"),
    ],
)
def test_numbers_have_three_significant_digits(value, text):
    assert number(value) == text


def test_a_mean_has_the_decimals_of_its_deviation():
    assert mean_and_deviation([16.73, 16.81]) == "16.77 ± 0.06"
    assert mean_and_deviation([10.0, 30.0]) == "20.0 ± 14.1"
    assert mean_and_deviation([5.0, 5.0]) == "5.00 ± 0.00"
    assert mean_and_deviation([4.2]) == "4.20"


def test_parameters_are_counted_in_thousands_and_millions():
    assert [count(n) for n in (123, 656_000, 3_574_656, 2.1e9)] == ["123", "656k", "3.57M", "2.1G"]
