"""Runs a suite row by row: train in a process of its own, score, write one line. What was killed goes on."""

from __future__ import annotations

import copy
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from lightning_gen import files, records, registry
from lightning_gen.benchmark.results import Evaluation, ResultRow
from lightning_gen.benchmark.suite import Row, Suite
from lightning_gen.errors import UserError

CURVE = ("fid/", "is/", "mode_coverage", "modes_covered", "on_manifold", "label_accuracy")
"""Scores in training that a row keeps as its curve, by how their names begin."""

GRID = 64
"""Samples in the picture of a row."""


@dataclass(frozen=True)
class Place:
    """Where the runs and the pictures of a suite go."""

    runs: Path
    """One run directory a row, `ENTRY-SEED-FINGERPRINT`."""
    pictures: Path

    def run(self, row: Row) -> Path:
        """The run directory of a row; other settings are another directory."""
        return self.runs / f"{row.entry}-{row.seed}-{row.fingerprint}"


def run_row(suite: Suite, row: Row, place: Place, device: str) -> ResultRow:
    """Train and score one row. What goes wrong becomes a failed row with its reason, never an exception."""
    began = time.monotonic()
    run = place.run(row)
    try:
        _train(row, run)
        with registry.blamed(row.settings.model, "models", "cannot be scored"):
            model, evaluations = _score(suite, row, run, device)
    except UserError as reason:
        return _result(suite, row, state="failed", reason=str(reason).splitlines()[0], run=run)
    picture = place.pictures / f"{row.entry}-{row.seed}.png"
    _picture(suite, run, picture)
    return _result(
        suite,
        row,
        state="done",
        run=run,
        evaluations=evaluations,
        parameters=_parameters(model),
        elapsed=time.monotonic() - began,
        grid=f"{place.pictures.name}/{picture.name}",
    )


def _train(row: Row, run: Path) -> None:
    """`lgen fit` in a process of its own, so that a crash is one row's; goes on where an earlier one was stopped."""
    from lightning_gen import experiment

    if _images_trained(run) >= row.settings.values["kimg"] * 1000:
        return
    command = [sys.executable, "-m", "lightning_gen", "fit"]
    if (run / "run.yaml").is_file():
        command += ["--resume", str(run)]
    else:
        run.parent.mkdir(parents=True, exist_ok=True)
        config = run.with_name(f"{run.name}.yaml")  # the name of an entry may have dots
        # a file says everything as if a user had: also what the data decides, so that has to be right
        settled = copy.deepcopy(row.settings)
        experiment.settle(settled, experiment.build_source(settled))
        files.write(config, settled.to_yaml())
        command += ["--config", str(config), "--out", str(run)]
    log = run.with_name(f"{run.name}.log")
    with log.open("a", encoding="utf-8") as output:
        before = log.stat().st_size  # earlier starts are no reason of this one's end
        code = _ended(subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT))
    if code:
        written = log.read_bytes()[before:].decode(errors="replace")
        said = [line.strip() for line in written.splitlines() if line.strip()] or ["no output"]
        verdicts = [line for line in said if line.startswith("stopped by the watch")]
        raise UserError(verdicts[-1] if verdicts else f"lgen fit ended with code {code}: {said[-1]}")


def _ended(training: subprocess.Popen[bytes]) -> int:
    """The exit code of a training. Ctrl-C reaches it too, and that it saves is waited for; a second one kills it."""
    try:
        return training.wait()
    except KeyboardInterrupt:
        print("the run in progress is being saved; Ctrl-C again kills it", file=sys.stderr, flush=True)
        training.wait()
        raise
    finally:
        training.kill()  # one that has ended is left alone


def _images_trained(run: Path) -> int:
    """The clock of the run's last checkpoint, 0 where there is none."""
    from lightning_gen import checkpoints

    last = run / "checkpoints" / "last.ckpt"
    if not last.is_file():
        return 0
    return checkpoints.images_seen(checkpoints.read(last))


def _score(suite: Suite, row: Row, run: Path, device: str) -> tuple[Any, list[Evaluation]]:
    """The final and the best averaged weights and the raw ones, each under every protocol of the suite."""
    from lightning_gen import checkpoints, scoring

    last, best = run / "checkpoints" / "last.ckpt", run / "checkpoints" / "best.ckpt"
    model, _ = checkpoints.load_model(last)
    subjects = [("final", last, False)]
    if best.is_file() and checkpoints.load_model(best)[0].clock.images != model.clock.images:
        subjects.append(("best", best, False))
    if model.has_averages:
        subjects.append(("raw", last, True))
    chosen = scoring.extractors(suite.protocols, None, None, None, device)
    found = []
    panels: list[Any] = []
    for weights, checkpoint, raw in subjects:
        with scoring.model_subject(checkpoint, raw=raw, device=device, split=suite.split) as subject:
            if not panels:
                source, _ = scoring.reference_of(subject, None, suite.split)
                panels = [scoring.Panel.of(source, extractor, suite.metrics) for extractor in chosen]
            images_seen = checkpoints.load_model(checkpoint)[0].clock.images
            for scored in scoring.score(subject, panels, suite.n, warn=lambda doubt: None):
                found.append(Evaluation(weights, images_seen, scored.scores, scored.passport))
    return model, found


def _picture(suite: Suite, run: Path, picture: Path) -> None:
    """Samples; of a model that translates each between what it was made of and, where there is one, what it should
    be."""
    from lightning_gen import images, scoring

    with scoring.model_subject(run / "checkpoints" / "last.ckpt", split=suite.split) as subject:
        drawn = subject.draw(GRID, 0)
        source, _ = scoring.reference_of(subject, None, suite.split)
    if len(source.views) == 2:
        shown_rows = source.examples(GRID)
        before, after = (shown_rows[view] for view in source.views)
        shown = images.beside([before, drawn, *([after] if source.paired else [])])
    else:
        shown = images.sheet(drawn, source.kind)
    images.save_png(images.enlarge(shown, 256), picture)


def _parameters(model: Any) -> dict[str, int]:
    return {
        name: sum(p.numel() for p in network.parameters())
        for name, network in model.named_children()
        if not name.endswith("_ema")
    }


def _result(
    suite: Suite,
    row: Row,
    *,
    state: str,
    run: Path,
    reason: str | None = None,
    evaluations: Sequence[Evaluation] = (),
    parameters: dict[str, int] | None = None,
    elapsed: float = 0.0,
    grid: str | None = None,
) -> ResultRow:
    values = row.settings.values
    curve, speed, seen = _history(run)
    kimg = values["kimg"] if state == "done" else seen / 1000
    return ResultRow(
        suite=row.suite,
        entry=row.entry,
        model=row.settings.model,
        settings=_told(row),
        resolved=_resolved(row),
        seed=row.seed,
        state=state,
        reason=reason,
        kimg=kimg,
        seconds=round(kimg * 1000 / speed, 1) if speed else round(elapsed, 1),
        images_per_second=speed,
        parameters=parameters or {},
        machine=machine(),
        finished_at=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        evaluations=tuple(evaluations),
        curve=tuple(curve),
        grid=grid,
        fingerprint=row.fingerprint,
        metrics=suite.metrics,
        split=_split(suite, row),
    )


def _split(suite: Suite, row: Row) -> str | None:
    """The part of the data that the row is scored on; None where the data has no parts."""
    return suite.split or row.settings.values["data"].get("split")


def _resolved(row: Row) -> dict[str, Any]:
    """Every setting that shapes the weights. Seeds that differ in one are no seeds of one entry."""
    values = row.settings.values
    groups = ("model", "data", "update", "augment")
    shaping = {f"{group}.{key}": value for group in groups for key, value in values[group].items()}
    return shaping | {"trainer.precision": values["trainer"]["precision"]}


def _told(row: Row) -> dict[str, Any]:
    """What of the settings a reader of the table wants: what was asked for beyond the preset, as far as it shapes the
    weights."""
    told: dict[str, Any] = {"preset": row.settings.preset} if row.settings.preset else {}
    told |= {name: value for name, value in _resolved(row).items() if name in row.settings.explicit}
    if row.settings.plugins:
        told["plugin"] = ", ".join(f"{plugin['class']} {plugin['digest']}" for plugin in row.settings.plugins)
    return told


def _history(run: Path) -> tuple[list[dict[str, float]], float, int]:
    """The scores during training, how many images a second it took, and how many it saw by its last record."""
    path = run / "metrics.jsonl"
    if not path.is_file():
        return [], 0.0, 0
    curve, speeds, seen = [], [], 0
    for record in records.read(path):
        seen = record["images_seen"]
        kept = {key: value for key, value in record.items() if key.startswith(CURVE)}
        if kept:
            curve.append({"images_seen": record["images_seen"], **kept})
        if record.get("images_per_second"):
            speeds.append(record["images_per_second"])
    # a harmonic mean: records are equally many images apart, so it is images by time
    return curve, round(statistics.harmonic_mean(speeds), 1) if speeds else 0.0, seen


def machine() -> str:
    """What computes here, in a few words: GPU if there is one, else the number of cores and, if it is not float32, what
    they compute in where nothing else is asked for."""
    import torch

    from lightning_gen import execution

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(0)}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    kind = [platform.machine(), torch.backends.cpu.get_cpu_capability()]
    kind += ["bf16"] if execution.fast_precision("cpu") == "bf16-mixed" else []
    return f"{cores} CPU core{'s' if cores > 1 else ''} ({', '.join(kind)})"


def pending(suite: Suite, rows: Sequence[Row], done: Sequence[ResultRow], measures: Set[tuple[str, str]]) -> list[Row]:
    """The rows that have no line yet, or one that failed, or one of other settings or scores than the suite's now.

    Args:
        suite: What is to be scored.
        rows: All of them.
        done: The lines that there are.
        measures: Extractor and resize of each protocol of the suite.
    """
    finished = {(result.entry, result.seed, result.fingerprint): result for result in done if result.state == "done"}

    def is_done(row: Row) -> bool:
        result = finished.get((row.entry, row.seed, row.fingerprint))
        return result is not None and _is_scored(suite, row, result, measures)

    return [row for row in rows if not is_done(row)]


def _is_scored(suite: Suite, row: Row, result: ResultRow, measures: Set[tuple[str, str]]) -> bool:
    """Whether a line holds the scores of the suite's number of samples, split, metrics and protocols."""
    passports = [evaluation.passport for evaluation in result.evaluations]
    found = {(passport.extractor, passport.resize) for passport in passports if passport.n_fake == suite.n}
    # what is no picture is seen by no extractor
    if found != {("none", "none")} and not found >= measures:
        return False
    split = _split(suite, row)
    if result.metrics:
        return result.split == split and {*suite.metrics} <= {*result.metrics}
    # a line from before these were kept: its scores do not tell what was asked for from what the data allows, and a
    # folder without parts is all of it
    same = {"train", "all"} if split == "train" else {split}
    return split is None or {passport.split for passport in passports} <= same


def untrained(row: Row, place: Place) -> float:
    """The share of the row's budget that no checkpoint of it holds: 0 where only scores are missing."""
    return max(0.0, 1 - _images_trained(place.run(row)) / (row.settings.values["kimg"] * 1000))


def forecast(row: Row, done: Sequence[ResultRow]) -> float:
    """Seconds that all of a row's training takes: from lines of the same entry on a machine like this one, else from
    steps taken now at three points of the budget (a growing network is slower at its end).

    Raises:
        UserError: the data or the model does not allow the run.
    """
    speeds = [
        result.images_per_second
        for result in done
        if result.entry == row.entry and result.machine == machine() and result.images_per_second
    ]
    with registry.blamed(row.settings.model, "models", "cannot be trained"):
        speed = statistics.fmean(speeds) if speeds else _measure(row)
    return row.settings.values["kimg"] * 1000 / speed


STEPS = 6
"""Steps that are timed at each point, after as many that are not."""


def _measure(row: Row) -> float:
    """Images per second, the harmonic mean over the budget."""
    import torch

    from lightning_gen import experiment, launch
    from lightning_gen.data.module import RunData

    settings = copy.deepcopy(row.settings)  # building a model settles it, and the row's fingerprint is of what it was
    values = settings.values
    budget = round(values["kimg"] * 1000)
    source = experiment.build_source(settings)
    speeds = []
    for share in (0.1, 0.5, 0.9):
        torch.manual_seed(values["seed"])
        model = experiment.build_model(settings, source)
        model.clock.budget, model.clock.images = budget, round(share * budget)
        data = RunData(source, values["data"]["batch_size"], model.critic_steps, values["seed"])
        short = {
            "kimg": 2 * STEPS * data.images_per_step / 1000,
            "trainer": values["trainer"] | {"devices": 1, "num_nodes": 1, "strategy": "auto"},
        }
        watch = _StopWatch()
        with launch.quiet():
            launch.trainer(values | short, Path(), data, [watch]).fit(model, datamodule=data)
        speeds.append(STEPS * data.images_per_step / watch.seconds)
    return statistics.harmonic_mean(speeds)


def _StopWatch() -> Any:  # noqa: N802 - a class that needs Lightning, which is imported late
    import pytorch_lightning as pl
    import torch

    class StopWatch(pl.Callback):
        """Times the second half of the steps."""

        seconds = math.nan

        def on_train_batch_end(self, trainer: pl.Trainer, *args: Any) -> None:
            if trainer.global_step in (STEPS, 2 * STEPS):
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                now = time.perf_counter()
                self.seconds = now - getattr(self, "_from", now)
                self._from = now

    return StopWatch()


Launcher = Callable[[Suite, Sequence[Row], Place, str], Iterator[ResultRow]]


def one_after_the_other(suite: Suite, rows: Sequence[Row], place: Place, device: str) -> Iterator[ResultRow]:
    """Rows in their order, here."""
    for row in rows:
        yield run_row(suite, row, place, device)


def over_ray(suite: Suite, rows: Sequence[Row], place: Place, device: str) -> Iterator[ResultRow]:
    """Rows spread over a Ray cluster, one GPU or one core each, as they finish.

    Every machine of the cluster must see the run directories under one path.

    Raises:
        UserError: Ray is not installed.
    """
    try:
        import ray
    except ImportError as reason:
        raise UserError("--launcher ray needs Ray: pip install 'lightning-gen[ray]'") from reason
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    gpus = 1 if device.startswith("cuda") else 0
    absolute = Place(place.runs.resolve(), place.pictures.resolve())
    remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=0)(run_row)
    waiting = [remote.remote(suite, row, absolute, device) for row in rows]
    while waiting:
        ready, waiting = ray.wait(waiting)
        yield from ray.get(ready)


LAUNCHERS: dict[str, Launcher] = {"local": one_after_the_other, "ray": over_ray}
