"""What the categories of an `infogan` mean on `shapes`: which factor of an image follows the code it was drawn from.

python benchmarks/shapes/codes.py RUN [RUN …] [--n 2000] [--sheet FILE.png]

Nobody told the model of shapes or colours. Of images drawn with each category as often, read by the decoder, whether it
accepts them or not: the mutual information of category and factor, as a share of the factor's entropy, and the share of
images whose factor is the one that their category draws most, beside that share without a code.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from lightning_gen import checkpoints, images
from lightning_gen.data.decoder import decode
from lightning_gen.data.shapes import BACKGROUNDS, COLOURS, SHAPES


def entropy(counts: np.ndarray) -> float:
    """Of frequencies, in nats."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def told_by(category: np.ndarray, factor: np.ndarray, kinds: int) -> tuple[float, float, float]:
    """The share of the factor's entropy that the category tells, the share of images that it foretells, and the share
    of the most frequent kind."""
    table = np.zeros((category.max() + 1, kinds))
    np.add.at(table, (category, factor), 1)
    whole = entropy(table.sum(0))
    shared = entropy(table.sum(1)) + whole - entropy(table.ravel())
    return shared / max(whole, 1e-9), table.max(1).sum() / table.sum(), table.sum(0).max() / table.sum()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--n", type=int, default=2000, help="images of each run")
    parser.add_argument("--sheet", help="eight images of each category of the last run, one row each")
    options = parser.parse_args()
    print("| run | factor | told by the category | right by the category's most frequent | most frequent of all |")
    print("|---|---|---:|---:|---:|")
    for run in options.runs:
        model, _ = checkpoints.load_model(checkpoints.find(run))
        categories = model.hparams.categories
        each = options.n // categories
        drawn = [images.to_uint8(model.sample(each, seed=5, category=category)) for category in range(categories)]
        decoded = [decode(pixels) for pixels in drawn]
        category = np.repeat(np.arange(categories), each)
        for factor, kinds in (("shape", len(SHAPES)), ("colour", len(COLOURS)), ("background", len(BACKGROUNDS))):
            found = np.concatenate([one.factors[factor] for one in decoded])
            told, right, plain = told_by(category, found, kinds)
            print(f"| {run} | {factor} | {told:.0%} | {right:.0%} | {plain:.0%} |", flush=True)
    if options.sheet:
        rows = torch.cat([pixels[:8] for pixels in drawn])
        images.save_png(images.enlarge(images.grid(rows)), Path(options.sheet))


if __name__ == "__main__":
    main()
