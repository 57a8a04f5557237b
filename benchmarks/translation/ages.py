"""Whether faces reach the age group that they are asked for, and stay the face that they were.

    python benchmarks/translation/ages.py RUN --root utkface-64.tar.xz

Each test picture is translated to every group. A small classifier, trained here on the training split and on nothing
that a model made, reads the group; its accuracy on real test pictures stands beside. A face counts as kept where, of
all real test pictures, the one that it was made from is nearest by the features of `tiny`: chance is 1 in their number.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_gen import checkpoints, images
from lightning_gen.data.folder import mirrored
from lightning_gen.data.groups import Groups
from lightning_gen.metrics.extractors import Tiny

EPOCHS, BATCH = 14, 64


def classifier(groups: int, side: int) -> nn.Module:
    layers: list[nn.Module] = []
    for ins, outs in ((3, 24), (24, 48), (48, 96), (96, 128)):
        layers += [nn.Conv2d(ins, outs, 3, padding=1), nn.BatchNorm2d(outs), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.5), nn.Linear(128 * (side // 16) ** 2, groups))


def trained(source: Groups) -> nn.Module:
    """On the whole set, mirrored at random; the order is that of seed 0."""
    torch.manual_seed(0)
    model = classifier(source.num_classes, source.image_shape[-1]).to(memory_format=torch.channels_last)
    batch = source.read(np.arange(len(source)))
    optimizer = torch.optim.AdamW(model.parameters(), 2e-3, weight_decay=0.05)
    steps = EPOCHS * (len(source) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(source)).split(BATCH)[: len(source) // BATCH]:
            pictures = mirrored(batch["image"][rows], np.random.default_rng(int(rows[0])).random(len(rows)))
            loss = F.cross_entropy(model(images.from_uint8(pictures)), batch["label"][rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


@torch.no_grad()
def read(model: nn.Module, pixels: Tensor) -> Tensor:
    return torch.cat([model(images.from_uint8(part)).argmax(1) for part in pixels.split(250)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--root", required=True)
    parser.add_argument("--sheet", help="of some test faces in every group")
    options = parser.parse_args()
    model, _ = checkpoints.load_model(checkpoints.find(options.run), "cpu")
    side = model.image_shape[-1]
    train, test = (Groups(options.root, resolution=side, split=split) for split in ("train", "test"))
    eyes, reader = Tiny(), trained(train)
    batch = test.read(np.arange(len(test)))
    real, own = batch["image"], batch["label"]
    features = eyes(real).features
    right = read(reader, real) - own
    exact, near = ((right.abs() <= off).float().mean() for off in (0, 1))
    print(f"real test faces: group read right {exact:.1%}, one off or right {near:.1%}")
    print("| asked for | group reached | or one off | read there before | face kept |\n|---|---:|---:|---:|---:|")
    columns, shares = [real], []
    for group, name in enumerate(test.class_names):
        others = own != group
        asked = torch.full((len(real),), group)
        made = images.to_uint8(model.sample(len(real), condition={"image": real, "label": asked}))
        columns.append(made)
        off = (read(reader, made[others]) - group).abs()
        before = read(reader, real[others]) == group
        kept = torch.cdist(eyes(made).features, features).argmin(1)[others] == torch.arange(len(real))[others]
        shares.append([float(part.float().mean()) for part in (off == 0, off <= 1, before, kept)])
        print(f"| {name} | " + " | ".join(f"{share:.1%}" for share in shares[-1]) + " |", flush=True)
    print("| all | " + " | ".join(f"{share:.1%}" for share in np.mean(shares, axis=0)) + " |")
    if options.sheet:
        rows = np.linspace(0, len(real) - 1, 8).astype(int)
        strips = [column[i] for i in rows for column in columns]
        images.save_png(images.contact_sheet(strips, columns=len(columns), cell=side), Path(options.sheet))


if __name__ == "__main__":
    main()
