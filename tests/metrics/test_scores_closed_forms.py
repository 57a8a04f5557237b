"""The pure functions where the answer is known by hand, and what never changes it."""

import itertools
import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_gen.errors import UserError
from lightning_gen.metrics import frechet_distance, inception_score, kernel_distance, neighbours, prdc
from lightning_gen.metrics.frechet import FeatureStatistics, frechet_distance_from_statistics

seeds = st.integers(0, 2**31 - 1)
quick = settings(deadline=None, max_examples=25)


def normal(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def with_moments(mean: torch.Tensor, covariance: torch.Tensor, n: int = 200, seed: int = 0) -> torch.Tensor:
    """n rows whose sample mean and unbiased covariance are exactly these."""
    rows = normal(seed, n, len(mean))
    rows = rows - rows.mean(0)
    white = rows @ torch.linalg.inv(torch.linalg.cholesky(rows.T @ rows / (n - 1))).T
    return white @ torch.linalg.cholesky(covariance).T + mean


def test_import_brings_no_torch():
    code = "import sys, lightning_gen.metrics as m; assert 'prdc' in dir(m); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_public_names_are_functions_after_their_files_were_imported():
    import lightning_gen.metrics as package

    for name in package.__all__:
        assert callable(getattr(package, name))
    with pytest.raises(AttributeError, match="no attribute 'fid'"):
        package.fid  # noqa: B018


# Fréchet distance


def test_frechet_of_commuting_gaussians():
    # With diagonal covariances the distance is |m - n|² + Σ (s_i - t_i)², s and t the deviations.
    m, n = torch.tensor([0.0, 1.0, -2.0]).double(), torch.tensor([1.0, 1.0, 1.0]).double()
    s, t = torch.tensor([1.0, 2.0, 0.5]).double(), torch.tensor([3.0, 2.0, 1.0]).double()
    a, b = with_moments(m, torch.diag(s**2)), with_moments(n, torch.diag(t**2), n=77, seed=1)
    assert frechet_distance(a, b) == pytest.approx(10 + 4 + 0.25, rel=1e-9)


def test_frechet_of_gaussians_that_do_not_commute():
    # In two dimensions tr((AB)^½) = (tr(AB) + 2 (det(AB))^½)^½, from the characteristic polynomial.
    a = torch.tensor([[2.0, 0.7], [0.7, 1.0]]).double()
    b = torch.tensor([[1.0, -0.4], [-0.4, 3.0]]).double()
    cross = math.sqrt(float((a @ b).trace()) + 2 * math.sqrt(float(torch.linalg.det(a @ b))))
    want = float(a.trace() + b.trace()) - 2 * cross
    zero = torch.zeros(2).double()
    assert frechet_distance(with_moments(zero, a), with_moments(zero, b, seed=3)) == pytest.approx(want, rel=1e-9)


def test_frechet_with_fewer_images_than_features():
    a, b = normal(0, 10, 40), normal(1, 12, 40) + 1
    # Independent of the eigenvalues: tr((S_a S_b)^½) is the nuclear norm of X_a X_bᵀ, both centred and scaled.
    x, y = (a - a.mean(0)) / 3, (b - b.mean(0)) / math.sqrt(11)
    want = (a.mean(0) - b.mean(0)).square().sum() + x.square().sum() + y.square().sum()
    want -= 2 * torch.linalg.svdvals(x @ y.T).sum()
    assert frechet_distance(a, b) == pytest.approx(float(want), rel=1e-6)


@quick
@given(seed=seeds, shift=st.floats(-100, 100))
def test_frechet_ignores_order_shift_and_rotation(seed, shift):
    a, b = normal(seed, 30, 5), 2 * normal(seed + 1, 40, 5) + 1
    value = frechet_distance(a, b)
    rotation = torch.linalg.qr(normal(seed + 2, 5, 5)).Q
    order = torch.randperm(30, generator=torch.Generator().manual_seed(seed))
    for other in ((a[order], b), (b, a), (a + shift, b + shift), (a @ rotation, b @ rotation)):
        assert frechet_distance(*other) == pytest.approx(value, rel=1e-7)
    assert abs(frechet_distance(a, a[order])) < 1e-9


@quick
@given(seed=seeds, cuts=st.lists(st.integers(0, 50), max_size=5))
def test_statistics_of_the_parts_are_those_of_the_whole(seed, cuts):
    rows = normal(seed, 50, 4) + 3
    whole = FeatureStatistics.of(rows)
    bounds = [0, *sorted(cuts), 50]
    summed, streamed = FeatureStatistics.empty(4), FeatureStatistics.empty(4)
    for start, end in itertools.pairwise(bounds):
        part = FeatureStatistics.empty(4)
        part.update(rows[start:end])
        streamed.update(rows[start:end])
        summed += part
    for got in (summed, streamed):
        assert got.count == 50
        torch.testing.assert_close(got.mean, rows.mean(0), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(got.covariance, torch.cov(rows.T), rtol=1e-10, atol=1e-10)
        assert abs(frechet_distance_from_statistics(got, whole)) < 1e-9


def test_half_precision_features_are_summed_in_float64():
    rows = torch.full((20000, 2), 0.1, dtype=torch.float16)
    assert float(FeatureStatistics.of(rows).mean[0]) == pytest.approx(float(rows[0, 0].double()), rel=1e-12)


# Inception score


def test_inception_score_of_uniform_and_of_certain_logits():
    assert inception_score(torch.zeros(100, 7)) == {"mean": pytest.approx(1), "std": pytest.approx(0, abs=1e-12)}
    for certainty in (100.0, 1e5):  # the second makes probabilities of exactly 0
        one_hot = certainty * torch.eye(5).repeat(40, 1)
        assert inception_score(one_hot, splits=1)["mean"] == pytest.approx(5)
    unused = torch.nn.functional.pad(one_hot, (0, 3), value=-1e5)  # classes that nobody chose
    assert inception_score(unused, splits=1)["mean"] == pytest.approx(5)


def test_inception_score_parts_and_order():
    by_class = 50.0 * torch.eye(4).repeat_interleave(25, 0)
    assert inception_score(by_class, splits=4, seed=None)["mean"] == pytest.approx(1)  # every part is one class
    assert inception_score(by_class, splits=4)["mean"] > 3
    assert inception_score(by_class, splits=4) == inception_score(by_class, splits=4)
    assert inception_score(by_class[:, [2, 0, 3, 1]] + 7, splits=4)["mean"] == pytest.approx(
        inception_score(by_class, splits=4)["mean"]
    )


# Kernel distance


def test_kernel_distance_of_whole_sets_by_hand():
    a, b = normal(0, 6, 3), normal(1, 6, 3) + 0.5

    def k(x, y):
        return (float(x @ y) / 3 + 1) ** 3

    within = sum(k(s[i], s[j]) for s in (a, b) for i in range(6) for j in range(6) if i != j) / 30
    want = within - 2 * sum(k(x, y) for x in a for y in b) / 36
    got = kernel_distance(a, b, subsets=3, subset_size=6)  # each subset is the whole set in another order
    assert got == {"mean": pytest.approx(want), "std": pytest.approx(0, abs=1e-12)}


@pytest.mark.parametrize("subsets", [2, 60], ids=["pairs of the subsets", "pairs of the whole sets"])
def test_kernel_distance_counts_each_subsets_own_pairs(subsets):
    a, b, size = torch.rand(13, 4, dtype=torch.float64), torch.rand(17, 4, dtype=torch.float64) + 0.3, 5
    rng, want = np.random.RandomState(3), []
    for _ in range(subsets):
        x, y = a[rng.choice(13, size, replace=False)], b[rng.choice(17, size, replace=False)]
        xx, yy, xy = ((p @ q.T / 4 + 1) ** 3 for p, q in ((x, x), (y, y), (x, y)))
        off = (xx.sum() - xx.trace() + yy.sum() - yy.trace()) / (size * (size - 1))
        want.append(float(off - 2 * xy.mean()))
    found = kernel_distance(a, b, subsets, size, seed=3)
    assert found == pytest.approx({"mean": np.mean(want), "std": np.std(want)}, rel=1e-9)


def test_kernel_distance_is_unbiased_and_seeded():
    a, b = normal(0, 2000, 4), normal(1, 2000, 4)
    same = kernel_distance(a, b, subset_size=200)
    assert abs(same["mean"]) < same["std"]  # about zero, on either side
    assert kernel_distance(a, b, subset_size=200) == same
    assert kernel_distance(a, b, subset_size=200, seed=1) != same
    assert kernel_distance(a, b + 1, subset_size=200)["mean"] > 10 * same["std"]


@quick
@given(seed=seeds)
def test_kernel_distance_ignores_rotation(seed):
    a, b = normal(seed, 12, 4), normal(seed + 1, 15, 4) + 1
    rotation = torch.linalg.qr(normal(seed + 2, 4, 4)).Q
    want = kernel_distance(a, b, 5, 10)["mean"]
    assert kernel_distance(a @ rotation, b @ rotation, 5, 10)["mean"] == pytest.approx(want, rel=1e-9, abs=1e-9)


def test_scores_leave_the_global_random_state_alone():
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    a = normal(0, 20, 3)
    inception_score(a, splits=2)
    kernel_distance(a, a, 2, 10)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


# Precision, recall, density, coverage

LINE = torch.arange(10.0)[:, None]  # each inner point has neighbours at 1, 1, 2, 2


def test_prdc_of_a_set_and_itself():
    values = prdc(LINE, LINE, k=1)
    # Around each inner point lie its own ball and those of both neighbours: closed balls, so ties count.
    assert values == {"precision": 1, "recall": 1, "density": pytest.approx(2.8), "coverage": 1}


def test_prdc_of_sets_far_apart():
    assert prdc(LINE, LINE + 1000, k=3) == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_prdc_of_a_mode_that_is_missing_and_one_that_is_invented():
    left, right, elsewhere = LINE, LINE + 100, LINE - 500
    real = torch.cat([left, right])
    fake = torch.cat([left + 0.25, left + 0.5, left + 0.75, elsewhere])
    values = prdc(real, fake, k=1)
    assert values["precision"] == 0.75  # `elsewhere` is in no real ball
    assert values["recall"] == values["coverage"] == 0.5  # `right` is missing


def test_an_outlier_among_the_reals_fools_precision_but_not_density():
    real = torch.cat([normal(0, 100, 2), torch.tensor([[60.0, 0.0]]).double()])
    fake = normal(1, 100, 2) * 0.1 + torch.tensor([30.0, 0.0])  # inside the outlier's huge ball, far from the reals
    values = prdc(real, fake, k=5)
    assert values["precision"] == 1
    assert values["density"] == pytest.approx(0.2)
    assert values["coverage"] == pytest.approx(1 / 101)


@quick
@given(seed=seeds, k=st.integers(1, 4), shift=st.floats(-100, 100))
def test_prdc_ignores_order_shift_and_rotation(seed, k, shift):
    real, fake = normal(seed, 30, 3), 1.3 * normal(seed + 1, 25, 3)
    want = prdc(real, fake, k)
    order = torch.randperm(30, generator=torch.Generator().manual_seed(seed))
    rotation = torch.linalg.qr(normal(seed + 2, 3, 3)).Q
    for other in ((real[order], fake), (real + shift, fake + shift), (real @ rotation, fake @ rotation)):
        assert prdc(*other, k) == pytest.approx(want)
    swapped = prdc(fake, real, k)
    assert (swapped["precision"], swapped["recall"]) == pytest.approx((want["recall"], want["precision"]))


def test_prdc_in_small_parts_is_the_same_number(monkeypatch):
    real, fake = torch.cat([LINE, LINE]), torch.cat([LINE + 1, LINE])  # ties and duplicates everywhere
    whole = prdc(real, fake, k=2)
    for at_once in (1, 50, 70):
        monkeypatch.setattr(neighbours, "_AT_ONCE", at_once)
        assert prdc(real, fake, k=2) == whole


# Mistakes


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a: frechet_distance(a[:1], a), UserError, "at least 2 images, 1 given"),
        (lambda a: frechet_distance(a, a[:, :2]), ValueError, "3 and of 2 features"),
        (lambda a: frechet_distance(a, a / 0), ValueError, "not finite"),
        (lambda a: frechet_distance(a.to(torch.uint8), a), TypeError, r"float tensor \(N, D\).*uint8"),
        (lambda a: frechet_distance(a[0], a), ValueError, r"shape \(3,\)"),
        (lambda a: FeatureStatistics.of(a).update(a[:, :2]), ValueError, "2 wide, these statistics 3"),
        (lambda a: FeatureStatistics.of(a) + FeatureStatistics.of(a[:, :2]), ValueError, "cannot be added"),
        (lambda a: FeatureStatistics.empty(3).mean, UserError, "at least one image"),
        (lambda a: inception_score(a, splits=11), UserError, "10 images, this score needs at least 11"),
        (lambda a: inception_score(a, splits=0), UserError, "at least 1, not 0"),
        (lambda a: kernel_distance(a, a), UserError, "subsets of 1000 images, a set has only 10"),
        (lambda a: kernel_distance(a, a, subset_size=1), UserError, "subset_size >= 2"),
        (lambda a: kernel_distance(a, a[:, :2], 1, 5), ValueError, "3 columns, features_b have 2"),
        (lambda a: prdc(a, a, 10), UserError, "smaller than both sets, not 10 for 10 real"),
        (lambda a: prdc(a, a, 0), UserError, "at least 1"),
        (lambda a: prdc([[1.0]], a, 1), TypeError, "real: .* this is list"),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call(normal(0, 10, 3))
