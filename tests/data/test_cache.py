"""The cache of prepared images: whole or not there, one preparer at a time, and what the pictures become."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import pickle
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lightning_gen.data import cache, pictures
from lightning_gen.errors import UserError

SHAPE = (6, 1, 4, 4)
LABELS = np.array([0, 0, 0, 1, 1, 3])


def row(i: int) -> np.ndarray:
    return np.full((1, 4, 4), i, np.uint8)


def fill_all(rows: cache.Rows) -> tuple[np.ndarray, dict[str, Any]]:
    for i in (3, 0, 5, 1, 2, 4):
        rows[i] = row(i)
    return np.ones(6, bool), {"notes": ["hello"]}


def slow_fill(rows: cache.Rows) -> tuple[np.ndarray, dict[str, Any]]:
    time.sleep(0.3)
    return fill_all(rows)


def test_a_set_is_kept_and_found(tmp_path: Path):
    shelf = cache.Shelf(tmp_path)
    assert shelf.find("k") is None
    kept = shelf.keep("k", SHAPE, LABELS, 4, fill_all)
    found = shelf.find("k")
    assert kept == found
    assert found is not None
    assert found.images.dtype == np.uint8
    assert found.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert not found.images.flags.writeable
    assert found.counts == [3, 2, 0, 1]
    assert found.about == {"notes": ["hello"]}


def test_rows_that_are_not_good_leave_no_gap(tmp_path: Path):
    def fill(rows: cache.Rows) -> tuple[np.ndarray, dict[str, Any]]:
        return fill_all(rows)[0] & ~np.isin(np.arange(6), [1, 4]), {}

    kept = cache.Shelf(tmp_path).keep("k", SHAPE, LABELS, 4, fill)
    assert kept.shape == (4, 1, 4, 4)
    assert kept.images[:, 0, 0, 0].tolist() == [0, 2, 3, 5]
    assert kept.counts == [2, 1, 0, 1]


def test_digest_is_of_pixels_labels_and_order():
    images = np.arange(6 * 16, dtype=np.uint8).reshape(SHAPE)

    def of(images: np.ndarray, labels: np.ndarray) -> str:
        return cache.digest_of(images.shape, labels, [images.tobytes()[:10], images.tobytes()[10:]])

    same = of(images, LABELS)
    assert same == of(images.copy(), LABELS.astype(np.int32))
    assert len({same, of(images[::-1], LABELS), of(images, LABELS[::-1]), of(images.reshape(6, 1, 2, 8), LABELS)}) == 4


@pytest.mark.parametrize("error", [UserError("no"), KeyboardInterrupt()])
def test_nothing_stays_of_an_interrupted_preparation(tmp_path: Path, error: BaseException):
    def fill(rows: cache.Rows) -> tuple[np.ndarray, dict[str, Any]]:
        rows[0] = row(0)
        raise error

    shelf = cache.Shelf(tmp_path)
    with pytest.raises(type(error)):
        shelf.keep("k", SHAPE, LABELS, 4, fill)
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".lock"] == []
    assert len(shelf.keep("k", SHAPE, LABELS, 4, fill_all).images) == 6


def _killed(folder: Path, started: Any) -> None:
    def fill(rows: cache.Rows) -> tuple[np.ndarray, dict[str, Any]]:
        rows[0] = row(200)
        started.set()
        time.sleep(60)
        return fill_all(rows)

    cache.Shelf(folder).keep("k", SHAPE, LABELS, 4, fill)


def test_a_killed_preparation_is_begun_again(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    started = context.Event()
    process = context.Process(target=_killed, args=(tmp_path, started))
    process.start()
    assert started.wait(20)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    shelf = cache.Shelf(tmp_path)
    assert shelf.find("k") is None
    assert shelf.keep("k", SHAPE, LABELS, 4, fill_all).images[0, 0, 0, 0] == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".lock") == ["k.json", "k.npy"]


def _prepare(folder: Path, counter: Any) -> None:
    def fill(rows: cache.Rows) -> tuple[np.ndarray, dict[str, Any]]:
        with counter.get_lock():
            counter.value += 1
        return slow_fill(rows)

    kept = cache.Shelf(folder).keep("k", SHAPE, LABELS, 4, fill)
    assert kept.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]


def test_processes_that_start_together_prepare_once(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    counter = context.Value("i", 0)
    processes = [context.Process(target=_prepare, args=(tmp_path, counter)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 3
    assert counter.value == 1


@pytest.mark.parametrize("damage", ["cut", "gone", "no json"])
def test_a_damaged_set_is_a_miss_and_made_anew(tmp_path: Path, damage: str):
    shelf = cache.Shelf(tmp_path)
    file = shelf.keep("k", SHAPE, LABELS, 4, fill_all).file
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "gone":
        file.unlink()
    else:
        file.with_suffix(".json").write_text("{")
    assert shelf.find("k") is None
    assert len(shelf.keep("k", SHAPE, LABELS, 4, fill_all).images) == 6


def test_a_place_is_remembered_by_its_signature(tmp_path: Path):
    shelf = cache.Shelf(tmp_path)
    kept = shelf.keep("k", SHAPE, LABELS, 4, fill_all)
    for place, note in (("place", "a file ignored"), ("other", "a lone folder")):
        assert shelf.remember(place, "as it was", "k", [note]).about["notes"] == [note, "hello"]
    found = shelf.remembered("place", "as it was")
    assert found is not None
    assert found.digest == kept.digest
    assert found.about["notes"] == ["a file ignored", "hello"]  # what is said of one place is not said of another
    assert shelf.remembered("place", "changed") is None
    assert shelf.remembered("elsewhere", "as it was") is None
    (tmp_path / "place.place.json").write_text(json.dumps([]))
    assert shelf.remembered("place", "as it was") is None


def test_a_set_travels_by_name(tmp_path: Path):
    kept = cache.Shelf(tmp_path).keep(
        "k", (5000, 1, 4, 4), np.zeros(5000, int), 1, lambda rows: (np.ones(5000, bool), {})
    )
    assert kept.images.sum() == 0
    assert len(pickle.dumps(kept)) < 2000
    assert np.array_equal(pickle.loads(pickle.dumps(kept)).images, kept.images)


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cache folder .*/file/x cannot be made \(LGEN_CACHE\): Not a directory"):
        cache.Shelf(tmp_path / "file" / "x")


# What a picture becomes


def encoded(image: Image.Image, suffix: str = "png", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, {"jpg": "jpeg", "tif": "tiff", "pgm": "ppm"}.get(suffix, suffix), **options)
    return file.getvalue()


def test_an_image_that_fits_is_not_touched():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    got, changes = pictures.decode(encoded(Image.fromarray(pixels)), 8, 3)
    assert np.array_equal(got, pixels.transpose(2, 0, 1))
    assert got.flags.c_contiguous
    assert changes == []


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "gif", "tif", "ppm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_kind_of_file(suffix: str, channels: int):
    got, _ = pictures.decode(encoded(Image.new("RGB", (16, 16), (200, 100, 50)), suffix), 8, channels)
    expected = [[200, 100, 50]] if channels == 3 else [[124]]
    assert got.shape == (channels, 8, 8)
    assert got.dtype == np.uint8
    assert np.abs(got.reshape(channels, -1).astype(int) - np.array(expected).T).max() <= 3


def test_sixteen_bits_are_scaled_not_clipped():
    ramp = np.array([[0, 128, 257, 32896], [65535, 40000, 100, 129]], np.uint16).repeat(2, 0)
    for suffix in ("png", "tif", "pgm"):
        got, changes = pictures.decode(encoded(Image.fromarray(ramp), suffix), 4, 1)
        assert np.array_equal(got[0], np.rint(ramp / 257).astype(np.uint8))
        assert changes == ["16 bit"]


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_put_on_white(mode: str):
    image = Image.new("RGBA", (8, 8), (10, 10, 10, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 8))
    got, changes = pictures.decode(encoded(image.convert(mode)), 8, 3)
    assert changes == ["alpha"]
    assert (got[:, :, :4] == 0).all()
    assert (got[:, :, 4:] == 255).all()


def test_half_transparency_blends_and_opaque_alpha_is_nothing():
    got, _ = pictures.decode(encoded(Image.new("RGBA", (8, 8), (0, 0, 0, 128))), 8, 1)
    assert np.abs(got.astype(int) - 127).max() <= 1
    assert pictures.decode(encoded(Image.new("RGBA", (8, 8), (1, 2, 3, 255))), 8, 3)[1] == []


@pytest.mark.parametrize(
    ("image", "suffix", "channels", "change"),
    [
        (Image.new("L", (8, 8), 7), "png", 3, "coloured"),
        (Image.new("1", (8, 8), 1), "png", 3, "coloured"),
        (Image.new("RGB", (8, 8)), "png", 1, "greyed"),
        (Image.new("CMYK", (8, 8)), "jpg", 3, "cmyk"),
        (Image.new("RGB", (8, 9)), "png", 3, "cropped"),
        (Image.new("RGB", (7, 7)), "png", 3, "enlarged"),
    ],
)
def test_changes_are_reported(image: Image.Image, suffix: str, channels: int, change: str):
    got, changes = pictures.decode(encoded(image, suffix), 8, channels)
    assert got.shape == (channels, 8, 8)
    assert changes == [change]


def test_the_first_frame_of_an_animation():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    got, changes = pictures.decode(encoded(frames[0], "gif", save_all=True, append_images=frames[1:]), 8, 3)
    assert changes == ["first"]
    assert got[:, 0, 0].tolist() == [255, 0, 0]


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_exif_orientation_is_honoured(suffix: str):
    image = Image.new("RGB", (16, 16), "black")
    image.paste("white", (0, 0, 16, 8))  # the upper half
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned a quarter to the right
    got, changes = pictures.decode(encoded(image, suffix, exif=exif), 16, 1)
    assert "rotated" in changes
    assert got[0, :, 10:].min() > 200
    assert got[0, :, :6].max() < 60


def test_odd_metadata_says_nothing_against_a_picture():
    image = Image.new("RGB", (16, 16), "black")
    image.paste("white", (0, 0, 16, 8))
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x0128] = 2  # ResolutionUnit, whose type becomes text below
    data = encoded(image, "jpg", exif=exif)
    number = b"\x01\x28\x00\x03" if b"MM\x00*" in data else b"\x28\x01\x03\x00"
    assert number in data
    got, changes = pictures.decode(data.replace(number, number.replace(b"\x03", b"\x02")), 16, 1)
    assert "rotated" in changes
    assert got[0, :, 10:].min() > 200


@pytest.mark.parametrize("suffix", ["gif", "tif"])
def test_damage_behind_the_first_frame_does_not_matter(suffix: str):
    noise = np.random.default_rng(0).integers(0, 255, (3, 64, 64, 3), dtype=np.uint8)
    frames = [Image.fromarray(frame) for frame in noise]
    data = encoded(frames[0], suffix, save_all=True, append_images=frames[1:])
    whole, _ = pictures.decode(data, 64, 3)
    cut, changes = pictures.decode(data[: len(data) * 6 // 10], 64, 3)
    assert changes == ["first"]
    np.testing.assert_array_equal(cut, whole)


def test_the_resize_is_antialiased():
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    got, _ = pictures.decode(encoded(Image.fromarray(stripes)), 16, 1)
    assert np.abs(got.astype(int) - 127).max() < 25


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_a_range_are_refused(mode: str):
    with pytest.raises(ValueError, match="32 bits"):
        pictures.decode(encoded(Image.new(mode, (8, 8)), "tif"), 8, 3)
