"""Do single latent dimensions follow the known factors of `shapes`, and does moving one move its factor?

    python benchmarks/likelihood/traversals.py RUN [RUN ...]

One table a run. For every factor the dimension that goes with it best is chosen on one half of test images and judged
on the other: |r| of numbers, the share of variance that the categories explain (eta squared) of kinds. Then that one
dimension is moved from two deviations below its mean to two above, as `lgen traverse` does, and the exact decoder
reads what came of it: by how much of its range a number changed (median), how many images became of another kind.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from lightning_gen import checkpoints, images, latent
from lightning_gen.data import decoder
from lightning_gen.data.shapes import SHAPES, Factors, Shapes

NUMBERS = ("x", "y", "size", "rotation")
KINDS = ("shape", "colour", "background")
ROUND = [SHAPES.index(name) for name in ("circle", "ring")]
"""They look the same however they are turned, so their rotation is no factor of the image."""
REACH = 2.0


def correlation(latents: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """|r| of every dimension (N, D) with a number (N,), (D,); 0 for dimensions that do not vary."""
    a, b = latents - latents.mean(0), factor - factor.mean()
    return np.abs(b @ a) / np.maximum(np.linalg.norm(a, axis=0) * np.linalg.norm(b), 1e-12)


def explained(latents: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Eta squared: the share of each dimension's variance that lies between the means of kinds (N,) int64, (D,)."""
    total = np.square(latents - latents.mean(0)).sum(0)
    between = np.zeros_like(total)
    for kind in np.unique(factor):
        members = latents[factor == kind]
        between += len(members) * np.square(members.mean(0) - latents.mean(0))
    return between / np.maximum(total, 1e-12)


def together(latents: np.ndarray, factor: np.ndarray, kinds: bool) -> float:
    """What a linear map of all dimensions, fitted on even rows, tells of odd ones: |r|, or the share of right kinds."""
    known = np.column_stack([latents, np.ones(len(latents))])
    wanted = np.eye(factor.max() + 1)[factor] if kinds else factor
    answer = known[1::2] @ np.linalg.lstsq(known[::2], wanted[::2], rcond=None)[0]
    return float((answer.argmax(1) == factor[1::2]).mean() if kinds else correlation(answer[:, None], factor[1::2])[0])


def moved(before: np.ndarray, after: np.ndarray, kinds: bool, span: float) -> float:
    """The median change of a number, in shares of its range in the data; the share of images of another kind."""
    return float((before != after).mean() if kinds else np.abs(np.median(after - before)) / span)


def rows(run: Path, n: int, bases: int) -> list[list[str]]:
    model, _ = checkpoints.load_model(checkpoints.find(str(run)), "cpu")
    source = Shapes(split="test", size=n)
    pixels, truth = source.read(np.arange(n))["image"], source.factors(np.arange(n))
    codes = torch.cat([latent.latents_of(model, images.from_uint8(part)) for part in pixels.split(250)])
    below, above = ends(model, codes[:bases])
    found = []
    for name in (*NUMBERS, *KINDS):
        kinds, score = name in KINDS, explained if name in KINDS else correlation
        told = ~np.isin(truth["shape"], ROUND) if name == "rotation" else np.ones(n, dtype=bool)
        latents, factor = codes.double().numpy()[told], truth[name][told]
        best = int(score(latents[::2], factor[::2]).argmax())
        held_out = score(latents[1::2], factor[1::2])[best]
        span = 1.0 if kinds else float(np.ptp(factor))
        shown = np.flatnonzero(told[:bases])
        changes = [
            moved(low[name][shown], high[name][shown], kinds, span) for low, high in zip(below, above, strict=True)
        ]
        others = float(np.median(np.delete(changes, best)))
        whole = together(latents, factor, kinds)
        measure = "eta²" if kinds else "\\|r\\|"
        change = f"{changes[best]:.0%} | {others:.0%}"
        found.append([name, measure, f"{held_out:.2f}", str(best), f"{whole:.2f}", change])
    return found


def ends(model: torch.nn.Module, codes: torch.Tensor) -> tuple[list[Factors], list[Factors]]:
    """What the decoder reads of every image with one dimension moved down, and up: a dict for each dimension."""
    read: tuple[list[Factors], list[Factors]] = ([], [])
    for dimension in range(codes.shape[1]):
        walks = torch.stack([latent.traverse(model, code, [dimension], 2, REACH)[0] for code in codes])
        for side in (0, 1):
            made = images.to_uint8(latent.images_of(model, walks[:, side]))
            read[side].append(decoder.decode(made).factors)
    return read


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--n", type=int, default=4000, help="test images")
    parser.add_argument("--bases", type=int, default=48, help="of them, how many are traversed")
    options = parser.parse_args()
    heads = ["factor", "measure", "best dimension", "which", "all dimensions, linear", "moves it by", "others do"]
    for run in options.runs:
        print(f"\n{run.name}\n\n| " + " | ".join(heads) + " |\n|" + "---|" * len(heads))
        for row in rows(run, options.n, options.bases):
            print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
