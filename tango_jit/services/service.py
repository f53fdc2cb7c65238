"""What all services share: one atomic snapshot of values, one worker thread, a state with its reason.

A service is an actor. Doors read `values` (one immutable mapping: what belongs together is published
together) and `write` settings into it; the worker looks at the mapping on every turn and acts on what differs. No door
ever waits for the worker, and the worker never waits for a door.
"""

from __future__ import annotations

import logging
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from enum import Enum
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from tango_jit.services.rates import HOUR_EVERY_S, HOUR_POINTS, Hour
from tango_jit.signals import Signal

log = logging.getLogger(__name__)
Clock = Callable[[], float]
T = TypeVar("T")
ITEM_NAME = re.compile(r"[a-z][a-z0-9_]{0,15}")


class State(Enum):
    """INIT, STANDBY (ready, no data), RUNNING, ALARM (works, a person should look), FAULT (status says what to do)."""

    INIT = "INIT"
    STANDBY = "STANDBY"
    RUNNING = "RUNNING"
    ALARM = "ALARM"
    FAULT = "FAULT"


LEVELS = {State.ALARM: logging.WARNING, State.FAULT: logging.ERROR}


class Listener:
    """What a door hears of its service; called from the service's threads, must return soon."""

    def changed(self, values: Mapping[str, Any]) -> None:
        """These values (pushed signals, `state`, `status`) are new."""

    def signals_changed(self, added: tuple[Signal, ...], removed: tuple[Signal, ...]) -> None:
        """The table of signals changed."""


RUNNING = Signal("running", "bool", "True while data are processed: in the states RUNNING and ALARM.", default=False)
LAST_ERROR = Signal(
    "last_error", "str", "The last thing that went wrong, with its time; empty: nothing.", level="expert"
)


def hour(signals: Iterable[Signal]) -> tuple[Signal, ...]:
    """The signals of the last hour of those that are kept so long; none: there is none."""
    names = [signal.name for signal in signals if signal.kept_an_hour]
    if not names:
        return ()
    told = f"The last hour, a column every {HOUR_EVERY_S:g} s: time (s since the epoch), {', '.join(names)}."
    rows = Signal("hour_rows", "str", "What the rows of hour are.", default=",".join(["time", *names]), level="expert")
    return Signal("hour", "float", told, shape=(1 + len(names), HOUR_POINTS), level="expert"), rows


class Service:
    """A worker thread around an engine; subclasses give `SIGNALS`, `open`, `turn`, `shut` and `health`.

    `clock` returns seconds since the epoch. Life: `start()` opens the streams and runs `turn()` until `stop()`;
    `close()` ends it for good. An exception in the worker ends in FAULT with its text; `start()` tries again.
    """

    SIGNALS: ClassVar[tuple[Signal, ...]] = ()

    @classmethod
    def table(cls) -> tuple[Signal, ...]:
        """The signals that every instance has."""
        return (*cls.SIGNALS, *hour(cls.SIGNALS), RUNNING, LAST_ERROR)

    def __init__(self, clock: Clock = time.time) -> None:
        self.clock = clock
        self.log: logging.Logger | logging.LoggerAdapter[logging.Logger] = log  # a door puts its own here
        self._told = State.INIT, ""
        self._lock = threading.RLock()
        self._starting = threading.Lock()
        self._signals = {s.name: s for s in self.table()}
        self._values: Mapping[str, Any] = MappingProxyType(
            {name: s.initial for name, s in self._signals.items()} | {"state": State.INIT, "status": "starting"}
        )
        self._listener = Listener()
        self._stop = threading.Event()
        self._worker: threading.Thread | None = None
        self._at_rest = True  # no worker looks for orders
        self._kept_at = -1.0
        self._hour = Hour([signal.name for signal in self.SIGNALS if signal.kept_an_hour])
        self._orders: deque[tuple[Future[Any], Callable[[], Any]]] = deque()

    # ---- what doors use

    @property
    def signals(self) -> Mapping[str, Signal]:
        return MappingProxyType(self._signals)

    @property
    def values(self) -> Mapping[str, Any]:
        """One snapshot of everything; never changes once handed out."""
        return self._values

    def listen(self, listener: Listener) -> None:
        """Announce changes to `listener` from now on (one listener: the door)."""
        self._listener = listener

    def write(self, name: str, value: Any) -> None:
        """Set a writable signal. Raises KeyError for no such signal, ValueError with expected and got."""
        signal = self._signals[name]
        if not signal.writable:
            raise ValueError(f"{name}: expected a setting, got a read-only signal")
        checked = signal.check(value)
        with self._lock:
            self.accept(name, checked)
            self.publish(**{name: checked})
        self.wake()

    def start(self) -> None:
        """Run the worker; harmless when it runs already. Returns at once."""
        with self._starting:
            worker = self._worker
            if worker is not None and worker.is_alive():
                if not self._stop.is_set():
                    return
                worker.join()  # not under the lock of the values, which it may need to end
            self._stop.clear()
            self._at_rest = False
            self._worker = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)
            self._worker.start()

    def stop(self) -> None:
        """Ask the worker to end after its turn; the state tells when it has. Published values stay readable."""
        self._stop.set()
        self.wake()

    def close(self) -> None:
        """Stop, wait for the worker and give back everything; the service cannot be used again."""
        self.listen(Listener())
        self.stop()
        if self._worker is not None:
            self._worker.join()

    def ask(self, action: Callable[[], T], timeout_s: float = 2.2) -> T:
        """Have the worker do `action` between two turns, and return what it returns or raise what it raises.

        Without a worker it is done here. Raises RuntimeError, and nothing is done, if the worker has no time. (Tango
        clients wait for 3 s, in which the action has to be done, too.)
        """
        order: Future[T] = Future()
        with self._lock:
            if self._at_rest:
                result = action()
                self.publish(**{k: v for k, v in self.counters().items() if self._signals[k].unit != "Hz"})
                return result
            self._orders.append((order, action))
        self.wake()
        try:
            return order.result(timeout_s)
        except FutureTimeout:
            if order.cancel():
                raise RuntimeError(f"busy with other work for {timeout_s} s, nothing was done: try again") from None
            return order.result()  # it is being done just now

    # ---- what subclasses give

    def accept(self, name: str, value: Any) -> None:
        """A checked value is about to be set: raise ValueError in words if it does not fit the others."""

    def open(self) -> None:
        """Called in the worker before its first turn."""

    def turn(self) -> None:
        """One unit of work; must return within about 0.2 s when there is nothing to do."""
        raise NotImplementedError(f"{type(self).__name__} has no turn()")

    def wake(self) -> None:
        """End the wait of a turn that has nothing to do; called from any thread."""

    def shut(self) -> None:
        """Called in the worker after its last turn, whatever happened."""

    def rest(self) -> str:
        """The sentence that explains why the worker has ended without a fault."""
        return "stopped: Start runs it again"

    def health(self) -> tuple[State, str]:
        """The state and the sentence that explains it, while the worker runs."""
        return State.RUNNING, "running"

    def counters(self) -> dict[str, Any]:
        """Figures that housekeeping publishes a few times a second."""
        return {}

    # ---- what subclasses use

    def publish(self, **changes: Any) -> None:
        """Set values in one step and announce those that differ."""
        with self._lock:
            old = self._values
            self.announce(**{k: v for k, v in changes.items() if k not in old or not _same(old[k], v)})

    def announce(self, **news: Any) -> None:
        """Set values in one step and announce them all, also what did not change (a picture of the same frame)."""
        if not news:
            return
        with self._lock:
            self._values = MappingProxyType({**self._values, **news})
            listener = self._listener
        listener.changed(news)

    def replace_signals(self, added: tuple[Signal, ...] = (), removed: tuple[str, ...] = (), **values: Any) -> None:
        """Change the table of signals; `values` are the first ones of the added signals."""
        with self._lock:
            gone = tuple(self._signals[n] for n in removed)
            signals = {n: s for n, s in self._signals.items() if n not in removed}
            self._signals = signals | {s.name: s for s in added}
            kept = {k: v for k, v in self._values.items() if k not in removed}
            self._values = MappingProxyType(kept | {s.name: s.initial for s in added} | values)
            listener = self._listener
        listener.signals_changed(added, gone)

    def set_state(self, state: State, status: str) -> None:
        told, self._told = self._told, (state, re.sub(r"\d+", "#", status))  # figures change all the time
        if told[0] is not state or (told != self._told and state in (State.ALARM, State.FAULT)):
            self.log.log(LEVELS.get(state, logging.INFO), "state %s, was %s: %s", state.value, told[0].value, status)
        self.publish(state=state, status=status, running=state in (State.RUNNING, State.ALARM))

    def trouble(self, text: str) -> None:
        """Keep and log something that went wrong but does not end the work."""
        self.log.warning("%s", text)
        self.publish(last_error=f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(self.clock()))} {text}")

    def _run(self) -> None:
        fault = ""
        try:
            self.open()
            while not self._stop.is_set():
                self.obey()
                self.turn()
                if not 0 <= self.clock() - self._kept_at < 0.25:  # also after the clock was set back
                    self._keep_house()
            end = State.STANDBY, self.rest()
        except Exception as error:
            self.log.exception("%s failed", type(self).__name__)
            fault = f"{type(error).__name__}: {error}"
            end = State.FAULT, f"{fault}. Correct the cause, then Start or Init"
        self._stop.set()  # a Start from now on waits for the end of this worker
        try:
            self.shut()
        finally:
            if fault:
                self.trouble(fault)  # after all that came of it
            self.publish(**{s.name: 0.0 for s in self.signals.values() if s.unit == "Hz" and not s.writable})
            self.set_state(*end)  # not before everything is given back
            with self._lock:  # nobody may order something between the last look and the end
                self.obey()
                self._at_rest = True

    def _keep_house(self) -> None:
        self._kept_at = self.clock()
        self.publish(**self.counters())
        if "hour" in self._signals and self._hour.add(self._kept_at, self._values):
            self.publish(hour=self._hour.array())
        self.set_state(*self.health())

    def obey(self) -> None:
        """Do what was asked for; a turn that takes long should do so in between.

        Who asked and looks then sees what came of it.
        """
        while self._orders:
            order, action = self._orders.popleft()
            if order.set_running_or_notify_cancel():
                try:
                    result = action()
                except Exception as error:
                    order.set_exception(error)
                    continue
                try:
                    if not self._stop.is_set():
                        self._keep_house()
                finally:
                    order.set_result(result)


def _same(a: Any, b: Any) -> bool:
    """Equal scalars; arrays are the same only if identical (comparing images costs more than announcing them)."""
    if a is b:
        return True
    if hasattr(a, "shape") or hasattr(b, "shape"):
        return False
    return bool(a == b) or (a != a and b != b)
