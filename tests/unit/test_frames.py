"""The accounting of frames, against a naive model that remembers every number."""

from hypothesis import given
from hypothesis import strategies as st

from tango_jit.streams.frames import FrameCount


class NaiveCount:
    """The same counts from the set of all numbers seen."""

    def __init__(self, horizon: int) -> None:
        self.horizon = horizon
        self.seen: set[int] = set()
        self.late = self.duplicate = 0

    def observe(self, number: int) -> str:
        if not self.seen or number > max(self.seen):
            self.seen.add(number)
            return "new"
        if number in self.seen or number <= max(self.seen) - self.horizon:
            self.duplicate += 1
            return "duplicate"
        self.seen.add(number)
        self.late += 1
        return "late"

    @property
    def lost(self) -> int:
        return max(self.seen) - min(self.seen) + 1 - len(self.seen) if self.seen else 0


@given(
    st.lists(st.integers(0, 60) | st.integers(0, 400), max_size=150),
    st.sampled_from([1, 2, 10, 50, 1000]),
    st.integers(0, 2**53),
)
def test_counts_agree_with_the_naive_model(numbers: list[int], horizon: int, offset: int) -> None:
    count, naive = FrameCount(horizon), NaiveCount(horizon)
    for number in numbers:
        assert count.observe(offset + number) == naive.observe(offset + number)
        assert count.received == len(naive.seen)
        assert (count.lost, count.late, count.duplicate) == (naive.lost, naive.late, naive.duplicate)


@given(st.permutations(range(100, 140)))
def test_any_order_of_all_frames_loses_nothing(order: list[int]) -> None:
    count = FrameCount()
    for number in order:
        count.observe(number)
    assert (count.received, count.lost, count.duplicate) == (40, 0, 0)


def test_gap_is_lost_until_it_is_filled() -> None:
    count = FrameCount()
    assert [count.observe(n) for n in (5, 6, 10)] == ["new"] * 3
    assert count.lost == 3
    assert count.observe(8) == "late"
    assert (count.received, count.lost, count.late) == (4, 2, 1)
    assert count.observe(8) == "duplicate"
    assert (count.received, count.lost, count.duplicate) == (4, 2, 1)


def test_series_may_begin_anywhere_and_late_frames_may_precede_its_first() -> None:
    count = FrameCount()
    assert count.observe(1000) == "new"
    assert count.lost == 0
    assert count.observe(998) == "late"
    assert count.lost == 1
    assert count.observe(999) == "late"
    assert count.lost == 0


def test_frames_from_before_the_horizon_count_as_repeats_and_stay_lost() -> None:
    count = FrameCount(horizon=10)
    for number in (0, 2, 11):
        count.observe(number)
    lost = count.lost
    assert count.observe(1) == "duplicate"
    assert count.lost == lost


def test_memory_is_bounded_for_an_endless_stream() -> None:
    count = FrameCount(horizon=1000)
    for number in range(0, 100_000, 2):  # every other frame is missing: the most gaps there can be
        count.observe(number)
    assert count.lost == 49_999
    assert sum(len(value) for value in vars(count).values() if isinstance(value, list)) <= 1000 + 2


def test_reset_begins_a_new_series() -> None:
    count = FrameCount()
    for number in (7, 9, 8, 8):
        count.observe(number)
    count.reset()
    assert (count.received, count.lost, count.late, count.duplicate) == (0, 0, 0, 0)
    assert count.observe(0) == "new"
    assert count.lost == 0
