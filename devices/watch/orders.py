"""What the operator wants of the devices: commands and settings, one after the other for each device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import tango

from devices.watch.look import why
from devices.watch.worker import Newest

ANSWER_MS = 10_000
Answer = Callable[[str, str, str], None]


class Orders:
    """Gives orders from threads, and tells how they went: `answered(member, order, trouble)`; trouble "": done."""

    def __init__(self, devices: Mapping[str, str], answered: Answer) -> None:
        self._devices = dict(devices)
        self._answered = answered
        self._threads = {m: ThreadPoolExecutor(1, thread_name_prefix=f"orders to {m}") for m in devices}
        self.moves = Newest("moves", lambda text: answered("reconstructor", "move", text))

    def command(self, member: str, command: str, argument: Any = None) -> None:
        arguments = () if argument is None else (argument,)
        text = f"{command} {argument}" if arguments else command
        self._give(member, text, lambda proxy: proxy.command_inout(command, *arguments))

    def write(self, member: str, attribute: str, value: Any) -> None:
        self._give(member, f"{attribute} = {value}", lambda proxy: proxy.write_attribute(attribute, value))

    def move(self, name: str, nine: Any) -> None:
        """Bring a slice to nine numbers in mm; of many such orders the newest is given."""
        if "reconstructor" not in self._devices:
            self._answered("reconstructor", f"move {name}", "there is no reconstructor here")
            return
        write = partial(self._write_geometry, name, nine)
        self.moves.put(name, lambda: self._try("reconstructor", f"move {name}", write, quiet=True))

    def end(self) -> None:
        """Orders that wait are not given any more."""
        self.moves.end()
        for thread in self._threads.values():
            thread.shutdown(wait=False, cancel_futures=True)

    def _give(self, member: str, text: str, order: Callable[[Any], Any]) -> None:
        if member not in self._threads:
            self._answered(member, text, f"there is no {member} here")
            return
        self._threads[member].submit(self._in_thread, member, text, order)

    def _in_thread(self, member: str, text: str, order: Callable[[Any], Any]) -> None:
        with tango.EnsureOmniThread():
            self._try(member, text, order)

    def _try(self, member: str, text: str, order: Callable[[Any], Any], *, quiet: bool = False) -> None:
        try:
            proxy = tango.DeviceProxy(self._devices[member])
            proxy.set_timeout_millis(ANSWER_MS)
            order(proxy)
        except (tango.DevFailed, TypeError, ValueError) as error:  # PyTango: a value of the wrong type
            self._answered(member, text, why(error) if isinstance(error, tango.DevFailed) else str(error))
            return
        if not quiet:
            self._answered(member, text, "")

    @staticmethod
    def _write_geometry(name: str, nine: Any, proxy: Any) -> None:
        proxy.write_attribute(f"geometry_{name}", nine)
