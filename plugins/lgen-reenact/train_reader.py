"""Trains the reader of landmarks and attributes and writes it into the package: `python train_reader.py`.

Four minutes on one CPU core. The people are of the training split, beyond those whom models are trained on; noise, blur
and brightness are varied, so that it reads frames that are drawn a little wrong. Prints the errors on test people.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from lgen_reenact import face, reader
from safetensors.torch import save_file
from torch import Tensor

FIRST, PERSONS, FRAMES = 100_000, 3000, 8
STEPS, BATCH, SIDE = 6000, 64, reader.SIDE
TESTED = 200


def shown(split: face.Split, first: int, persons: int, frames: int) -> tuple[Tensor, Tensor, Tensor]:
    """Frames (N, 3, 32, 32) uint8, their points and the attributes of the people."""
    pictures, points, attributes = [], [], []
    for number in range(first, first + persons):
        who = face.person(split, number)
        for frame in range(frames):
            how = face.pose(split, number, frame)
            pictures.append(face.draw(who, how, SIDE))
            points.append(face.landmarks(who, how))
            attributes.append(who.attributes())
    found = (torch.from_numpy(np.stack(part)) for part in (pictures, points, attributes))
    frames_, points_, attributes_ = found
    return frames_, points_.float(), attributes_.float()


def varied(frames: Tensor) -> Tensor:
    """As a generator might draw them: half blurred, with noise and another brightness."""
    x = frames.float()
    share = torch.rand(len(x), 1, 1, 1) * (torch.rand(len(x), 1, 1, 1) < 0.5)
    x = x + share * (F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1) - x)
    return x + 10 * torch.rand(len(x), 1, 1, 1) * torch.randn_like(x) + 10 * torch.randn(len(x), 1, 1, 1)


def main() -> None:
    """Train, test, write."""
    torch.manual_seed(0)
    frames, points, attributes = shown("train", FIRST, PERSONS, FRAMES)
    network = reader.Reader()
    optimizer = torch.optim.AdamW(network.parameters(), 1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, STEPS)
    for step in range(STEPS):
        rows = torch.randint(len(frames), (BATCH,))
        read = network(varied(frames[rows]))
        loss = F.smooth_l1_loss(read.points, points[rows], beta=0.02) + F.mse_loss(read.attributes, attributes[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 500 == 0:
            print(step, round(loss.item(), 4), flush=True)
    stored = {name: value.half().contiguous() for name, value in network.state_dict().items()}
    save_file(stored, Path(reader.__file__).with_name("reader.safetensors"))
    read = reader.load()(frames := shown("test", 0, TESTED, FRAMES)[0])
    _, points, attributes = shown("test", 0, TESTED, FRAMES)
    pixels = (read.points - points).norm(dim=2).mean() * SIDE / 2
    print(
        f"{len(frames)} frames of test people: landmarks {pixels:.3f} pixels off, "
        f"attributes {(read.attributes - attributes).abs().mean():.3f}"
    )


if __name__ == "__main__":
    main()
