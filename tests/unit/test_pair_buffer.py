"""The ring of training pairs."""

from collections import deque

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from tango_jit.learn.pair_buffer import PairBuffer


def numbered(numbers: list[int]) -> Tensor:
    """Pairs (n, 2, 2, 3) that carry their number: + in the even half, - in the odd one."""
    values = torch.tensor(numbers, dtype=torch.float32)
    return torch.stack([values, -values], 1)[:, :, None, None].expand(-1, -1, 2, 3)


def numbers(pairs: Tensor) -> list[int]:
    assert torch.equal(pairs, numbered(pairs[:, 0, 0, 0].int().tolist()))  # whole pairs, never mixed
    return pairs[:, 0, 0, 0].int().tolist()


@given(capacity=st.integers(1, 12), batches=st.lists(st.integers(0, 30), max_size=8), other=st.integers(1, 12))
def test_holds_the_newest_pairs_in_order(capacity, batches, other):
    buffer, model = PairBuffer(capacity, (2, 3)), deque(maxlen=capacity)
    count = 0
    for size in batches:
        new = list(range(count, count + size))
        count += size
        buffer.add(numbered(new))
        model.extend(new)
        assert numbers(buffer.newest_last()) == list(model)
        assert (len(buffer), buffer.fill, buffer.seen) == (len(model), len(model) / capacity, count)
    assert numbers(buffer.resized(other).newest_last()) == list(model)[-other:]


def test_draws_different_pairs_with_equal_chances():
    buffer, generator = PairBuffer(10, (2, 3)), torch.Generator().manual_seed(0)
    buffer.add(numbered(list(range(13))))
    drawn = [numbers(buffer.draw(4, generator)) for _ in range(500)]
    assert all(len(set(batch)) == 4 for batch in drawn)
    counts = torch.bincount(torch.tensor(drawn).flatten(), minlength=13)
    assert counts[:3].sum() == 0  # overwritten
    assert counts[3:].min() > 150  # expected 200, standard deviation 11
    assert counts[3:].max() < 250


def test_samples_of_three_planes_stay_whole():
    """A pair and the weights of its pixels, flat or of stacks: kept, drawn, resized and moved together."""
    for shape in ((2, 3), (5, 2, 3)):
        buffer = PairBuffer(4, shape, planes=3)
        samples = torch.arange(6.0)[:, None] * torch.tensor([1.0, 10.0, 100.0])
        samples = samples.view(6, 3, *(1 for _ in shape)).expand(6, 3, *shape)
        buffer.add(samples)
        assert (buffer.planes, buffer.shape, len(buffer)) == (3, shape, 4)
        for other in (buffer, buffer.moved(torch.device("cpu")), buffer.resized(9)):
            assert other.planes == 3
            assert torch.equal(other.newest_last(), samples[2:])
            drawn = other.draw(4, torch.Generator())
            assert sorted(drawn[:, 0].flatten(1)[:, 0].tolist()) == [2, 3, 4, 5]
            assert torch.equal(drawn, samples[drawn[:, 0].flatten(1)[:, 0].long()])
        with pytest.raises(ValueError, match=rf"pairs: expected shape \(n, 3, {', '.join(map(str, shape))}\), got"):
            buffer.add(samples[:, :2])


def test_draws_and_additions_are_copies():
    buffer, generator = PairBuffer(4, (2, 3)), torch.Generator()
    source = numbered([1, 2]).clone()
    buffer.add(source)
    source[:] = 0
    buffer.draw(2, generator)[:] = 0
    assert sorted(numbers(buffer.draw(2, generator))) == [1, 2]


def test_memory_is_made_once():
    buffer = PairBuffer(8, (2, 3))
    place = buffer._ring.data_ptr()
    for n in range(20):
        buffer.add(numbered([n, n + 1, n + 2]))
    buffer.clear()
    assert (len(buffer), buffer.fill, buffer.seen) == (0, 0, 0)
    assert buffer._ring.data_ptr() == place


def test_what_does_not_fit_is_refused():
    buffer = PairBuffer(4, (2, 3))
    with pytest.raises(ValueError, match=r"pairs: expected shape \(n, 2, 2, 3\), got \(1, 2, 3, 2\)"):
        buffer.add(torch.zeros(1, 2, 3, 2))
    buffer.add(numbered([1]))
    with pytest.raises(ValueError, match="n: expected 1 to 1 pairs, as many as the buffer holds, got 2"):
        buffer.draw(2, torch.Generator())
    with pytest.raises(ValueError, match="capacity: expected at least 1 pair, got 0"):
        PairBuffer(0, (2, 3))


def test_a_copy_elsewhere_goes_on_where_this_one_is():
    buffer = PairBuffer(4, (2, 3))
    buffer.add(numbered([0, 1, 2, 3, 4]))
    copy = buffer.moved(torch.device("cpu"))
    copy.add(numbered([5]))
    assert numbers(copy.newest_last()) == [2, 3, 4, 5]
    assert numbers(buffer.newest_last()) == [1, 2, 3, 4]
    assert (copy.seen, buffer.seen) == (6, 5)
