"""Table 1 of the paper on this computer: samples trained and images of 1024 x 1024 denoised, for fourteen networks.

C: feature maps of the first level, V: size of the patches, Z: slices, T: moments that the network sees; the rest as in
Standard (8 maps, 20 x 20, one image). The paper's figures, taken on a GPU, stand beside; it is likely that its software
ran only the first level of each network (docs/explanations/learning.md), so they are no figures of the same work.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sim.bench import threads
from sim.bench.networks import CARD, TABLE, inference, trainer
from sim.bench.rows import Peer, Row
from sim.bench.timing import Effort, timed

SIDE = 1024


def measure(effort: Effort) -> Iterator[Row]:
    effort = replace(effort, longest_s=effort.longest_s / 2)
    for network in TABLE:
        if effort.quick and network.name not in ("Standard", "Z3", "T3"):
            yield Row.not_run(f"{network.name}: samples trained", "/s", "--quick leaves it out")
            continue
        settings = network.settings
        threads.use("training")
        trained = timed(trainer(settings).step, effort, warm_up=1).rate(settings.batch_size)
        yield Row.of(f"{network.name}: samples trained", "/s", trained, peer=Peer(CARD, network.samples_per_s))
        threads.use("denoising")
        shown = timed(inference(settings.network, SIDE), effort, warm_up=1).rate(1)
        yield Row.of(f"{network.name}: images of {SIDE}²", "Hz", shown, peer=Peer(CARD, network.hz))
