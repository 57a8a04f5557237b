"""PSNR and SSIM of super-resolution on the luminance, as papers measure it, with bicubic enlargement beside it.

    python benchmarks/translation/super_resolution.py RUN [RUN ...] --images SET5 SET14 [--sheet sheet.png]

Pictures are cut at the right and the bottom to multiples of the factor, `low` is made by the antialiased bicubic
kernel, a border of `factor` pixels is left out, and grey pictures are taken as colour ones. Means over the pictures.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_gen import checkpoints, images
from lightning_gen.data import archive, pictures
from lightning_gen.data.made_pairs import reduced
from lightning_gen.data.pairs import as_bytes
from lightning_gen.metrics import paired
from lightning_gen.module import GenerativeModule
from lightning_gen.translate import Translator, in_batches

PATCH = 128
"""Side of what the sheet shows of the middle of a picture."""

SHOWN = 4
"""Pictures of the sheet."""


def read(root: str, factor: int) -> list[Tensor]:
    found = []
    files = archive.open_root(root)
    for _, load in files.read(sorted(name for name in files.paths() if pictures.is_image(name))):
        whole = torch.from_numpy(pictures.whole(load(), 3))
        height, width = (side // factor * factor for side in whole.shape[1:])
        found.append(whole[:, :height, :width])
    return found


def bicubic(low: Tensor, factor: int) -> Tensor:
    large = F.interpolate(low[None].float(), scale_factor=factor, mode="bicubic", antialias=True)
    return as_bytes(large)[0]


def enlarged(model: GenerativeModule, low: list[Tensor]) -> list[Tensor]:
    named = ((str(i), picture) for i, picture in enumerate(low))
    return [made for _, _, made in in_batches(named, Translator(model, "low"), batch_size=1)]


def mean(score: Callable[..., float], made: list[Tensor], right: list[Tensor], factor: int) -> float:
    each = [score(a[None], b[None], luma=True, crop=factor) for a, b in zip(made, right, strict=True)]
    return sum(each) / len(each)


def middle(picture: Tensor) -> Tensor:
    top, left = ((side - PATCH) // 2 for side in picture.shape[1:])
    return picture[:, top : top + PATCH, left : left + PATCH]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--images", nargs="+", required=True, help="folders, or folders of archives")
    parser.add_argument("--sheet", help="bicubic, the runs and the truth side by side, of the last folder's first ones")
    options = parser.parse_args()
    models = {Path(run).name: checkpoints.load_model(checkpoints.find(run), "cpu")[0] for run in options.runs}
    factor = next(iter(models.values())).hparams.factor
    for root in options.images:
        right = read(root, factor)
        low = [reduced(picture[None], factor)[0] for picture in right]
        made = {"bicubic": [bicubic(picture, factor) for picture in low]}
        made |= {name: enlarged(model, low) for name, model in models.items()}
        print(f"| {Path(root).name}, x{factor}, {len(right)} pictures | PSNR on Y, dB | SSIM on Y |\n|---|---:|---:|")
        for name, pictures_made in made.items():
            psnr, ssim = (mean(score, pictures_made, right, factor) for score in (paired.psnr, paired.ssim))
            print(f"| {name} | {psnr:.2f} | {ssim:.4f} |", flush=True)
    if options.sheet:
        rows = zip(*(column[:SHOWN] for column in (*made.values(), right)), strict=True)
        shown = [middle(picture) for row in rows for picture in row]
        images.save_png(images.contact_sheet(shown, columns=len(made) + 1), Path(options.sheet))


if __name__ == "__main__":
    main()
