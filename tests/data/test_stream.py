"""The order of the data is a function of (seed, images seen)."""

from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lightning_gen.data.stream import Stream

sizes = st.integers(1, 40)


def first(stream: Stream, batches: int) -> np.ndarray:
    return np.concatenate([rows.indices for rows in itertools.islice(stream, batches)])


@given(sizes, st.integers(1, 12), st.integers(1, 3), st.integers(0, 5), st.integers(0, 6))
def test_a_stream_begun_later_goes_on_where_the_other_would_have_been(length, batch, chunks, seed, skipped) -> None:
    whole = Stream(length, batch, seed=seed, chunks=chunks)
    later = Stream(length, batch, seed=seed, chunks=chunks, start=skipped * batch * chunks)
    assert np.array_equal(first(whole, skipped + 4)[skipped * batch * chunks :], first(later, 4))


@given(sizes, st.integers(1, 12), st.integers(0, 5))
def test_every_epoch_holds_every_row_once(length, batch, seed) -> None:
    drawn = first(Stream(length, batch, seed=seed), 3 * length // batch + 3)
    for epoch in range(3):
        assert sorted(drawn[epoch * length : (epoch + 1) * length]) == list(range(length))


def test_epochs_have_different_orders_and_so_have_seeds() -> None:
    drawn = first(Stream(100, 100, seed=0), 2)
    assert not np.array_equal(drawn[:100], drawn[100:])
    assert not np.array_equal(drawn[:100], first(Stream(100, 100, seed=1), 1))


@given(sizes, st.integers(1, 4), st.integers(1, 3), st.integers(1, 3))
def test_ranks_together_draw_what_one_process_draws_chunk_by_chunk(length, share, ranks, chunks) -> None:
    batch = share * ranks
    alone = next(iter(Stream(length, batch, seed=3, chunks=chunks)))
    together = [next(iter(Stream(length, batch, seed=3, chunks=chunks, rank=r, ranks=ranks))) for r in range(ranks)]
    by_chunk = [rows.positions.reshape(chunks, share) for rows in together]
    assert np.array_equal(np.concatenate(by_chunk, axis=1).ravel(), alone.positions)
    by_chunk = [rows.indices.reshape(chunks, share) for rows in together]
    assert np.array_equal(np.concatenate(by_chunk, axis=1).ravel(), alone.indices)
