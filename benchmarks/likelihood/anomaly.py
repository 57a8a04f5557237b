"""How well a model tells images of another kind from held-out ones of its own: the area under the ROC curve.

    python benchmarks/likelihood/anomaly.py RUN [RUN ...] --other PICTURES [--n 500]

An image's score is its negative log-likelihood where the model has one, and the squared error of its reconstruction
where it has an encoder. The model's own kind are test images of `shapes`. 0.5 is chance; below it the other kind looks
likelier.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lightning_gen import checkpoints, images, registry
from lightning_gen.data.shapes import Shapes
from lightning_gen.module import GenerativeModule


def auc(own: Tensor, other: Tensor) -> float:
    """The chance that an image of the other kind has the larger score; ties count half. Mann & Whitney 1947."""
    larger, equal = (other[:, None] > own).double(), (other[:, None] == own).double()
    return float((larger + equal / 2).mean())


@torch.no_grad()
def scores(model: GenerativeModule, pixels: Tensor, draws: int) -> dict[str, Tensor]:
    found: dict[str, list[Tensor]] = {}
    for first in range(0, len(pixels), 50):
        part = pixels[first : first + 50]
        if type(model).likelihood is not GenerativeModule.likelihood:
            nll = model.score_images({"image": part}, start=first, samples=draws)["nll"]
            found.setdefault("negative log-likelihood", []).append(nll)
        if type(model).encode is not GenerativeModule.encode:
            with model.asked():
                shown = images.from_uint8(part)
                error = (model.decode(model.encode(shown)) - shown).square().flatten(1).mean(1)
            found.setdefault("reconstruction error", []).append(error)
    return {name: torch.cat(values) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--other", required=True, help="folder or archive of images of another kind")
    parser.add_argument("--n", type=int, default=500)
    parser.add_argument("--draws", type=int, default=10, help="importance samples of a VAE")
    options = parser.parse_args()
    rows = np.arange(options.n)
    kinds = {
        options.other: registry.make("folder", "data", root=options.other, resolution=32, channels=3, split="test"),
        "shapes, any size, place and rotation": Shapes(split="test", size=options.n, variation="full"),
    }
    own = Shapes(split="test", size=options.n).read(rows)["image"]
    print("| model | score | the other kind | AUC |\n|---|---|---|---:|")
    for run in options.runs:
        model, origin = checkpoints.load_model(checkpoints.find(str(run)), "cpu")
        usual = scores(model, own, options.draws)
        for kind, source in kinds.items():
            for name, values in scores(model, source.read(rows)["image"], options.draws).items():
                print(f"| {origin['model']} | {name} | {Path(kind).name} | {auc(usual[name], values):.3f} |")


if __name__ == "__main__":
    main()
