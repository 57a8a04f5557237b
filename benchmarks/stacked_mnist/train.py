"""Train the classifier that reads the digits of stacked MNIST, and write its weights.

    python benchmarks/stacked_mnist/train.py --data ARCHIVE --out lightning_gen/metrics/digits.safetensors
    python benchmarks/stacked_mnist/train.py --data ARCHIVE          # what they read of real stacked digits

ARCHIVE holds MNIST's digits, train/<digit>/ and test/<digit>/. Training sees them moved by up to two pixels, paler and
noisy, as generated ones may be. The test split chooses nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from lightning_gen.data.folder import Folder
from lightning_gen.data.stacked_mnist import StackedMNIST
from lightning_gen.metrics import digits
from lightning_gen.metrics.digits import DigitNet

EPOCHS, BATCH, RATE = 8, 200, 2e-3
SAMPLES = 26_000


def spoiled(pictures: Tensor) -> Tensor:
    """Moved, paler or noisy, (N, 1, 32, 32) float."""
    dy, dx = (int(step) for step in torch.randint(-2, 3, (2,)))
    moved = torch.roll(pictures, (dy, dx), (2, 3))
    contrast = 1 - 0.3 * torch.rand(len(moved), 1, 1, 1)
    return (moved * contrast + 15 * torch.rand(len(moved), 1, 1, 1) * torch.randn_like(moved)).clamp(0, 255)


def read(root: str, split: str) -> tuple[Tensor, Tensor]:
    source = Folder(root, 32, channels=1, split=split)
    rows = source.read(np.arange(len(source)))
    return rows["image"].float(), rows["label"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path, help="left out: read real stacked digits with the packaged weights")
    options = parser.parse_args()
    if options.out is None:
        check(options.data)
        return
    torch.manual_seed(0)
    pictures, labels = read(options.data, "train")
    net = DigitNet()
    optimizer = torch.optim.Adam(net.parameters(), RATE)
    steps = EPOCHS * (len(pictures) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps)
    for epoch in range(EPOCHS):
        for rows in torch.randperm(len(pictures)).split(BATCH)[: len(pictures) // BATCH]:
            loss = F.cross_entropy(net(spoiled(pictures[rows])), labels[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}: loss {loss.item():.3f}", flush=True)
    weights = {name: value.half().contiguous() for name, value in net.state_dict().items()}
    net.load_state_dict({name: value.float() for name, value in weights.items()})
    pictures, labels = read(options.data, "test")
    with torch.no_grad():
        right = (net(pictures).argmax(1) == labels).double().mean().item()
    save_file(
        weights,
        options.out,
        {"test_accuracy": f"{right:.4f}", "data": "MNIST", "made_by": "benchmarks/stacked_mnist/train.py"},
    )
    print(f"test accuracy {right:.2%}, {options.out.stat().st_size:,} bytes")


def check(root: str) -> None:
    """What the packaged classifier reads of real stacked digits: the best that a model can be counted as."""
    for split in ("train", "test"):
        source = StackedMNIST(root, split=split)
        rows = source.read(np.arange(SAMPLES))
        right = (digits.numbers(rows["image"]) == rows["label"]).double().mean().item()
        found = digits.coverage(rows["image"], source.class_counts())
        print(f"{SAMPLES:,} of {split}: {right:.1%} read rightly, {found}")


if __name__ == "__main__":
    main()
