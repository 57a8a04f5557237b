"""Each rule speaks of the trouble that it is made for, with the numbers, and of nothing else."""

from __future__ import annotations

import json
import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_up_runs import critic, curve, game, noise, outcome, stream, verdicts

from lightning_gen.watch import Record, Watch, replay
from lightning_gen.watch.discriminator import VanishedGradient, WonDiscriminator
from lightning_gen.watch.divergence import Explosion, FarFromHistory, NotFinite
from lightning_gen.watch.modes import ModeCollapse, SameLabels
from lightning_gen.watch.record import number
from lightning_gen.watch.scores import ScoreCollapse, Stagnation

NAN = float("nan")
seeds = st.integers(0, 10**6)
few = settings(max_examples=25, deadline=None)


# -- healthy runs ---------------------------------------------------------------------------------------


@few
@given(seed=seeds, scale=st.floats(1e-3, 50))
def test_a_healthy_game_is_left_alone_at_any_scale(seed: int, scale: float) -> None:
    assert verdicts(game(400, seed, scale)) == []


@few
@given(seed=seeds, shift=st.floats(-50, 50))
def test_and_at_any_level(seed: int, shift: float) -> None:
    stops = [v for v in verdicts(game(400, seed, shift=shift)) if v.rule != "won-discriminator"]
    assert stops == []


@few
@given(seed=seeds, swing=st.floats(0, 30))
def test_a_critic_may_swing(seed: int, swing: float) -> None:
    assert verdicts(critic(600, seed, swing)) == []


@few
@given(seed=seeds, sd=st.floats(0, 0.08), end=st.floats(2, 140))
def test_scores_may_be_noisy(seed: int, sd: float, end: float) -> None:
    assert outcome(stream(fid__tiny=curve(60, seed, sd, end=end))).verdict in ("healthy", "stagnated")
    assert verdicts(stream(fid__tiny=curve(60, seed, sd, end=end)), ScoreCollapse()) == []


def test_a_loss_that_jumps_to_another_level_and_stays_is_no_divergence() -> None:
    jump = [*noise(300, 0.7, 0.1), *noise(300, 2.2, 0.1, seed=1)]
    assert verdicts(stream(loss_d=[1.0] * 600, loss_g=jump)) == []


def test_an_untrained_generator_that_draws_one_image_is_no_collapse() -> None:
    assert (
        verdicts(stream(diversity=[0.01, 0.05, 0.1, 0.3, 0.6, *[0.9] * 20], duplicates=[*[1.0] * 5, *[0.02] * 20]))
        == []
    )


def test_labels_of_a_small_batch_may_be_few() -> None:
    assert verdicts(stream(label_perplexity=[1.9, 2.0, 1.7] * 10)) == []


# -- not finite, explosion, history ---------------------------------------------------------------------


@pytest.mark.parametrize("field", ["loss", "loss_d", "loss_g", "logits_real", "fid/tiny"])
@pytest.mark.parametrize("value", [NAN, math.inf, -math.inf])
def test_a_loss_that_is_not_finite_stops_at_once(field: str, value: float) -> None:
    (verdict,) = verdicts([Record(500, {field: 1.0}), Record(1000, {field: value}), Record(1500, {field: value})])
    assert (verdict.rule, verdict.severity, verdict.state, verdict.at) == ("not-finite", "stop", "diverged", 1000)
    assert field in verdict.sentence
    assert "not finite" in verdict.sentence


def test_gradients_may_overflow_while_a_loss_scaler_looks_for_its_scale() -> None:
    steps = [Record(i, {"loss_d": 1.0, "loss_g": 1.0, "grad_norm_g": math.inf if i < 17 else 1.0}) for i in range(60)]
    assert verdicts(steps) == []
    for_ever = [Record(i, {"loss_d": 1.0, "loss_g": 1.0, "grad_norm_g": math.inf}) for i in range(60)]
    (verdict,) = verdicts(for_ever)
    assert (verdict.rule, verdict.at) == ("not-finite", 19)
    assert "20 records" in verdict.sentence


def test_a_critic_without_bounds_is_an_explosion() -> None:
    gap = [1.05**i for i in range(300)]
    found = verdicts(
        stream(
            loss_d=[-g for g in gap], loss_g=gap, logits_real=[g / 2 for g in gap], logits_fake=[-g / 2 for g in gap]
        ),
        Explosion(),
    )
    (verdict,) = found
    assert (verdict.severity, verdict.state) == ("stop", "diverged")
    assert "loss_d" in verdict.sentence
    assert "1,000" in verdict.sentence


def test_one_spike_is_no_explosion() -> None:
    assert verdicts(stream(loss_d=[1e6 if i % 20 < 5 else 1.0 for i in range(100)]), Explosion()) == []


@pytest.mark.parametrize("field", ["loss", "loss_d", "loss_g", "logits_fake", "grad_norm_d", "grad_norm_g"])
def test_ten_records_far_from_the_history_are_a_divergence(field: str) -> None:
    values = [*(abs(v) for v in noise(150, 1, 0.1)), *[300.0] * 30]
    (verdict,) = verdicts(stream(**{field: values}), FarFromHistory())
    assert (verdict.severity, verdict.at) == ("stop", 160_000)
    for part in (field, "300", "150 records", "10 records in a row"):
        assert part in verdict.sentence


def test_nine_are_not_and_a_new_level_is_accepted_only_after_the_alarm() -> None:
    values = [*noise(150, 1, 0.1), *([300.0] * 9 + [1.0]) * 5]
    assert verdicts(stream(loss_d=values), FarFromHistory()) == []


def test_a_loss_that_never_varied_has_no_measure_of_far() -> None:
    assert verdicts(stream(loss_d=[*[0.0] * 100, *[0.1] * 100]), FarFromHistory()) == []


# -- the discriminator ----------------------------------------------------------------------------------


def lead(n: int = 200, d: float = 0.01) -> list[Record]:
    return stream(loss_d=[abs(v) for v in noise(n, d, d / 5)], loss_g=noise(n, 7.0, 0.5, seed=1))


def test_a_discriminator_whose_loss_is_next_to_nothing_has_won() -> None:
    (verdict,) = verdicts(lead(), WonDiscriminator())
    assert (verdict.severity, verdict.state, verdict.at) == ("stop", "collapsed", 100_000)
    assert verdict.values["loss_d"] == pytest.approx(0.01, rel=0.2)
    assert all(number(value) in verdict.sentence for value in verdict.values.values())
    assert "penalty" in verdict.advice


def test_saturated_logits_say_so_too() -> None:
    n = 150
    records = stream(loss_d=[1.0] * n, loss_g=[9.0] * n, logits_real=noise(n, 8, 1), logits_fake=noise(n, -9, 1))
    (verdict,) = verdicts(records, WonDiscriminator())
    assert set(verdict.values) == {"logits_real", "logits_fake"}
    assert all(number(value) in verdict.sentence for value in verdict.values.values())
    one_sided = stream(loss_d=[1.0] * n, loss_g=[9.0] * n, logits_real=noise(n, 1, 1), logits_fake=noise(n, -9, 1))
    assert verdicts(one_sided, WonDiscriminator()) == []


def test_a_lead_at_the_very_start_is_forgiven() -> None:
    assert verdicts([*lead(60), *game(200)], WonDiscriminator()) == []


def test_a_negative_loss_is_a_wasserstein_critic_whose_gap_may_close() -> None:
    records = stream(loss_d=noise(300, 0, 1e-3), loss_g=noise(300, 30, 3))
    assert verdicts(records, WonDiscriminator()) == []


def test_while_the_score_holds_a_lost_game_is_a_warning_and_no_stop() -> None:
    records = [Record(r.at, {**r.values, "fid/tiny": 20.0} if i % 10 == 0 else r.values) for i, r in enumerate(lead())]
    assert [v.severity for v in verdicts(records, WonDiscriminator())] == ["warn"]
    worse = [*records, Record(201_000, {"fid/tiny": 30.0})]
    said = verdicts(worse, WonDiscriminator())
    assert [v.severity for v in said] == ["warn", "stop"]
    assert said[1].at == 201_000


def test_a_vanished_gradient_is_told_from_one_that_settles() -> None:
    settling = [30 * math.exp(-i / 60) + 0.7 for i in range(400)]
    assert verdicts(stream(grad_norm_g=settling), VanishedGradient()) == []
    (verdict,) = verdicts(stream(grad_norm_g=[*settling, *[1e-6] * 60]), VanishedGradient())
    assert (verdict.severity, verdict.state) == ("stop", "collapsed")
    assert "1e-06" in verdict.sentence


# -- modes and labels -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "healthy", "sick", "said"),
    [
        ("diversity", 0.9, 0.2, "0.2"),
        ("duplicates", 0.02, 0.8, "80%"),
        ("class_spread", 0.9, 0.2, "0.2"),
        ("recall/tiny", 0.6, 0.1, "0.1"),
        ("coverage/tiny", 0.8, 0.3, "0.3"),
        ("mode_coverage", 46, 9, "9"),
    ],
)
def test_mode_collapse_in_each_of_its_signs(field: str, healthy: float, sick: float, said: str) -> None:
    column = [*[healthy] * 10, sick, healthy, sick, sick, sick, sick]
    (verdict,) = verdicts(stream(**{field: column}))
    assert (verdict.rule, verdict.state, verdict.at) == ("mode-collapse", "collapsed", 15_000)
    assert said in verdict.sentence
    assert verdict.values[field] == sick


def test_a_generator_that_never_had_modes_is_found_after_the_warm_up() -> None:
    (verdict,) = verdicts(stream(duplicates=[1.0] * 20))
    assert verdict.at == 7_000
    (verdict,) = verdicts(stream(diversity=[0.1] * 20))
    assert verdict.at == 7_000


def test_images_that_grow_apart_are_no_collapse() -> None:
    assert not verdicts(stream(duplicates=[0.9, 0.66, 0.84, 0.66, 0.8, 0.62, 0.52, 0.3]))
    assert not verdicts(stream(diversity=[0.2, 0.22, 0.25, 0.28, 0.3, 0.33, 0.36, 0.5]))
    assert verdicts(stream(duplicates=[0.98, 0.98, 0.95, 0.97, 0.94, 0.92, 0.94]))


def test_half_of_the_best_diversity_is_too_little_where_the_best_was_high() -> None:
    assert verdicts(stream(diversity=[*[1.2] * 10, *[0.55] * 3]), ModeCollapse())
    assert not verdicts(stream(diversity=[*[1.0] * 10, *[0.55] * 3]), ModeCollapse())


def test_a_spread_beyond_that_of_real_images_is_no_level_to_fall_from() -> None:
    """Blobs of all colours are spread over more classes than shapes are: so `cgan-projection` begins."""
    assert not verdicts(stream(class_spread=[*[1.58] * 10, *[0.72] * 20]), ModeCollapse())
    assert verdicts(stream(class_spread=[*[1.58] * 10, *[0.45] * 3]), ModeCollapse())


def test_a_low_class_spread_that_no_score_confirms_is_only_warned_of() -> None:
    """`progan` on photographs: few kinds of pictures early on, at a falling score."""
    rule = ModeCollapse()
    looks = [Record(1000 * (i + 1), {"class_spread": v}) for i, v in enumerate([*[0.8] * 8, *[0.25] * 6])]
    scored = [Record(5500, {"fid/tiny": 4.5}), Record(14_500, {"fid/tiny": 3.5}), Record(15_500, {"fid/tiny": 6.0})]
    said = [v for record in sorted([*looks, *scored], key=lambda r: r.at) if (v := rule.observe(record))]
    assert [(v.severity, v.at) for v in said] == [("warn", 11_000), ("stop", 15_500)]
    assert "fid/tiny does not confirm it (4.5)" in said[0].sentence
    assert "confirm" not in said[1].sentence


def test_a_recall_that_was_never_there_cannot_fall() -> None:
    assert verdicts(stream(recall__tiny=[0.05, 0.04, 0.06, 0.05, *[0.0] * 20])) == []


def test_a_conditional_model_that_is_fed_one_label_is_stopped() -> None:
    (verdict,) = verdicts(stream(label_perplexity=[1.0] * 5), SameLabels())
    assert (verdict.at, verdict.severity) == (2000, "stop")
    assert "labels" in verdict.sentence
    assert "folder" in verdict.advice


# -- scores ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "needs"), [(1.9, 1), (1.6, 2), (1.45, 3), (1.35, 6), (1.2, None)])
def test_the_worse_a_score_the_sooner_the_alarm(factor: float, needs: int | None) -> None:
    found = verdicts(stream(fid=[20.0] * 10 + [20.0 * factor] * 40), ScoreCollapse())
    assert [v.at for v in found] == ([] if needs is None else [1000 * (10 + needs)])
    if found:
        assert f"{factor:.2f} times" in found[0].sentence
        assert (found[0].state, found[0].severity) == ("collapsed", "stop")


def test_one_bad_evaluation_among_good_ones_is_paid_back() -> None:
    assert verdicts(stream(fid=[20, 20, 20, *[34, 20, 20, 20] * 10]), ScoreCollapse()) == []


def test_one_lucky_evaluation_does_not_make_all_others_bad() -> None:
    assert verdicts(stream(fid=[40, 30, 31, 30, 15, *[30] * 40]), ScoreCollapse()) == []


def test_the_untrained_model_is_no_best() -> None:
    early = [Record(0, {"fid/tiny": 2.0}), *stream(fid__tiny=[5.0, 4.8, 4.5, 4.4])]
    assert verdicts(early) == []


def test_two_extractors_are_two_scores() -> None:
    records = stream(fid__tiny=[0.5] * 20, fid__inception=[50.0] * 10 + [150.0] * 10)
    (verdict,) = verdicts(records, ScoreCollapse())
    assert "fid/inception" in verdict.sentence


def test_stagnation_warns_when_as_much_was_spent_without_progress_as_with_it() -> None:
    found = verdicts(stream(fid=[*curve(20, sd=0), *[25.0] * 40]), Stagnation())
    assert [(v.severity, v.state, v.at) for v in found] == [("warn", "stagnated", 40_000)]
    assert "20 kimg" in found[0].sentence
    assert verdicts(stream(fid=curve(100, sd=0.0)[:70]), Stagnation()) == []


def test_a_run_that_went_on_after_stagnation_is_healthy_in_the_end() -> None:
    plateau = [*curve(20, sd=0), *[25.0] * 30]
    assert replay(stream(fid=plateau)).verdict == "stagnated"
    assert replay(stream(fid=plateau)).alarm is not None
    assert replay(stream(fid=[*plateau, 15.0, 14.0])).verdict == "healthy"


# -- all together ---------------------------------------------------------------------------------------


def sick_runs() -> dict[str, list[Record]]:
    rng = random.Random(0)
    mixed = [
        Record(r.at, {**r.values, "fid/tiny": 20.0 + rng.random(), "diversity": 0.9} if i % 10 == 9 else r.values)
        for i, r in enumerate(game(200))
    ]
    late = [Record(200_000 + r.at, {**r.values, "fid/tiny": 60.0}) for r in lead(150)]
    return {
        "collapse": [*mixed, *late],
        "nan": [*mixed, Record(201_000, {"loss_d": NAN})],
        "critic": [*critic(300), *[Record(300_000 + 1000 * i, {"loss_d": -1e5}) for i in range(20)]],
    }


@pytest.mark.parametrize("name", sick_runs())
def test_a_resumed_watch_goes_on_where_it_was_and_its_state_is_plain(name: str) -> None:
    records = sick_runs()[name]
    straight = Watch()
    whole = [v for record in records for v in straight.observe(record)]
    assert any(v.severity == "stop" for v in whole)
    first, resumed = Watch(), []
    for i, record in enumerate(records):
        if i % 37 == 0:
            saved = json.loads(json.dumps(first.state_dict()))
            first = Watch()
            first.load_state_dict(saved)
        resumed += first.observe(record)
    assert repr(resumed) == repr(whole)
    assert repr(replay(records).verdicts) == repr(whole)


def test_a_saved_state_does_not_change_afterwards() -> None:
    watch = Watch()
    for record in game(100):
        watch.observe(record)
    saved = watch.state_dict()
    before = json.dumps(saved)
    for record in game(100, seed=1):
        watch.observe(record)
    assert json.dumps(saved) == before
    other = Watch()
    other.load_state_dict(saved)
    for record in game(100, seed=2):
        other.observe(record)
    assert json.dumps(saved) == before


def test_a_trouble_is_told_once_and_again_when_it_comes_back() -> None:
    records = stream(fid=[*[20.0] * 10, *[60.0] * 5, *[20.0] * 40, *[60.0] * 5])
    assert [v.at for v in verdicts(records, ScoreCollapse())] == [11_000, 56_000]
    values = [1.0, NAN, NAN, 1.0, NAN]
    assert [v.at for v in verdicts(stream(loss_d=values), NotFinite())] == [2000, 5000]


def test_rules_without_their_fields_say_which_they_miss() -> None:
    watch = Watch()
    for record in game(5):
        watch.observe(record)
    assert set(watch.idle()) == {"score-collapse", "stagnation", "mode-collapse", "same-labels", "vanished-gradient"}
    assert watch.idle()["vanished-gradient"] == ("grad_norm_g",)


def test_hidden_fields_are_not_used() -> None:
    records = stream(fid__tiny=[20.0] * 10 + [90.0] * 10)
    assert replay(records).verdict == "collapsed"
    assert replay(records, Watch(without=["fid"])).verdict == "healthy"


@pytest.mark.parametrize("name", sick_runs())
def test_every_verdict_can_be_read_by_a_tired_person(name: str) -> None:
    for verdict in replay(sick_runs()[name]).verdicts:
        assert verdict.values
        assert verdict.message == f"at {verdict.at / 1000:,.4g} kimg: {verdict.sentence}. {verdict.advice}"
        assert len(verdict.message) < 400
        assert any(c.isdigit() for c in verdict.sentence) or "not finite" in verdict.sentence


def test_the_share_left_counts_from_the_budget_where_it_is_known() -> None:
    records = stream(fid=[20.0] * 10 + [90.0] * 10)
    assert replay(records).share_left == pytest.approx(1 - 11 / 20)
    assert replay(records, end=100_000).share_left == pytest.approx(1 - 11 / 100)
    assert replay(stream(fid=[20.0] * 5)).share_left == 0
