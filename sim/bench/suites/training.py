"""Training steps of each preset, in turn with the same network as the paper's software built and trained it."""

from __future__ import annotations

from collections.abc import Iterator

from sim.bench import threads
from sim.bench.networks import CARD, original_step, trainer
from sim.bench.rows import Figure, Peer, Row
from sim.bench.timing import Effort, side_by_side, timed
from tango_jit.learn import SETTINGS

ORIGINAL = "the same network as Conv3d"
PAPER_STEPS = 4190 / 32  # a second, Standard, 20² or smaller
PAPER_60_MS = 10.0


def measure(effort: Effort) -> Iterator[Row]:
    threads.use("training")
    for preset, floor, times in (("PAPER", 60.0, 3.0), ("RELEASED", None, None)):
        settings = SETTINGS[preset]
        what = f"training, {'Standard' if preset == 'PAPER' else 'what the released software ran'}"
        what += f", {settings.batch_size} patches of {settings.patch_size}²"
        figures = side_by_side({"ours": trainer(settings).step, "original": original_step(settings)}, effort)
        ours, original = figures["ours"].rate(1), figures["original"].rate(1)
        card = Peer(CARD, PAPER_STEPS) if preset == "PAPER" else None
        yield Row.of(what, "/s", ours, target=floor, peer=card)
        yield Row.of(f"{what}, as Conv3d", "/s", original)
        yield ratio(f"{what}: faster than {ORIGINAL}", ours, original, times)
    product = SETTINGS["PRODUCT"]
    step = timed(trainer(product).step, effort).rate(1)
    yield Row.of(f"training, PRODUCT, {product.batch_size} patches of {product.patch_size}²", "/s", step)
    large = SETTINGS["PAPER"].edited(patch_size=60)
    what = f"a training step, Standard, {large.batch_size} patches of 60²"
    yield Row.of(what, "ms", timed(trainer(large).step, effort), peer=Peer(CARD, PAPER_60_MS))


def ratio(name: str, ours: Figure, theirs: Figure, target: float | None) -> Row:
    """How many times faster one rate is than another that was measured in turn with it."""
    spread = ours.spread[0] / theirs.spread[1], ours.spread[1] / theirs.spread[0]
    times = Figure(ours.value / theirs.value, spread, ours.best / theirs.best, ours.repeats)
    return Row.of(name, "times", times, target=target)
