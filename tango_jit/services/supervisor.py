"""The supervisor: detector, reconstructor, trainer and denoiser as one. One state, one sentence, one start."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import NamedTuple, Protocol, TypeVar

from tango_jit.services.service import Clock, Service, State
from tango_jit.signals import Signal

LOOK_EVERY_S = 0.5
ANSWER_S = 0.8  # three answers are waited for at most, a client of Tango waits for 3 s
SOURCE = "detector"
T = TypeVar("T")


class Seen(NamedTuple):
    """What a member says of itself; `state` None: it does not answer, and `status` says why."""

    state: State | None
    status: str


class Member(Protocol):
    """One of them, wherever it runs; called from one thread, and may hang."""

    device: str

    def look(self) -> Seen: ...

    def order(self, command: str) -> None:
        """Start or Stop. Raises RuntimeError in words."""


def sum_up(seen: Mapping[str, Seen]) -> tuple[State, str]:
    """The state of all and the sentence that explains it; `seen` has the members in the order of the data.

    A member that is gone or in FAULT is a FAULT of all, since somebody must come; then ALARM, then INIT. They run if
    any does, and the sentence tells who does not. What is wrong stands first, then how the last of them, which makes
    the pictures, is doing.
    """
    if not seen:
        return State.INIT, "looking for the devices"
    states = {name: State.FAULT if one.state is None else one.state for name, one in seen.items()}
    state = next(
        s for s in (State.FAULT, State.ALARM, State.INIT, State.RUNNING, State.STANDBY) if s in states.values()
    )
    wrong = [n for s in (State.FAULT, State.ALARM, State.INIT) for n in seen if states[n] is s]
    resting = [n for n in seen if states[n] is State.STANDBY]
    last = [n for n in seen if states[n] is State.RUNNING][-1:]
    return state, "; ".join(f"{name}: {seen[name].status}" for name in (*wrong, *resting, *last))


class SupervisorService(Service):
    """Looks at its members twice a second, each in a thread of its own: one that hangs delays no other."""

    SIGNALS = (
        Signal(
            "members",
            "str",
            "Each device that is looked after by its name: device, state (null: no answer) and status, as JSON.",
        ),
    )

    def __init__(self, members: Mapping[str, Member], clock: Clock = time.time) -> None:
        """`members` in the order of the data; where one is named `detector` it is started last and stopped first."""
        super().__init__(clock)
        self._members = dict(members)
        self._threads = {name: ThreadPoolExecutor(1, thread_name_prefix=name) for name in members}
        self._looks: dict[str, Future[Seen]] = {}
        self._seen: dict[str, Seen] = {}
        self._waking = threading.Event()

    # ---- commands (any thread)

    def start_members(self) -> None:
        """Have all of them work. Raises RuntimeError that says who refused and why; the others have begun."""
        self._order("Start", (self._but_the_source(), self._source()))

    def stop_members(self) -> None:
        """Have all of them end. Raises RuntimeError that says who did not and why; the others have."""
        self._order("Stop", (self._source(), self._but_the_source()))

    def _order(self, command: str, groups: Iterable[list[str]]) -> None:
        seen = self._answers({name: self._ask(name, self._members[name].look) for name in self._members})
        refused = {name: one.status for name, one in seen.items() if one.state is None}
        for group in groups:
            wanted = [name for name in group if seen[name].state is not None]
            orders = {name: self._ask(name, lambda m=self._members[name]: m.order(command)) for name in wanted}
            wait(orders.values(), ANSWER_S)
            for name, order in orders.items():
                if not order.done():
                    refused[name] = f"no answer within {ANSWER_S} s, it may do so still"
                elif error := order.exception():
                    refused[name] = str(error)
        self.wake()
        if refused:
            raise RuntimeError(f"{command}: " + "; ".join(f"{name}: {why}" for name, why in refused.items()))

    def _source(self) -> list[str]:
        return [name for name in self._members if name == SOURCE]

    def _but_the_source(self) -> list[str]:
        """Those that wait for others first."""
        return [name for name in reversed(self._members) if name != SOURCE]

    def _ask(self, name: str, action: Callable[[], T]) -> Future[T]:
        return self._threads[name].submit(action)

    def _answers(self, looks: Mapping[str, Future[Seen]]) -> dict[str, Seen]:
        """What came in time."""
        wait(looks.values(), ANSWER_S)
        late = {name: Seen(None, f"{self._members[name].device} does not answer, it hangs") for name in looks}
        return {name: look.result() if look.done() else late[name] for name, look in looks.items()}

    # ---- the worker

    def turn(self) -> None:
        for name, member in self._members.items():
            if name not in self._looks or self._looks[name].done():
                self._looks[name] = self._ask(name, member.look)
        self._seen = self._answers(self._looks)
        table = {
            name: {
                "device": self._members[name].device,
                "state": None if one.state is None else one.state.value,
                "status": one.status,
            }
            for name, one in self._seen.items()
        }
        self.publish(members=json.dumps(table))
        self.set_state(*self.health())
        self._waking.wait(LOOK_EVERY_S)
        self._waking.clear()

    def wake(self) -> None:
        self._waking.set()

    def close(self) -> None:
        super().close()
        for thread in self._threads.values():
            thread.shutdown(wait=False, cancel_futures=True)

    # ---- how it is

    def health(self) -> tuple[State, str]:
        return sum_up(self._seen)
