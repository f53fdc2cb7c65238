"""The settings of a trainer: as they are written, and those that follow the stream unless somebody writes them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tango_jit.cores import slice_pixels, usable_cores
from tango_jit.geometry import ScanGeometry
from tango_jit.learn.patches import NoRoomError
from tango_jit.learn.settings import TrainerSettings
from tango_jit.learn.trainer import Trainer
from tango_jit.learn.unet import NetworkConfig
from tango_jit.recon.backproject import device
from tango_jit.services import container
from tango_jit.services import trainer_settings as wishes
from tango_jit.services.buffering import Buffering, resized
from tango_jit.services.service import Service
from tango_jit.streams import Header


class Following(Service):
    """What a trainer is to do, and what it sees for itself: depth, container, size of the buffer."""

    _settings: TrainerSettings
    _trainer: Trainer
    _header: Header | None
    _seed: int
    _search: container.ContainerSearch
    _buffering: Buffering
    _pixels: float = math.inf

    def accept(self, name: str, value: Any) -> None:
        settings = wishes.edited(self._settings, name, value, self.values["depth_auto"])
        news = wishes.written(name, value)
        if news.get("depth_auto", self.values["depth_auto"]) and self._header is not None:
            settings = wishes.deep_as(settings, self._header.geometry, self._pixels)
        self._settings = settings
        self._show(**news)

    def _show(self, **news: Any) -> None:
        """Publish the settings one by one, and as the text that remembers them."""
        text = wishes.as_text(self._settings, {**self.values, **news})
        self.publish(**news | wishes.shown(self._settings) | {"settings": text})

    # ---- the worker

    def _follow(self, header: Header, backend: str, *, new: bool) -> None:
        """A series begins, or is begun anew with another backend: then the network stays as deep as it is."""
        self._search = container.ContainerSearch(header.geometry, backend)
        self._contain(container.NOT_YET)
        if not new:
            return
        self._pixels = slice_pixels(usable_cores()) if device(backend) == "cpu" else math.inf
        if self.values["depth_auto"] and (network := self._seeing(header.geometry)) is not None:
            self._renew(network)

    def _renew(self, network: NetworkConfig) -> None:
        """Begin with an untrained network of another depth."""
        self._trainer.reset_network(self._seed, network)

    def _seeing(self, geometry: ScanGeometry) -> NetworkConfig | None:
        """A network of as many slices as a scan offers and this computer can make; None: it is the present one.

        Other edits of the network go on waiting.
        """
        try:
            with self._lock:
                self._settings = wishes.deep_as(self._settings, geometry, self._pixels)
                self._show()
            trained = wishes.deep_as(self._trainer.settings, geometry, self._pixels).network
        except ValueError as error:
            self.trouble(f"depth stays {self._trainer.settings.network.depth}: {error}")
            return None
        return None if trained.shape == self._trainer.settings.network.shape else trained

    def _contain(self, found: container.Found | None) -> None:
        """Where patches lie from now on, unless somebody says where; None: nothing new is known."""
        with self._lock:
            if found is not None and self.values["container_auto"]:
                self.publish(**container.signals(found))

    def _left_out(self, error: ValueError) -> bool:
        """Is there no room for patches in a container that was found? It is none, then."""
        found = self.values["container_auto"] and len(self.values["container"])
        if not (found and isinstance(error, NoRoomError)):
            return False
        self._contain(container.left_out(error))
        return True

    def _resize(self, scores: np.ndarray) -> None:
        """Pairs with these scores have just been added."""
        if not self.values["buffer_auto"]:
            return
        pairs = self._buffering.review(self._trainer, scores)
        with self._lock:
            if pairs is not None and self.values["buffer_auto"]:
                self._settings = resized(self._settings, pairs)
                self._show()
