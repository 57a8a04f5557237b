"""The torchmetrics classes give the pure functions' numbers, on every process, and leave their module alone."""

import datetime
import multiprocessing
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
from torch.utils.data import DistributedSampler
from torchmetrics import Metric, MetricCollection

from lightning_gen import metrics
from lightning_gen.errors import UserError
from lightning_gen.metrics import PRDC, FrechetDistance, InceptionScore, KernelDistance
from lightning_gen.metrics.extractors import Extractor, Features, Tiny

N_REAL, N_FAKE = 34, 41


def images(seed: int, n: int) -> torch.Tensor:
    """Coloured blobs of varied contrast, (n, 3, 32, 32) uint8."""
    random = torch.Generator().manual_seed(seed)
    contrast = 20 + (20 + 40 * seed) * torch.rand(n, 1, 1, 1, generator=random)
    coarse = torch.randn(n, 3, 4, 4, generator=random) * contrast
    return (torch.nn.functional.interpolate(coarse, (32, 32), mode="bilinear") + 128).clamp(0, 255).to(torch.uint8)


REALS, FAKES = images(0, N_REAL), images(1, N_FAKE)


def collection(
    kinds: Any = (FrechetDistance, InceptionScore, KernelDistance, PRDC), **options: Any
) -> MetricCollection:
    own: dict[type, dict[str, Any]] = {KernelDistance: {"subsets": 7, "subset_size": 20}, InceptionScore: {"splits": 4}}
    return MetricCollection([kind(**own.get(kind, {}), **options) for kind in kinds])


def fill(group: Any, step: int = 16) -> Any:
    for pictures, real in ((REALS, True), (FAKES, False)):
        for places in torch.arange(len(pictures)).split(step):
            group.update(pictures[places], real=real, index=places)
    return group


def expected(real: torch.Tensor = REALS, fake: torch.Tensor = FAKES) -> dict[str, float]:
    """By the pure functions."""
    network = Tiny()
    seen_real, seen_fake = network(real), network(fake)
    score = metrics.inception_score(seen_fake.logits, 4)
    distance = metrics.kernel_distance(seen_fake.features, seen_real.features, 7, 20)
    around = metrics.prdc(seen_real.features, seen_fake.features)
    return {
        "fid/tiny": metrics.frechet_distance(seen_real.features, seen_fake.features),
        "is/tiny": score["mean"],
        "is/tiny/std": score["std"],
        "kid/tiny": distance["mean"],
        "kid/tiny/std": distance["std"],
        **{f"{name}/tiny": value for name, value in around.items()},
    }


def close(got: dict[str, torch.Tensor], want: dict[str, float], rel: float = 1e-6) -> bool:
    assert all(value.dtype == torch.float64 and value.ndim == 0 for value in got.values())
    return {name: float(value) for name, value in got.items()} == pytest.approx(want, rel=rel)


class Spy(Extractor):
    """Counts its passes; its features are the first pixels."""

    name, feature_dim, logit_dim, resizes, weights_digest = "spy", 6, None, ("none",), "0"

    def __init__(self):
        super().__init__()
        self.register_buffer("weight", torch.ones(1))
        self.passes = 0

    def extract(self, images: torch.Tensor) -> Features:
        self.passes += 1
        return Features(images.flatten(1)[:, :6] * self.weight, None)


# One process


def test_the_values_are_those_of_the_pure_functions():
    got = fill(collection()).compute()
    want = expected()
    assert close(got, want)
    assert 0 < want["precision/tiny"] < 1  # or the comparison says nothing
    assert 0 < want["recall/tiny"] < 1


def test_an_index_makes_order_and_repetition_irrelevant():
    order = torch.randperm(N_FAKE, generator=torch.Generator().manual_seed(3))
    shuffled = collection((InceptionScore, KernelDistance, PRDC))  # the Fréchet distance keeps sums only
    shuffled.update(REALS, True, torch.arange(N_REAL))
    shuffled.update(FAKES[order], False, order)
    shuffled.update(FAKES[5:9], False, torch.arange(5, 9, dtype=torch.int32))
    want = {name: value for name, value in expected().items() if not name.startswith("fid")}
    assert close(shuffled.compute(), want)


def test_without_an_index_rows_stand_as_they_came():
    group = collection()
    group.update(REALS, real=True)
    group.update(FAKES[:20], real=False)
    group.update(FAKES[20:], real=False)
    assert close(group.compute(), expected())


def test_the_frechet_distance_says_when_images_came_twice():
    metric = fill(FrechetDistance())
    metric.update(FAKES[:3], real=False, index=torch.arange(3))
    with pytest.warns(UserWarning, match="3 generated images came twice"):
        got = metric.compute()
    assert close(got, {"fid/tiny": expected(fake=torch.cat([FAKES, FAKES[:3]]))["fid/tiny"]})


def test_one_network_sees_each_batch_once_for_all():
    spy = Spy()
    group = MetricCollection([FrechetDistance(spy), KernelDistance(spy, subset_size=5), PRDC(spy)])
    fill(group, step=20)
    group.compute()
    assert spy.passes == 2 + 3
    assert FrechetDistance().extractor is PRDC().extractor  # of one name
    pictures = REALS.clone()
    metric = FrechetDistance(spy)
    metric.update(pictures, real=True)
    pictures.add_(1)  # in place: other images in the same memory
    metric.update(pictures, real=True)
    assert spy.passes == 7


def test_reset_forgets_and_can_keep_the_reference():
    for keep in (False, True):
        group = fill(collection(keep_reference=keep))
        first = {name: float(value) for name, value in group.compute().items()}
        for _ in range(2):
            group.reset()
            if not keep:
                group.update(REALS, real=True, index=torch.arange(N_REAL))
            group.update(images(2, 30), real=False, index=torch.arange(30))
            assert close(group.compute(), expected(fake=images(2, 30)))
        group.reset()
        if not keep:
            group.update(REALS, real=True, index=torch.arange(N_REAL))
        group.update(FAKES, real=False, index=torch.arange(N_FAKE))
        assert {name: float(value) for name, value in group.compute().items()} == pytest.approx(first, rel=1e-6)


def test_no_random_state_is_touched():
    torch.manual_seed(0)
    np.random.seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    fill(collection()).compute()
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


def test_autocast_changes_nothing():
    group = collection()
    with torch.autocast("cpu", torch.bfloat16):
        fill(group)
        got = group.compute()
    assert close(got, expected())
    assert group["PRDC"].real_rows[-1].dtype == torch.float32


@pytest.mark.parametrize(
    "convert",
    [
        lambda m: m.half(),
        lambda m: m.to(torch.bfloat16),
        lambda m: m.bfloat16(),
        lambda m: m.to(torch.float32),
        lambda m: [metric.set_dtype(torch.float16) for metric in m.values()],
    ],
)
def test_conversions_of_the_module_around_them_leave_states_and_network_alone(convert):
    group = collection()
    group.update(REALS, real=True, index=torch.arange(N_REAL))
    convert(group)
    group.update(FAKES, real=False, index=torch.arange(N_FAKE))
    assert group["FrechetDistance"].real_outer.dtype == torch.float64
    assert group["PRDC"].extractor.net.head.weight.dtype == torch.float32
    assert close(group.compute(), expected())


def test_images_of_inference_mode_can_be_added_to_outside_it():
    group = collection()
    with torch.inference_mode():
        group.reset()
        group.update(REALS, real=True, index=torch.arange(N_REAL))
        group.update(FAKES[:20], real=False, index=torch.arange(20))
    group.update(FAKES[20:], real=False, index=torch.arange(20, N_FAKE))
    assert close(group.compute(), expected())


def test_copies_and_pickles_count_on_their_own():
    group = fill(collection())
    for twin in (group.clone(), pickle.loads(pickle.dumps(group))):
        twin.reset()
        twin.update(REALS, real=True)
        twin.update(images(2, 30), real=False)
        assert close(twin.compute(), expected(fake=images(2, 30)))
    assert close(group.compute(), expected())
    assert group.clone()["PRDC"].extractor is group["PRDC"].extractor


def test_metrics_of_parts_can_be_merged():
    parts = [FrechetDistance(), FrechetDistance()]
    parts[0].update(REALS, real=True)
    parts[1].update(FAKES, real=False)
    parts[0].merge_state(parts[1])
    assert close(parts[0].compute(), {"fid/tiny": expected()["fid/tiny"]})


# In a module


class Model(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(2, 2)
        self.scores = collection(keep_reference=True)

    def validation_step(self, batch: torch.Tensor, batch_idx: int) -> None:
        if self.scores["FrechetDistance"].real_count == 0:
            self.scores.update(REALS, real=True)
        self.scores.update(batch, real=False)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self.scores.compute())
        self.scores.reset()

    def training_step(self, batch: torch.Tensor) -> torch.Tensor:
        return self.layer(torch.ones(1, 2)).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def test_a_module_that_holds_them_saves_and_trains_what_it_did_before():
    model = Model()
    assert set(model.state_dict()) == {"layer.weight", "layer.bias"}
    assert [name for name, _ in model.named_parameters()] == ["layer.weight", "layer.bias"]
    assert list(model.buffers()) == []
    assert not any(isinstance(part, Extractor) for part in model.modules())
    fill(model.scores).compute()
    assert set(model.state_dict()) == {"layer.weight", "layer.bias"}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed", "bf16-true"])
def test_lightning_validates_and_fits_with_them(tmp_path, precision):
    model = Model()
    loader = torch.utils.data.DataLoader(FAKES, batch_size=16)
    trainer = pl.Trainer(
        default_root_dir=tmp_path,
        max_epochs=2,
        accelerator="cpu",
        precision=precision,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's hints on workers and step counts
        [logged] = trainer.validate(model, loader, verbose=False)
        assert logged == pytest.approx(expected(), rel=1e-5)
        trainer.fit(model, loader, loader)
        assert {k: float(v) for k, v in trainer.callback_metrics.items()} == pytest.approx(expected(), rel=1e-5)


# Several processes


def _share(case: str, rank: int, ranks: int, n: int) -> torch.Tensor:
    """Which of n images a rank has, in the order in which it sees them."""
    if ranks == 1:
        return torch.arange(n)
    if case == "padded":  # 34 and 41 are odd or no multiple of 3: some images are dealt twice
        sampler = DistributedSampler(range(n), ranks, rank, shuffle=True, seed=1)
        return torch.tensor(list(sampler))
    if case == "uneven":
        bounds = [0, n // 5, n] if ranks == 2 else [0, n // 5, n // 2, n]
        return torch.arange(bounds[rank], bounds[rank + 1])
    return torch.arange(n)[rank :: ranks - 1] if rank < ranks - 1 else torch.arange(0)  # the last has none


def _process(rank: int, ranks: int, folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=ranks,
        timeout=datetime.timedelta(seconds=60),
    )
    results = {}
    for case in ("uneven", "padded", "one has none"):
        group = collection(keep_reference=True)
        for _ in range(2):  # after a compute, states are the rank's own again
            group.reset()
            for pictures, real in ((REALS, True), (FAKES, False)):
                if real and group["FrechetDistance"].real_count:
                    continue
                mine = _share(case, rank, ranks, len(pictures))
                for places in mine.split(8) if len(mine) else ():
                    group.update(pictures[places], real=real, index=places)
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                found = {name: float(value) for name, value in group.compute().items()}
        results[case] = found, [str(warning.message) for warning in said]
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_every_process_has_the_value_of_one_process(tmp_path, ranks):
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_process, args=(rank, ranks, tmp_path)) for rank in range(ranks)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        if process.exitcode is None:
            process.kill()
    assert [process.exitcode for process in processes] == [0] * ranks
    want = expected()
    everyones = [torch.load(tmp_path / f"{rank}.pt") for rank in range(ranks)]
    for case in everyones[0]:
        found, said = everyones[0][case]
        assert [other[case][0] for other in everyones] == [found] * ranks  # the same bits
        doubled = case == "padded" and any(n % ranks for n in (N_REAL, N_FAKE))
        assert any("came twice" in line for line in said) == doubled
        if doubled:  # a sum cannot tell
            del found["fid/tiny"]
        assert found == pytest.approx({name: want[name] for name in found}, rel=1e-6)


# Mistakes


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: FrechetDistance("inceptoin"), UserError, "unknown extractor 'inceptoin'"),
        (lambda: InceptionScore(Spy()), UserError, "the extractor spy does not classify"),
        (lambda: FrechetDistance().update(REALS.float(), real=True), TypeError, "uint8"),
        (lambda: PRDC().update(REALS, real=True, index=torch.arange(3)), ValueError, "index must be 34 integers"),
        (lambda: PRDC().update(REALS, real=True, index=torch.arange(34) - 1), ValueError, "integers from 0"),
        (lambda: PRDC().update(REALS, real=True, index=torch.rand(34)), ValueError, "not torch.float32"),
        (lambda: fill(KernelDistance()).compute(), UserError, "subsets of 1000 images, a set has only 34"),
        (lambda: fill(InceptionScore(splits=50)).compute(), UserError, "41 images, this score needs at least 50"),
    ],
)
def test_mistakes_are_named(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_missing_side_and_half_an_index_are_named():
    fid, kid = FrechetDistance(), KernelDistance(subset_size=5)
    for metric in (fid, kid):
        metric.update(REALS, real=True, index=torch.arange(N_REAL))
        with pytest.raises(UserError):
            metric.compute()
    kid.update(FAKES, real=False)
    kid.update(FAKES, real=False, index=torch.arange(N_FAKE))
    with pytest.raises(UserError, match="some images came with an index and some without"):
        kid.compute()


def test_they_are_torchmetrics():
    assert all(isinstance(metric, Metric) for metric in collection().values())
