"""How many translations between groups reach the group asked for, and how many keep what they were made from.

    python benchmarks/shapes/groups.py RUN --n 1000

The pictures are those of the test split of `groups` without files; each is asked for one of the other seven colours.
The exact decoder of `shapes` reads the result: chance is 1 in 8 for the group, 1 in 6 for the shape.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
import torch

from lightning_gen import checkpoints, images
from lightning_gen.data import decoder
from lightning_gen.data.groups import Groups
from lightning_gen.metrics.kept import NEAR


def main() -> None:
    """Print the shares as JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run")
    parser.add_argument("--n", type=int, default=1000)
    asked = parser.parse_args()
    model, _ = checkpoints.load_model(checkpoints.find(asked.run), "cpu")
    rows = np.arange(asked.n)
    source = Groups(split="test")
    given, truth = source.read(rows), source.factors(rows)
    groups = (given["label"] + 1 + torch.from_numpy(rows) % (source.num_classes - 1)) % source.num_classes
    drawn = images.to_uint8(model.sample(asked.n, condition={"image": given["image"], "label": groups}))
    found = decoder.decode(drawn)
    moved = np.maximum(abs(found.factors["x"] - truth["x"]), abs(found.factors["y"] - truth["y"]))
    shares = {
        "group_reached": found.colour == groups.numpy(),
        "shape_kept": found.shape == truth["shape"],
        "ground_kept": found.factors["background"] == truth["background"],
        "place_kept": moved <= NEAR,
        "on_manifold": found.on_manifold,
    }
    print(json.dumps({name: round(float(share.mean()), 4) for name, share in shares.items()}))


if __name__ == "__main__":
    main()
