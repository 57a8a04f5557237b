"""What a leaderboard says: protocols in words, heads of columns, Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from lightning_gen.benchmark.published import OtherProtocol, Protocol, Published
from lightning_gen.metrics.directions import BETTER
from lightning_gen.metrics.passport import Passport

LEGEND = (
    "Mean ± standard deviation over seeds; n=1 has none. Weights: `final` is the averaged model at the end, `best` the "
    "averaged model of the checkpoint with the best score in training (chosen by looking, so it flatters), `raw` the "
    "weights themselves at the end. Minutes are of training."
)


def short(name: str) -> str | None:
    """`fid/tiny` is `fid`; None for what is no column (deviations over splits, IS of one split)."""
    parts = name.split("/")
    return parts[0] if len(parts) < 3 else None


def heading(metric: str, whole: str = "") -> str:
    """`FID/tiny ↓` for the score `fid/tiny`. Plain `FID` is Inception's with the usual resize, as in papers; with the
    resize `clean` it is `FID/clean`."""
    label = whole.partition("/")[2].removeprefix("inception-v3-compat").lstrip("-")
    whose = f"/{label}" if label else ""
    name = metric.upper() if metric in ("fid", "is", "kid", "psnr", "ssim", "lpips", "ifid") else metric
    return f"{name.replace('_', ' ')}{whose} {BETTER.get(metric, '')}".strip()


def title(passport: Passport) -> str:
    """A protocol in the words that tell it from its neighbours."""
    return f"{passport.extractor}, {passport.n_fake:,} images against {passport.reference or 'an unnamed reference'}"


def sentence(passport: Passport) -> str:
    """All of a protocol in words."""
    reference = f"{passport.reference or 'unnamed'} (content {passport.reference_digest[:8]})"
    parts = [
        f"extractor {passport.extractor} (weights {passport.weights_digest[:8]})",
        f"resize {passport.resize}",
        passport.dtype,
        f"{passport.n_fake:,} generated images, rounding {passport.rounding}",
        f"reference {reference}, split {passport.split}, {passport.n_reference:,} images",
        pairs(passport.settings),
    ]
    return "; ".join(part for part in parts if part)


def stated(protocol: Protocol) -> str:
    """A published protocol in words, as far as it is known."""
    parts = [
        f"extractor {protocol.extractor}" if protocol.extractor else "",
        f"resize {protocol.resize}" if protocol.resize else "",
        f"{protocol.n_fake:,} generated images" if protocol.n_fake else "",
        f"reference {protocol.reference}" if protocol.reference else "",
        f"split {protocol.split}" if protocol.split else "",
        f"{protocol.n_reference:,} reference images" if protocol.n_reference else "",
        f"is.splits {protocol.is_splits}" if protocol.is_splits else "",
    ]
    return "Stated: " + ("; ".join(part for part in parts if part) or "nothing")


def why(reasons: Sequence[str], at_most: int = 3) -> str:
    """The first reasons."""
    more = f"; and {len(reasons) - at_most} more" if len(reasons) > at_most else ""
    return "; ".join(reasons[:at_most]) + more


def as_published(row: Published, metric: str) -> str:
    """The published number with its published digits."""
    return f"{row.scores[metric]} ± {row.spread[metric]}" if metric in row.spread else str(row.scores[metric])


def published_cells(other: OtherProtocol) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table of published numbers."""
    metrics = [name for name in BETTER if any(name in row.scores for row in other.rows)]
    said = {True: "yes", False: "no", None: "not stated"}
    rows = [
        [
            row.method,
            said[row.conditional],
            row.checkpoint or "not stated",
            *(as_published(row, m) if m in row.scores else "-" for m in metrics),
            row.notes or "-",
        ]
        for row in other.rows
    ]
    return ["method", "conditional", "weights", *map(heading, metrics), "notes"], rows


def grid(head: Sequence[str], rows: Iterable[Sequence[str]], left: Sequence[str] = ()) -> str:
    """A Markdown table; columns are numbers, to the right, but for those in `left`."""
    rules = ["---" if name in left else "---:" for name in head]
    return "\n".join("| " + " | ".join(map(escape, row)) + " |" for row in [list(head), rules, *map(list, rows)])


def bullets(lines: Iterable[str]) -> str:
    """A Markdown list."""
    return "\n".join(f"- {' '.join(line.split())}" for line in lines)


def escape(text: str) -> str:
    """Of one cell: a bar would end it, a line break the table."""
    return " ".join(text.replace("|", "\\|").split())


def pairs(values: Mapping[str, Any]) -> str:
    """`is.splits 10, prdc.k 3`, without what is not set."""
    return ", ".join(f"{name} {value}" for name, value in sorted(values.items()) if value is not None)
