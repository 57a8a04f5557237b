"""What generated images are compared with: found again by content, never half-written."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from lightning_gen.data.shapes import Shapes
from lightning_gen.errors import UserError
from lightning_gen.metrics import reference
from lightning_gen.metrics.extractors import Features, Tiny
from lightning_gen.metrics.reference import Reference

SIZE = 300


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LGEN_CACHE", str(tmp_path))
    return tmp_path / "references"


class Counting(Tiny):
    """Counts what it looks at."""

    seen = 0

    def extract(self, images: torch.Tensor) -> Features:
        self.seen += len(images)
        return super().extract(images)


def total(reference: Reference) -> list[float]:
    return reference.statistics.total.tolist()


def in_a_process(cache: str) -> list[float]:
    os.environ["LGEN_CACHE"] = cache
    torch.set_num_threads(1)
    reference = Reference(Shapes(size=SIZE), Tiny())
    assert len(reference.features) == SIZE
    return total(reference)


def test_a_reference_is_computed_once_and_then_read() -> None:
    extractor = Counting()
    first = Reference(Shapes(size=SIZE), extractor)
    expected = total(first)
    assert (extractor.seen, first.from_cache) == (SIZE, False)
    second = Reference(Shapes(size=SIZE), extractor)
    assert total(second) == expected
    assert (extractor.seen, second.from_cache) == (SIZE, True)


@pytest.mark.parametrize(
    "change", [{"size": SIZE - 1}, {"split": "test"}, {"variation": "full"}, {"resolution": 64}, {"channels": 1}]
)
def test_other_content_is_a_miss(change: dict[str, object]) -> None:
    extractor = Counting()
    total(Reference(Shapes(size=SIZE), extractor))
    extractor.seen = 0
    total(Reference(Shapes(**{"size": SIZE, **change}), extractor))  # type: ignore[arg-type]
    assert extractor.seen > 0


@pytest.mark.parametrize("attribute", ["name", "resize", "weights_digest"])
def test_another_extractor_weight_or_resize_is_a_miss(attribute: str) -> None:
    extractor = Counting()
    total(Reference(Shapes(size=SIZE), extractor))
    extractor.seen = 0
    setattr(extractor, attribute, "another")
    total(Reference(Shapes(size=SIZE), extractor))
    assert extractor.seen == SIZE


def test_a_class_that_inherits_the_name_of_ours_neither_fills_nor_reads_its_cache() -> None:
    expected = total(Reference(Shapes(size=SIZE), Tiny()))
    extractor = Counting()
    total(Reference(Shapes(size=SIZE), extractor))
    assert extractor.seen == SIZE
    again = Reference(Shapes(size=SIZE), Tiny())
    assert (total(again), again.from_cache) == (expected, True)


def test_a_cache_that_cannot_be_written_is_the_users_to_mend(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (empty_cache.parent / "file").touch()
    monkeypatch.setenv("LGEN_CACHE", str(empty_cache.parent / "file"))
    with pytest.raises(UserError, match=r"file/references cannot be written \(LGEN_CACHE\): Not a directory"):
        total(Reference(Shapes(size=SIZE), Tiny()))


def test_a_disk_that_is_full_is_named_and_nothing_half_written_stays(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(reference, "save_file", half)
    with pytest.raises(UserError, match=r"cannot be written \(LGEN_CACHE\): I/O error: No space left on device"):
        total(Reference(Shapes(size=SIZE), Tiny()))
    assert {path.suffix for path in empty_cache.iterdir()} == {".lock"}


def test_a_file_that_a_full_disk_cut_short_is_computed_again(empty_cache: Path) -> None:
    expected = total(Reference(Shapes(size=SIZE), Tiny()))
    (file,) = empty_cache.glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    assert total(Reference(Shapes(size=SIZE), Tiny())) == expected


def test_processes_that_start_together_do_not_disturb_each_other(empty_cache: Path) -> None:
    with ProcessPoolExecutor(4, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(in_a_process, [str(empty_cache.parent)] * 4))
    assert found == [found[0]] * 4
    assert found[0] == total(Reference(Shapes(size=SIZE), Tiny()))
    assert {path.suffix for path in empty_cache.iterdir()} == {".safetensors", ".lock"}


def test_the_reach_of_a_reference_is_that_of_its_features() -> None:
    reference = Reference(Shapes(size=SIZE), Tiny())
    rows = reference.features.double()
    distances = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").square()
    expected = distances.kthvalue(4, dim=1).values
    assert np.allclose(reference.reach(3), expected, rtol=1e-6)
