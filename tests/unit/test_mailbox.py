"""The mailbox: budget, policies and waking, with real threads and no sleeps."""

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tango_jit.geometry import ScanGeometry, SliceGeometry
from tango_jit.streams import mailbox as mailbox_module
from tango_jit.streams.mailbox import Mailbox
from tango_jit.streams.messages import Dark, Header, Image, Message, SeriesEnd, Slice, View, Weights

PLACE = SliceGeometry((0, 0, 0), (1, 0, 0), (0, 1, 0), 2, 2)
SCAN = ScanGeometry.parallel(rows=1, cols=10, pixel_mm=0.1)
END = SeriesEnd("s", 3)


def image(frame: int, nbytes: int = 100) -> Image:
    return Image("s", frame, 0.0, 0.0, np.zeros((1, nbytes), np.uint8))


def picture(name: str, generation: int) -> Slice:
    return Slice(name, generation, PLACE, "s", 0, 1, 0.0, True, np.zeros((2, 1, 2, 2), np.float32))


def frames(messages: list[Message]) -> list[int | str]:
    return [message.frame if isinstance(message, Image) else message.htype for message in messages]


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(work()), daemon=True)
    thread.start()
    return thread, results


def test_messages_come_out_in_order_with_the_time_they_came_in() -> None:
    box = Mailbox(1000, "lossless")
    sent = [image(1), END, image(2)]
    for seconds, message in enumerate(sent, 10):
        assert box.put(message, 0, received_at=seconds)
    assert (len(box), box.nbytes) == (3, 200)
    for seconds, message in enumerate(sent, 10):
        assert box.get(0) is message
        assert box.received_at == seconds
    assert box.get(0) is None
    assert (len(box), box.nbytes, box.dropped) == (0, 0, 0)


def test_drain_takes_everything_at_once() -> None:
    box = Mailbox(1000, "lossless")
    for frame in range(3):
        box.put(image(frame))
    assert frames(box.drain()) == [0, 1, 2]
    assert box.drain() == []


def test_lossless_refuses_what_does_not_fit_in_time() -> None:
    box = Mailbox(250, "lossless")
    assert box.put(image(0), 0)
    assert box.put(image(1), 0)
    assert not box.put(image(2), 0)
    assert box.put(END, 0)  # weighs nothing
    box.get()
    assert box.put(image(2), 0)
    assert frames(box.drain()) == [1, "series_end", 2]
    assert box.dropped == 0


def test_lossless_put_waits_until_there_is_room() -> None:
    box = Mailbox(100, "lossless")
    box.put(image(0))
    thread, results = in_thread(lambda: box.put(image(1)))
    thread.join(0.05)
    assert thread.is_alive()
    assert frames([box.get(0) or END]) == [0]
    thread.join(10)
    assert results == [True]
    assert frames([box.get(0) or END]) == [1]


def test_one_message_is_taken_whatever_its_size() -> None:
    box = Mailbox(10, "lossless")
    assert box.put(image(0, 1000), 0)
    assert not box.put(image(1, 1), 0)


def test_get_waits_for_a_message() -> None:
    box = Mailbox(100, "lossless")
    thread, results = in_thread(lambda: box.get(10))
    box.put(END)
    thread.join(10)
    assert results == [END]


@pytest.mark.parametrize("policy", ["lossless", "drop_oldest", "newest"])
def test_wake_ends_one_wait(policy: Any) -> None:
    box = Mailbox(100, policy)
    thread, results = in_thread(box.get)
    box.wake()
    thread.join(10)
    assert results == [None]
    box.wake()  # nobody waits: the next get returns at once
    assert box.get() is None
    box.wake()
    box.put(END)
    assert box.get() is END
    assert box.get(0) is None


def test_drop_oldest_keeps_the_newest_images_and_every_control_message() -> None:
    box = Mailbox(300, "drop_oldest")
    box.put(View(1, "hann", {"xy": PLACE}))
    for frame in range(10):
        assert box.put(image(frame), 0)
    box.put(END)
    assert box.put(image(10), 0)
    assert frames(box.drain()) == ["view", 8, 9, "series_end", 10]
    assert box.dropped == 8


def test_drop_oldest_never_drops_darks_and_then_gives_up_the_image_that_comes() -> None:
    dark = Dark("s", np.zeros((5, 5), np.float32), 1)
    box = Mailbox(120, "drop_oldest")
    assert box.put(dark, 0)
    assert box.put(image(0), 0)
    assert box.dropped == 1
    assert not box.put(replace(dark), 0)  # a control message waits instead
    assert box.drain() == [dark]


def test_newest_keeps_one_of_each_subject_and_all_control_messages() -> None:
    box = Mailbox(10_000, "newest")
    weights = [Weights(version, {}, 1.0, None, 0, "halves", b"x") for version in (1, 2)]
    for message in (picture("xy", 1), picture("xz", 1), weights[0], END, picture("xy", 2), weights[1], END):
        assert box.put(message, 0)
    assert box.drain() == [picture("xy", 2), picture("xz", 1), weights[1], END, END]
    assert box.dropped == 2


def test_a_slow_reader_gets_every_subject_in_turn() -> None:
    """One picture is taken for each three that come: no slice may wait for ever behind another."""
    box = Mailbox(10_000, "newest")
    taken = []
    for update in range(6):
        for name in ("xy", "xz", "yz"):
            box.put(picture(name, update), 0)
        taken.append(box.get(0))
    assert [getattr(picture, "slice", "") for picture in taken] == ["xy", "xz", "yz"] * 2
    assert [getattr(picture, "generation", 0) for picture in taken] == list(range(6))


def test_newest_stays_within_the_budget_as_well() -> None:
    box = Mailbox(100, "newest")
    for name in ("a", "b", "c", "d"):
        assert box.put(picture(name, 1), 0)  # 32 bytes each
    assert box.drain() == [picture(name, 1) for name in ("b", "c", "d")]
    assert box.dropped == 1


def test_key_says_what_a_message_replaces() -> None:
    box = Mailbox(10_000, "newest", key=lambda message: message.nbytes)
    for frame, size in ((0, 10), (1, 20), (2, 10)):
        box.put(image(frame, size))
    assert frames(box.drain()) == [2, 1]  # in the place of the one that it replaces


def test_messages_without_payload_are_bounded_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox_module, "MESSAGES", 5)
    box = Mailbox(100, "drop_oldest")
    assert [box.put(END, 0) for _ in range(6)] == [True] * 5 + [False]


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected .* got 0"):
        Mailbox(0, "lossless")
    with pytest.raises(ValueError, match=r"expected .* got .*'latest'"):
        Mailbox(1, "latest")  # pyright: ignore[reportArgumentType]


@given(
    st.sampled_from(["lossless", "drop_oldest", "newest"]),
    st.integers(1, 500),
    st.lists(st.integers(1, 200) | st.none() | st.just(0), max_size=60),
)
def test_budget_order_and_control_messages_hold_for_any_sequence(policy: Any, budget: int, steps: list) -> None:
    """A step puts an image of that size, a control message (0), or takes one message (None)."""
    box = Mailbox(budget, policy)
    put: list[Message] = []
    got: list[Message] = []
    refused = 0
    for number, size in enumerate(steps):
        if size is None:
            message = box.get(0)
            got += [message] if message else []
            continue
        message = Header(str(number), "raw", SCAN, True) if size == 0 else image(number, size)
        if box.put(message, 0):
            put.append(message)
        else:
            refused += 1
        assert box.nbytes <= budget or len(box) == 1
    got += box.drain()
    assert box.nbytes == 0
    assert len(put) - box.dropped == len(got)
    positions = [next(i for i, message in enumerate(put) if message is g) for g in got]
    assert policy == "newest" or positions == sorted(positions)
    assert [m for m in got if isinstance(m, Header)] == [m for m in put if isinstance(m, Header)]
    assert policy == "lossless" or refused == 0
    assert policy != "lossless" or box.dropped == 0
