"""Rows as the runner writes them, made up."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from lightning_gen.benchmark.results import Evaluation, ResultRow
from lightning_gen.metrics.passport import Passport

TINY = Passport(
    extractor="tiny",
    weights_digest="0123456789ab",
    resize="antialiased-bicubic",
    rounding="nearest",
    n_fake=2000,
    reference_digest="feedfeedfeed",
    n_reference=50000,
    split="train",
    settings={"is.splits": 10, "kid.subset_size": 1000, "prdc.k": 3},
    reference="cifar10-jpeg.tar.xz (JPEG)",
    averaged=True,
)

OFFICIAL = dataclasses.replace(
    TINY,
    extractor="inception-v3-compat",
    resize="tf1-bilinear",
    n_fake=50000,
    reference="CIFAR-10",
    reference_digest="c1fa10c1fa10",
)
"""The protocol of mimicry's table."""


def evaluation(
    fid: float | None, weights: str = "final", passport: Passport = TINY, images_seen: int = 400_000, **scores: float
) -> Evaluation:
    label = passport.extractor
    named = {f"{name}/{label}": value for name, value in scores.items()}
    return Evaluation(weights, images_seen, {f"fid/{label}": fid, **named}, passport)


def row(entry: str = "dcgan", seed: int = 0, fid: float | None = 1.8, **changes: Any) -> ResultRow:
    made = ResultRow(
        suite="cpu",
        entry=entry,
        model=entry.split("-")[0],
        settings={"preset": None, "model.width": 32},
        seed=seed,
        state="done",
        kimg=400.0,
        seconds=1260.0,
        images_per_second=575.0,
        parameters={"generator": 3_574_656, "discriminator": 656_000},
        machine="2 CPU cores, AMX",
        finished_at=f"2026-11-23T03:00:{seed:02}+00:00",
        evaluations=(evaluation(fid),),
        curve=({"images_seen": 0, "fid/tiny": 10.3 + seed}, {"images_seen": 400_000, "fid/tiny": fid}),
        grid=f"cpu/{entry}-{seed}.png",
    )
    return dataclasses.replace(made, **changes)


def failed(entry: str, seed: int, reason: str | None) -> ResultRow:
    return row(entry, seed, state="failed", reason=reason, evaluations=(), grid=None, images_per_second=None)


def table(text: str, number: int = 0) -> list[Mapping[str, str]]:
    """The n-th Markdown table as dicts from column head to cell."""
    tables: list[list[list[str]]] = []
    inside = False
    for line in text.splitlines():
        if line.startswith("|"):
            if not inside:
                tables.append([])
            tables[-1].append([cell.strip() for cell in line.strip("|").split(" | ")])
        inside = line.startswith("|")
    head, _, *rows = tables[number]
    return [dict(zip(head, cells, strict=True)) for cells in rows]
