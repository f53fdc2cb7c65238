"""What all services share: snapshots, settings, states, the worker's life."""

import threading
import time

import pytest

from tango_jit.services.service import Listener, Service, State
from tango_jit.signals import Signal, setting


class Counter(Service):
    """Counts turns; the setting `fail` makes a turn raise."""

    SIGNALS = (
        Signal("turns", "int", "Turns."),
        Signal("twice", "int", "Twice the turns."),
        setting("fail", "bool", "Raise.", default=False),
        setting("even", "int", "An even number.", default=0),
    )

    def turn(self):
        if self.values["fail"]:
            raise OSError("the disk is gone")
        turns = self.values["turns"] + 1
        self.publish(turns=turns, twice=2 * turns)
        time.sleep(0.001)

    def accept(self, name, value):
        if name == "even" and value % 2:
            raise ValueError(f"even: expected an even number, got {value}")


class Heard(Listener):
    def __init__(self):
        self.states = []
        self.news = threading.Condition()

    def changed(self, values):
        with self.news:
            if "state" in values:
                self.states.append(values["state"])
            self.news.notify_all()

    def wait_for(self, state):
        with self.news:
            assert self.news.wait_for(lambda: state in self.states, 10), f"{state} never came: {self.states}"


@pytest.fixture
def counter():
    service = Counter()
    yield service
    service.close()


def test_what_is_published_together_is_read_together(counter):
    counter.start()
    for _ in range(2000):
        values = counter.values
        assert values["twice"] == 2 * values["turns"]


def test_life_start_stop_start(counter):
    heard = Heard()
    counter.listen(heard)
    counter.start()
    heard.wait_for(State.RUNNING)
    assert counter.values["running"]
    counter.start()  # harmless
    counter.stop()
    heard.wait_for(State.STANDBY)
    assert not counter.values["running"]
    before = counter.values["turns"]
    heard.states.clear()
    counter.start()
    heard.wait_for(State.RUNNING)
    assert counter.values["turns"] > before


def test_a_worker_that_raises_ends_in_fault_and_can_start_again(counter, caplog):
    heard = Heard()
    counter.listen(heard)
    counter.write("fail", True)
    counter.start()
    heard.wait_for(State.FAULT)
    assert "the disk is gone" in counter.values["status"]
    assert "the disk is gone" in counter.values["last_error"]
    (raised,) = [one for one in caplog.records if one.exc_info]
    assert raised.levelname == "ERROR"
    assert str(raised.exc_info[1]) == "the disk is gone"
    counter.write("fail", False)
    counter.start()
    heard.wait_for(State.RUNNING)


def test_states_are_logged_once_and_not_for_new_figures(caplog):
    service = Service()
    caplog.set_level("INFO")
    for state, status in (
        (State.RUNNING, "12 steps/s"),
        (State.RUNNING, "13 steps/s"),
        (State.ALARM, "weights are 30 s old"),
        (State.ALARM, "weights are 31 s old"),
        (State.ALARM, "guard active"),
        (State.FAULT, "the disk is gone"),
    ):
        service.set_state(state, status)
    assert [(one.levelname, one.getMessage()) for one in caplog.records] == [
        ("INFO", "state RUNNING, was INIT: 12 steps/s"),
        ("WARNING", "state ALARM, was RUNNING: weights are 30 s old"),
        ("WARNING", "state ALARM, was ALARM: guard active"),
        ("ERROR", "state FAULT, was ALARM: the disk is gone"),
    ]


def test_a_refused_value_changes_nothing(counter):
    counter.write("even", 4)
    with pytest.raises(ValueError, match="expected an even number, got 5"):
        counter.write("even", 5)
    assert counter.values["even"] == 4
    with pytest.raises(ValueError, match="read-only"):
        counter.write("turns", 5)
    with pytest.raises(KeyError):
        counter.write("nothing", 5)


def test_signals_come_and_go(counter):
    counter.replace_signals((Signal("extra", "int", ""),), extra=3)
    assert counter.values["extra"] == 3
    counter.replace_signals((), ("extra",))
    assert "extra" not in counter.values
    assert "extra" not in counter.signals
