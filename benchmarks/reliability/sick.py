"""Runs made sick on purpose: does the watch stop them, and how soon? And does it leave healthy runs alone?

    python benchmarks/reliability/sick.py [--seeds 5] [--only KIND,…] [--kimg-share 0.1] [--out DIR]
    python benchmarks/reliability/sick.py --healthy MODEL,… [--seeds 1]

Six sicknesses, each an ordinary `lgen fit` of a quick preset with one thing made wrong. A run is given its whole budget
and ended after `--kimg-share` of it: schedules, intervals and rules are those of the whole run. `stopped` counts the
runs that the watch ended until then, `at` is the share of the budget at which it did, median and latest, `rules` says
by which. `--healthy` runs the presets themselves to their end and counts those that were stopped.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from forked import finish, start

from lightning_gen import registry
from lightning_gen.module import GenerativeModule

Step = Callable[[GenerativeModule, dict[str, Any], int], Any]


@dataclass(frozen=True)
class Sickness:
    """One thing that is wrong: settings, or a training step put in the place of the model's own."""

    about: str
    model: str
    settings: tuple[str, ...] = ()
    spoil: Callable[[Step], Step] | None = None


def nan_in_one_batch(step: Step) -> Step:
    """Every image of the batch at 5 % of the budget is NaN."""

    def sick(self: GenerativeModule, batch: dict[str, Any], batch_idx: int) -> Any:
        begin, size = round(0.05 * self.clock.budget), len(batch["image"])
        if begin <= self.clock.images < begin + size:
            batch = {**batch, "image": batch["image"] * float("nan")}
        return step(self, batch, batch_idx)

    return sick


def labels_all_zero(step: Step) -> Step:
    """What a folder that is one level too deep does."""

    def sick(self: GenerativeModule, batch: dict[str, Any], batch_idx: int) -> Any:
        batch["label"].zero_()  # in place: the watch counts the labels of the same batch
        return step(self, batch, batch_idx)

    return sick


def inverted_generator_loss(step: Step) -> Step:
    """The generator learns to be recognised: its gradients point the other way."""

    def sick(self: GenerativeModule, batch: dict[str, Any], batch_idx: int) -> Any:
        handles = [p.register_hook(lambda gradient: -gradient) for p in self.generator.parameters()]
        try:
            return step(self, batch, batch_idx)
        finally:
            for handle in handles:
                handle.remove()

    return sick


def _hundredfold(model: str) -> Sickness:
    lr = 100 * registry.load(model).presets["quick"]["lr"]
    return Sickness(f"--model.lr {lr:g}", model, ("--model.lr", str(lr)))


KINDS = {
    **{f"learning rate x 100, {model}": _hundredfold(model) for model in ("wgan-gp", "sngan", "r3gan", "stylegan2")},
    "learning rate x 100, dcgan": _hundredfold("dcgan"),
    "critic without penalty, 10 steps": Sickness(
        "--model.penalty 0 --model.critic_steps 10", "wgan-gp", ("--model.penalty", "0", "--model.critic_steps", "10")
    ),
    "discriminator without penalty, 10 steps": Sickness(
        "--model.penalty 0 --model.critic_steps 10",
        "dcgan",
        ("--model.penalty", "0", "--model.critic_steps", "10"),
    ),
    "NaN in one batch": Sickness("at 5 % of the budget", "dcgan", spoil=nan_in_one_batch),
    "one latent dimension": Sickness("--model.latent_dim 1", "dcgan", ("--model.latent_dim", "1")),
    "labels all zero": Sickness("a conditional model", "cgan-projection", spoil=labels_all_zero),
    "inverted generator loss": Sickness("gradients times -1", "dcgan", spoil=inverted_generator_loss),
}


@dataclass(frozen=True)
class Outcome:
    """How one run went."""

    stopped_at: float | None
    """Share of the budget; None where nobody stopped it."""
    rule: str | None
    message: str
    warnings: tuple[str, ...] = ()


def run(model: str, settings: tuple[str, ...], seed: int, folder: Path, until: float, spoil: Any = None) -> Outcome:
    """One fit, ended after `until` of its budget."""
    named = ["--model", model, "--preset", "quick", "--seed", str(seed), "--out", str(folder)]
    quiet = ["--logger", "none", "--metrics.every_kimg", "0", "--samples.count", "16"]
    log = Path(f"{folder}.log")
    code = finish(start(*named, *quiet, *settings, log=log, first=lambda: _shorten(registry.load(model), until, spoil)))
    events = folder / "events.jsonl"
    heard = [json.loads(line) for line in events.read_text().splitlines()] if events.exists() else []
    fatal = next((event for event in heard if event["severity"] == "stop"), None)
    if code not in (0, 3) or (code == 3) != (fatal is not None):
        raise SystemExit(f"{folder}: exit code {code}, see {log}")
    warned = tuple(event["rule"] for event in heard if event["severity"] != "stop")
    if fatal is None:
        return Outcome(None, None, "", warned)
    budget = registry.load(model).recipes["quick"]["kimg"] * 1000
    return Outcome(fatal["images_seen"] / budget, fatal["rule"], fatal["message"], warned)


def _shorten(model: Any, until: float, spoil: Callable[[Step], Step] | None) -> None:
    """Spoil the training step of the class, and end its runs early: in this process only, which is a fork."""
    step: Step = spoil(model.training_step) if spoil else model.training_step

    def ended(self: GenerativeModule, batch: dict[str, Any], batch_idx: int) -> Any:
        if self.clock.images >= until * self.clock.budget:
            self.trainer.should_stop = True
        return step(self, batch, batch_idx)

    model.training_step = ended


def row(name: str, about: str, outcomes: list[Outcome]) -> str:
    """One line of the table."""
    shares = [o.stopped_at for o in outcomes if o.stopped_at is not None]
    at = f"{statistics.median(shares):.1%}, {max(shares):.1%}" if shares else "-"
    rules = ", ".join(f"{rule} {n}x" for rule, n in Counter(o.rule for o in outcomes if o.rule).most_common())
    return f"| {name} | {about} | {len(shares)} of {len(outcomes)} | {at} | {rules or '-'} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", help="kinds, by the beginnings of their names, comma-separated")
    parser.add_argument("--kimg-share", type=float, default=0.1)
    parser.add_argument("--healthy", help="models to run as they are, comma-separated")
    parser.add_argument("--out", type=Path, help="keeps the runs here")
    parser.add_argument("settings", nargs="*", help="after --: more settings of every run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.out or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        print("| run | | stopped | at (median, latest) | rules |\n|---|---|---|---|---|")
        if arguments.healthy:
            for model in arguments.healthy.split(","):
                runs = [
                    run(model, tuple(arguments.settings), seed, folder / f"healthy-{model}-{seed}", 1.0)
                    for seed in range(arguments.seeds)
                ]
                print(row(model, "quick", runs), flush=True)
            return
        for name, kind in KINDS.items():
            if arguments.only and not name.startswith(tuple(arguments.only.split(","))):
                continue
            runs = []
            for seed in range(arguments.seeds):
                where = folder / f"{name.replace(' ', '-').replace(',', '')}-{seed}"
                settings = (*kind.settings, *arguments.settings)
                runs.append(run(kind.model, settings, seed, where, arguments.kimg_share, kind.spoil))
                print(f"{name}, seed {seed}: {runs[-1]}", file=sys.stderr, flush=True)
            print(row(name, f"{kind.model}, {kind.about}", runs), flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
