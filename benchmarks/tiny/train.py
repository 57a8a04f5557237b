"""Train the classifier behind the extractor `tiny` on CIFAR-10 and write its weights.

    python benchmarks/tiny/train.py --data ARCHIVE --out lightning_gen/metrics/tiny.safetensors

ARCHIVE is a tar file (any compression) of 32x32 pictures, `.../train/<class>/<name>` and `.../test/<class>/<name>`.
The weights are stored as float16 with the batch norms folded into the convolutions; the accuracy that is printed and
written into the file's metadata is that of the file, read back. The test split chooses nothing: no early stopping, no
tuning on it.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import io
import platform
import tarfile
import time
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from lightning_gen.metrics.tiny import ConvRelu, TinyNet


def read_archive(path: Path, split: str, side: int = 32) -> tuple[Tensor, Tensor, list[str]]:
    """All pictures of one split, centred on black if smaller: (N, side, side, 3) uint8, labels (N,) int64, classes."""
    found: dict[str, tuple[np.ndarray, str]] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            parts = Path(member.name).parts
            if not member.isfile() or len(parts) < 3 or parts[-3] != split:
                continue
            content = archive.extractfile(member)
            assert content is not None
            picture = np.asarray(Image.open(io.BytesIO(content.read())).convert("RGB"))
            if picture.shape != (side, side, 3):
                rows, columns = side - picture.shape[0], side - picture.shape[1]
                edges = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0))
                picture = np.pad(picture, edges)
            found[member.name] = (picture, parts[-2])
    if not found:
        raise SystemExit(f"{path}: no picture under .../{split}/<class>/")
    classes = sorted({label for _, label in found.values()})
    order = sorted(found)  # the order of files in an archive is an accident
    pictures = torch.from_numpy(np.stack([found[name][0] for name in order]))
    return pictures, torch.tensor([classes.index(found[name][1]) for name in order]), classes


def augment(padded: Tensor, chosen: Tensor, side: int = 32) -> Tensor:
    """Random crop and mirror of the chosen pictures. padded: (M, H, W, 3) uint8; returns (N, 3, side, side) uint8."""
    slack = padded.shape[1] - side + 1
    rows = torch.randint(slack, (len(chosen), 1)) + torch.arange(side)
    columns = torch.randint(slack, (len(chosen), 1)) + torch.arange(side)
    mirrored = torch.rand(len(chosen), 1) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    return padded[chosen[:, None, None], rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def fold(net: TinyNet) -> TinyNet:
    """The same function without batch norms: each becomes a scale and a bias of the convolution before it."""
    net = copy.deepcopy(net).eval()
    weights: dict[str, Tensor] = dict(net.head.state_dict(prefix="head."))
    for name, block in net.named_modules():
        if isinstance(block, ConvRelu):
            norm = block.norm
            assert norm is not None
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            weights[f"{name}.conv.weight"] = block.conv.weight * scale[:, None, None, None]
            weights[f"{name}.conv.bias"] = norm.bias - norm.running_mean * scale
    folded = TinyNet(norm=False)
    folded.load_state_dict({name: value.detach() for name, value in weights.items()})
    return folded


@torch.inference_mode()
def accuracy(net: TinyNet, pictures: Tensor, labels: Tensor, batch: int = 500) -> float:
    """Share of right answers in float32, one centred view a picture. pictures: (N, 32, 32, 3) uint8."""
    net.eval()
    right = 0
    for images, truth in zip(pictures.split(batch), labels.split(batch), strict=True):
        _, logits = net(images.permute(0, 3, 1, 2).float())
        right += int((logits.argmax(1) == truth).sum())
    return right / len(labels)


def train(
    pictures: Tensor, labels: Tensor, *, epochs: int, batch: int, lr: float, test: tuple[Tensor, Tensor]
) -> TinyNet:
    """SGD with Nesterov momentum and one cycle of the learning rate (Smith & Topin 2017, arXiv:1708.07120)."""
    net = TinyNet(norm=True).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    steps = len(labels) // batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, lr, total_steps=epochs * steps, pct_start=0.25, final_div_factor=1e3, cycle_momentum=False
    )
    padded = F.pad(pictures.permute(0, 3, 1, 2).float(), (4, 4, 4, 4), mode="reflect").to(torch.uint8)
    padded = padded.permute(0, 2, 3, 1).contiguous()
    start = time.monotonic()
    for epoch in range(1, epochs + 1):
        net.train()
        losses = []
        for chosen in torch.randperm(len(labels)).split(batch)[:steps]:
            images = augment(padded, chosen).float().contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16):
                _, logits = net(images)
            loss = F.cross_entropy(logits.float(), labels[chosen], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.detach())
        line = f"epoch {epoch:3d} of {epochs}  loss {torch.stack(losses).mean():.4f}  {time.monotonic() - start:6.0f} s"
        if epoch % 5 == 0 or epoch == epochs:  # to be watched; nothing is decided by it
            line += f"  test accuracy {accuracy(net, *test):.4f}"
        print(line, flush=True)
    return net


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 as an archive of pictures")
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write")
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)

    begun = time.monotonic()
    pictures, labels, classes = read_archive(options.data, "train")
    test_pictures, test_labels, _ = read_archive(options.data, "test")
    print(f"{len(labels)} + {len(test_labels)} pictures decoded in {time.monotonic() - begun:.0f} s", flush=True)
    test = (test_pictures, test_labels)
    net = train(pictures, labels, epochs=options.epochs, batch=options.batch, lr=options.lr, test=test)

    stored = {name: value.half().contiguous() for name, value in fold(net).state_dict().items()}
    read_back = TinyNet()
    read_back.load_state_dict({name: value.float() for name, value in stored.items()})
    measured = accuracy(read_back, *test)
    metadata = {
        "task": "CIFAR-10 classification, 32x32 RGB, input 0..255",
        "classes": " ".join(classes),
        "test_accuracy": f"{measured:.4f}",
        "data_file": options.data.name,
        "data_sha256": hashlib.sha256(options.data.read_bytes()).hexdigest(),
        "train_pictures": str(len(labels)),
        "test_pictures": str(len(test_labels)),
        "settings": f"epochs={options.epochs} batch={options.batch} lr={options.lr} seed={options.seed}",
        "threads": str(options.threads),
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "versions": f"python {platform.python_version()}, torch {torch.__version__}",
        "licence": "Apache-2.0",
    }
    save_file(stored, options.out, metadata=metadata)
    options.out.chmod(0o644)  # written for its owner only; a package is for all
    assert set(load_file(options.out)) == set(stored)
    print(f"{options.out}: {options.out.stat().st_size} bytes, {time.monotonic() - begun:.0f} s in all")
    print(f"test accuracy {measured:.4f} (float16 weights, read back)")


if __name__ == "__main__":
    main()
