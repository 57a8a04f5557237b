"""Frames and landmarks: drawn alike everywhere, written and read again, and errors that say which file is wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from lgen_reenact import face, landmarks
from lgen_reenact.faces import Faces
from lgen_reenact.film import TABLE, Procedural, Recorded, write
from PIL import Image

from lightning_gen.errors import UserError
from lightning_gen.testing import check_data


def test_the_data_keeps_the_contract() -> None:
    check_data("faces")


def test_landmarks_lie_where_the_parts_are_drawn() -> None:
    who = face.person("test", 3)
    plain = face.Pose(0, 0, 0, 0, 0, 0, 0, 0, 1)
    moved = face.Pose(0.1, -0.05, 0, 0, 0, 0, 0, 0, 1)
    assert face.landmarks(who, moved) == pytest.approx(face.landmarks(who, plain) + np.array([0.1, -0.05]))
    side = 64
    frame = face.draw(who, plain, side).astype(float)
    for eye in (slice(15, 19), slice(19, 23)):
        across, down = ((face.landmarks(who, plain)[eye].mean(0) + 1) * side / 2).astype(int)
        assert frame[:, down, across].max() < 60, "in the middle of an eye is the pupil"


def test_a_turned_head_keeps_the_distances_between_its_landmarks() -> None:
    who = face.person("train", 0)
    plain = face.landmarks(who, face.Pose(0, 0, 0, 0.3, 0, 0.5, 0, 0, 1))
    turned = face.landmarks(who, face.Pose(0.1, 0.1, 0.3, 0.3, 0, 0.5, 0, 0, 1))
    apart = [np.linalg.norm(points[:, None] - points[None], axis=-1) for points in (plain, turned)]
    assert apart[0] == pytest.approx(apart[1])


def test_the_splits_share_no_person() -> None:
    train = [face.person("train", i) for i in range(50)]
    assert not any(face.person("test", i) in train for i in range(50))


@pytest.mark.parametrize("count", [35, 68, 5])
def test_every_landmark_is_drawn(count: int) -> None:
    assert sorted(i for part in landmarks.parts_of(count) for i in part.points) == list(range(count))
    points = np.stack([np.linspace(-0.8, 0.8, count), np.linspace(0.8, -0.8, count)], axis=1)
    sketch = landmarks.draw(points, 64)
    places = ((points + 1) * 32).astype(int)
    for x, y in places:
        assert sketch[:, max(0, y - 1) : y + 2, max(0, x - 1) : x + 2].any()


def test_frames_that_show_a_person_are_others_of_the_same_person() -> None:
    source = Faces(persons=5, frames=6, shots=3)
    batch = source.read(np.arange(len(source)))
    every = {number: [frame.tolist() for frame in batch["image"][batch["label"] == number]] for number in range(5)}
    for image, shots, label in zip(batch["image"], batch["shots"], batch["label"], strict=True):
        assert shots.shape == (3, 6, 32, 32)
        shown = [shot[:3].tolist() for shot in shots]
        assert all(shot in every[int(label)] for shot in shown)
        assert image.tolist() not in shown
        assert shown[0] != shown[1]


def test_faces_that_are_written_are_read_again(tmp_path: Path) -> None:
    film = Procedural(32, "test", 2, 4)
    write(film, tmp_path / "people")
    again = Recorded(str(tmp_path / "people"), 32, "train")
    assert again.counts == [4, 4]
    assert again.names == ["person-0", "person-1"]
    for person in range(2):
        assert again.some(person, [0, 3])[:, :3].equal(film.some(person, [0, 3])[:, :3])
        assert again.points(person, 2) == pytest.approx(film.points(person, 2), abs=1e-4)
    alone = Recorded(str(tmp_path / "people" / "person-1"), 32, "train")
    assert alone.some(0, [1])[:, :3].equal(film.some(1, [1])[:, :3])
    assert Faces(root=str(tmp_path / "people"), shots=2).num_classes == 2


def test_landmarks_follow_a_frame_that_is_cropped_and_made_smaller(tmp_path: Path) -> None:
    home = tmp_path / "someone"
    home.mkdir()
    Image.new("RGB", (96, 64)).save(home / "a.png")
    (home / TABLE).write_text("file,x0,y0,x1,y1\na.png,48,32,16,0\n")
    assert Recorded(str(home), 32, "train").points(0, 0) == pytest.approx(np.array([[0.0, 0.0], [-1.0, -1.0]]))


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (None, "b.png has no landmarks"),
        ("file,x0,y0\na.png,1,2\n", "b.png has no landmarks"),
        ("file,x0,y0\na.png,1,2\nb.png,1,2,3,4\n", "b.png has 2 landmarks, a.png has 1"),
        ("file,x0,y0\na.png,1,two\n", "landmarks.csv, line 2"),
        ("file,x0,y0\na.png,1\n", "landmarks.csv, line 2"),
        ("file,x0,y0\na.png,1,nan\n", "landmarks.csv, line 2"),
    ],
)
def test_a_wrong_table_is_named(tmp_path: Path, table: str | None, said: str) -> None:
    for name in "ab" if table else "b":
        Image.new("RGB", (32, 32)).save(tmp_path / f"{name}.png")
    if table:
        (tmp_path / TABLE).write_text(table)
    with pytest.raises(UserError, match=said):
        Recorded(str(tmp_path), 32, "train")


def test_too_few_frames_are_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--data\.shots 4: person 0 has 4 frames"):
        Faces(persons=2, frames=4, shots=4)


def test_another_resolution_shows_the_same_faces() -> None:
    small, large = (Procedural(side, "test", 1, 1).some(0, [0]).float() for side in (32, 64))
    assert (torch.nn.functional.avg_pool2d(large, 2) - small).abs().mean() < 6
