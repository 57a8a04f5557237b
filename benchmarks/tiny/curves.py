"""Does the Fréchet distance under the extractor `tiny` rise with damage? Noise, blur, missing classes, foreign images.

    python benchmarks/tiny/curves.py --data CIFAR --foreign MNIST --figure docs/figures/tiny-fid-curves.png

The reference is 10,000 images of the train split (every fifth), the damaged images are the test split's 10,000. The
first level of each curve is no damage: what two halves of one distribution are apart. Archives as for train.py. Exits
with 1 when a curve falls anywhere. `--readme FILE` writes the table there, with this command and the accuracy.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from matplotlib.figure import Figure
from safetensors import safe_open
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur
from train import read_archive

import lightning_gen.metrics.extractors as extractors
from lightning_gen.metrics.frechet import FeatureStatistics, frechet_distance_from_statistics

WEIGHTS = Path(extractors.__file__).with_name("tiny.safetensors")
Damage = Callable[[Tensor, float], Tensor]


def noise(images: Tensor, sigma: float) -> Tensor:
    random = torch.Generator().manual_seed(0)
    drawn = torch.randn(images.shape, generator=random)
    return (images + sigma * drawn).round_().clamp_(0, 255).to(torch.uint8)


def blur(images: Tensor, sigma: float) -> Tensor:
    if sigma == 0:
        return images
    size = 2 * int(3 * sigma + 0.999) + 1
    return torch.cat([gaussian_blur(part, size, sigma) for part in images.split(1000)])


def statistics(extractor: extractors.Extractor, images: Tensor) -> FeatureStatistics:
    """images: (N, 3, 32, 32) uint8."""
    found = FeatureStatistics.empty(extractor.feature_dim)
    for part in images.split(500):
        found.update(extractor(part).features)
    return found


def curves(data: Path, foreign: Path) -> dict[str, tuple[str, list[float], list[float]]]:
    """For each kind of damage the unit of its levels, the levels and the distances."""
    extractor = extractors.Tiny()
    train, _, _ = read_archive(data, "train")
    test, labels, classes = read_archive(data, "test")
    strangers, _, _ = read_archive(foreign, "test")
    reference = statistics(extractor, train[::5].permute(0, 3, 1, 2))
    test, strangers = test.permute(0, 3, 1, 2), strangers.permute(0, 3, 1, 2)
    shuffled = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))  # the archive is sorted by class

    def without_classes(images: Tensor, dropped: float) -> Tensor:
        kept = torch.nonzero(labels >= dropped)[:, 0]
        # As many images as before, so that no part of the rise is the bias of a smaller set.
        return images[kept.repeat(len(images) // len(kept) + 1)[: len(images)]]

    def with_strangers(images: Tensor, percent: float) -> Tensor:
        replaced = round(len(images) * percent / 100)
        return torch.cat([images[shuffled[replaced:]], strangers[shuffled[:replaced]]])

    kinds: dict[str, tuple[str, list[float], Damage]] = {
        "Gaussian noise": ("deviation, grey levels", [0, 2, 4, 8, 16, 32, 64], noise),
        # 0.3 pixels are less than the rounding to bytes: 3.5 % of the values change, by one level.
        "Gaussian blur": ("deviation, pixels", [0, 0.35, 0.5, 0.75, 1, 1.5, 2, 3], blur),
        "dropped classes": (f"classes left out of {len(classes)}", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9], without_classes),
        "foreign images": ("percent MNIST digits", [0, 1, 2, 5, 10, 20, 50, 100], with_strangers),
    }
    found = {}
    for name, (unit, levels, damage) in kinds.items():
        values = [
            frechet_distance_from_statistics(reference, statistics(extractor, damage(test, level))) for level in levels
        ]
        found[name] = (unit, levels, values)
        print(table(name, *found[name]), flush=True)
    return found


def rises(values: list[float]) -> bool:
    return all(later > earlier for earlier, later in itertools.pairwise(values))


def table(name: str, unit: str, levels: list[float], values: list[float]) -> str:
    """Two rows of Markdown under a heading."""
    cells = [f"{level:g}" for level in levels], [f"{value:.4f}" for value in values]
    width = [max(len(top), len(bottom)) for top, bottom in zip(*cells, strict=True)]
    first = max(len(unit), len("fid/tiny"))
    rows = [[unit, *cells[0]], ["-" * first, *("-" * w for w in width)], ["fid/tiny", *cells[1]]]
    lines = ["| " + " | ".join(c.rjust(w) for c, w in zip(row, [first, *width], strict=True)) + " |" for row in rows]
    verdict = "rises at every level" if rises(values) else "DOES NOT RISE EVERYWHERE"
    return f"**{name}**, {verdict}\n\n" + "\n".join(lines) + "\n"


def draw(found: dict[str, tuple[str, list[float], list[float]]], path: Path) -> None:
    figure = Figure(figsize=(10, 7), layout="constrained")
    for axes, (name, (unit, levels, values)) in zip(figure.subplots(2, 2).flat, found.items(), strict=True):
        axes.plot(levels, values, marker="o", color="#1f5a8a")
        axes.set_title(name)
        axes.set_xlabel(unit)
        axes.set_ylabel("fid/tiny")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    figure.suptitle(
        "Fréchet distance under the extractor tiny, damaged CIFAR-10 test against train, 10,000 images each"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)


def readme(found: dict[str, tuple[str, list[float], list[float]]], command: str) -> str:
    with safe_open(WEIGHTS, "pt") as file:
        said = file.metadata()
    tables = "\n".join(table(name, *rest) for name, rest in found.items())
    return f"""# The extractor `tiny`

A CIFAR-10 classifier of {WEIGHTS.stat().st_size / 1e6:.2f} MB that ships with the package, so that a machine without
network has an FID-like number. It ranks runs; it is not FID, and its numbers do not compare with published ones.

| | |
| --- | --- |
| test accuracy | {float(said["test_accuracy"]):.2%} (float16 weights, read back; the accuracy of the shipped file) |
| trained | {said["date"]}, {said["settings"]}, {said["versions"]}, {said["threads"]} threads |
| data | {said["data_file"]}, sha256 `{said["data_sha256"]}` ({said["train_pictures"]} + {said["test_pictures"]}) |
| weights digest | `{extractors.file_digest(WEIGHTS)}` |

    python benchmarks/tiny/train.py --data cifar10-jpeg.tar.xz --out lightning_gen/metrics/tiny.safetensors

The JPEG copies of CIFAR-10 are lossy, as the name of the archive says: accuracies and distances belong to these copies.

## Does it see damage?

Fréchet distance of the damaged test split (10,000 images) to every fifth image of the train split (10,000). Level 0
is no damage: the distance of two finite samples of one distribution, and what the classifier knows of its own train
set. It is also the floor: a blur of 0.3 pixels, which changes 3.5 % of the values by one grey level, is not seen
(0.00598 against 0.00603), so that curve starts at 0.35. Missing one class of ten weighs more than noise of deviation 8:
`tiny` sees what a picture shows better than how cleanly it is drawn. Written by

    {command}

{tables}
![the four curves](../../docs/figures/tiny-fid-curves.png)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 as an archive of pictures")
    parser.add_argument("--foreign", type=Path, required=True, help="MNIST as an archive of pictures")
    parser.add_argument("--figure", type=Path, required=True, help="the PNG to write")
    parser.add_argument("--readme", type=Path, help="the page to write")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    found = curves(options.data, options.foreign)
    draw(found, options.figure)
    if options.readme:
        # File names only: where a machine keeps its archives is its own affair.
        archives = f"--data {options.data.name} --foreign {options.foreign.name}"
        command = f"python benchmarks/tiny/curves.py {archives} --figure {options.figure}"
        options.readme.write_text(readme(found, f"{command} --readme {options.readme}"))
    if not all(rises(values) for _, _, values in found.values()):
        sys.exit("some curve does not rise everywhere")


if __name__ == "__main__":
    main()
