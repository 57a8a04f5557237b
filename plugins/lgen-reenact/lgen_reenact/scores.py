"""How well people whom a model has never seen are drawn: where their landmarks are, and who they are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lgen_reenact import face, reader
from lgen_reenact.film import Procedural
from lgen_reenact.person import tune
from lgen_reenact.reenact import Reenact
from lightning_gen.metrics import paired

MOST_SHOTS = 8
TARGETS = 16
"""Frames of a person that are drawn: after the first eight, which may be shown."""


class Row(NamedTuple):
    """One way to make frames, over all people."""

    name: str
    landmarks: float
    """Mean distance of the landmarks read back from where they should be, in pixels."""
    identity: float
    """Share of frames whose attributes are nearest to those of the right one of the people."""
    psnr: float
    ssim: float


class Scored(NamedTuple):
    """The rows, and for a sheet the frames of one person after the other."""

    rows: list[Row]
    shown: list[Tensor]
    """A person each: landmarks, truth and then what each way made, (ways + 2, 3, R, R) uint8."""


def score(model: Reenact, shots: Sequence[int], persons: int, steps: int, rate: float) -> Scored:
    """Each of the first `persons` people of the test split is shown by `shots` frames and drawn by the landmarks of
    sixteen others: before and after tuning; beside them the true frames and the shown frame that is nearest in its
    landmarks."""
    film = Procedural(model.image_shape[-1], "test", persons, MOST_SHOTS + TARGETS)
    made: dict[str, list[Tensor]] = {}
    truth, sketches, points = [], [], []
    for person in range(persons):
        targets = film.some(person, list(range(MOST_SHOTS, MOST_SHOTS + TARGETS)))
        truth.append(targets[:, :3])
        sketches.append(targets[:, 3:])
        places = np.stack([film.points(person, MOST_SHOTS + i) for i in range(TARGETS)])
        points.append(places)
        for name, drawn in _ways(model, film, person, places, targets[:, 3:], shots, steps, rate):
            made.setdefault(name, []).append(drawn)
    right, wanted = torch.cat(truth), torch.from_numpy(np.concatenate(points)).float()
    found = {"the true frame": right} | {name: torch.cat(parts) for name, parts in made.items()}
    read = reader.load()
    people = np.stack([face.person("test", i).attributes() for i in range(persons)])
    rows = [_row(name, frames, right, wanted, people, read) for name, frames in found.items()]
    shown = [
        torch.stack([sketches[i][0], truth[i][0], *(frames[i * TARGETS] for frames in list(found.values())[1:])])
        for i in range(persons)
    ]
    return Scored(rows, shown)


def _ways(
    model: Reenact,
    film: Procedural,
    person: int,
    places: np.ndarray,
    sketches: Tensor,
    shots: Sequence[int],
    steps: int,
    rate: float,
) -> Iterator[tuple[str, Tensor]]:
    """Frames (16, 3, R, R) uint8 of one person, by each way to make them."""
    for count in shots:
        given = film.some(person, list(range(count)))
        known = np.stack([film.points(person, frame) for frame in range(count)])
        distance = np.linalg.norm(places[:, None] - known[None], axis=-1).mean(-1)
        yield f"{count}-shot, nearest frame copied", given[distance.argmin(1), :3]
        for label, updates in (("before tuning", 0), ("tuned", steps)):
            if updates or label == "before tuning":
                yield f"{count}-shot, {label}", tune(model, given, updates, rate).draw(sketches)


def _row(name: str, frames: Tensor, right: Tensor, wanted: Tensor, people: np.ndarray, read: reader.Reader) -> Row:
    found = [read(part) for part in frames.split(256)]
    points, attributes = torch.cat([f.points for f in found]), torch.cat([f.attributes for f in found])
    spread = torch.from_numpy(people.std(0) + 1e-3).float()
    nearest = torch.cdist(attributes / spread, torch.from_numpy(people).float() / spread).argmin(1)
    own = torch.arange(len(people)).repeat_interleave(TARGETS)
    return Row(
        name,
        float((points - wanted).norm(dim=2).mean()) * frames.shape[-1] / 2,
        float((nearest == own).float().mean()),
        paired.psnr(frames, right),
        paired.ssim(frames, right),
    )
