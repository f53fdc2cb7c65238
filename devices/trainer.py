"""The JitTrainer device and its server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

import platformdirs
import tango

from devices.attributes import number_property, order, text_property
from devices.base import Door
from devices.registration import weights_folder
from devices.server import serve, upstream_endpoint
from tango_jit.services.tuning import TuningTrainerService
from tango_jit.threads import use_safe_layer


class JitTrainer(Door):
    """Trains the denoising network during the experiment, from the same projections.

    Reads filtered projections from its reconstructor, reconstructs pairs of small patches from even and odd
    projections, trains on them (Noise2Inverse) and publishes weights.
    """

    service_class = TuningTrainerService
    kept: ClassVar[Mapping[str, str]] = {"settings": "Settings"}

    ReconstructorDevice = text_property("The device that publishes filtered projections.")
    WeightsEndpoint = text_property("Where to publish weights.", "tcp://127.0.0.1:*")
    Backend = text_property(
        "Where patches are made and trained on: cpu or cuda. Where that cannot run: cpu, and ALARM.", "cpu"
    )
    BudgetMb = number_property("Largest backlog of frames, in MB.", 256)
    Seed = number_property("Seed of network and sampling: the same frames in the same order give the same weights.", 0)
    Nice = number_property("Niceness of the training threads: the live path goes first.", 10)
    Settings = text_property("Network and training settings, kept by the device itself (JSON).", "")
    WeightsFolder = text_property(
        "Folder, on the host of the server, that weights are kept in and taken up from after a crash: some 10 MB with "
        "the preset PRODUCT, never above 210. Empty: one for this device in the user's state folder; none: nothing is "
        "kept.",
        "",
    )
    Threads = number_property("Processor threads; 0: a share of the cores, as all servers on one computer need it.", 0)

    def build(self) -> TuningTrainerService:
        use_safe_layer()
        return TuningTrainerService(
            upstream_endpoint(self.ReconstructorDevice, "filtered_endpoint"),
            weights_endpoint=self.WeightsEndpoint,
            budget_bytes=self.BudgetMb << 20,
            backend=self.Backend,
            settings=self.Settings,
            folder=self._folder(),
            seed=self.Seed,
            threads=self.Threads,
            nice=self.Nice,
        )

    def _folder(self) -> Path | None:
        """As settings, weights are not kept without a database: nobody could say whose they are."""
        if not tango.Util._UseDb or self.WeightsFolder.strip().lower() == "none":
            return None
        folder = Path(self.WeightsFolder.strip()).expanduser()
        if not self.WeightsFolder.strip():
            return weights_folder(self.get_name(), platformdirs.user_state_path("tango-jit"))
        if not folder.is_absolute():
            raise ValueError(f"WeightsFolder: expected a path from the root, none, or nothing, got {folder}")
        return folder

    @order("Train: after Stop, Pause or FAULT.")
    def Start(self) -> None:
        self.guarded(self.service.start, "Start")

    @order("Stop receiving and training; weights stay.")
    def Stop(self) -> None:
        self.guarded(self.service.stop, "Stop")

    @order("Hold training; frames are still received, so that Start goes on at once.", at_work=True)
    def Pause(self) -> None:
        self.guarded(self.service.pause, "Pause")

    @order("Begin with a new network, as the attributes describe it; nothing of this series is taken up again.")
    def ResetNetwork(self) -> None:
        self.guarded(self.service.reset_network, "ResetNetwork")

    @order("Write the present weights. The path of the file (safetensors), on the host of this server.", str)
    def Save(self, path: str) -> None:
        self.guarded(lambda: self.service.save(Path(path)), "Save")

    @order(
        "Go on from a file that Save wrote, and its network. Its path, on the host of this server.",
        str,
    )
    def Load(self, path: str) -> None:
        self.guarded(lambda: self.service.load(Path(path)), "Load")

    @order(
        "Undo the last Load or takeover by AutoTune; where there was none, or it is undone, go back to the "
        "best stored weights before the present ones."
    )
    def Rollback(self) -> None:
        self.guarded(self.service.rollback, "Rollback")

    @order(
        "Compare a menu of networks on this stream, beside training; the best that is fast enough for wanted_hz "
        "takes over if it is better. Returns at once; tuning_progress and tuning_verdict tell.",
        at_work=True,
    )
    def AutoTune(self) -> None:
        self.guarded(self.service.auto_tune, "AutoTune")

    @order("Give up the comparison of AutoTune; the present network stays.", at_work=True)
    def StopAutoTune(self) -> None:
        self.guarded(self.service.stop_auto_tune, "StopAutoTune")


def main() -> None:
    """Console script tango-jit-trainer."""
    serve(JitTrainer, "tango-jit-trainer")


if __name__ == "__main__":
    main()
