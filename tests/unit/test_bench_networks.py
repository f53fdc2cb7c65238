"""The networks of `tango-jit bench`: what stands beside ours as the original is the same function."""

from __future__ import annotations

import pytest
import torch

from sim.bench.networks import TABLE, Original, image, inference, original_step, passes, trainer
from tango_jit.learn import SETTINGS
from tango_jit.learn.graphs import Passes
from tango_jit.learn.unet import build


@pytest.mark.parametrize("preset", ["PAPER", "RELEASED"])
def test_the_original_is_the_same_function(preset):
    """Its kernels of 3 x 3 x 3 meet padding but for the middle layer, which is ours."""
    config = SETTINGS[preset].network
    ours, original = build(config, seed=3), Original(config)
    tensors = {}
    for (name, here), there in zip(ours.state_dict().items(), original.state_dict().values(), strict=True):
        deep = torch.zeros_like(there)
        if there.ndim == 5:
            deep[:, :, 1] = here
        else:
            deep.copy_(here)  # the share of the input
        tensors[name] = deep
    original.load_state_dict(tensors)
    x = image(config, 64)
    with torch.inference_mode():
        torch.testing.assert_close(original(x), ours(x), rtol=0, atol=1e-5)


def test_the_table_holds_the_fourteen_networks_of_the_paper():
    shapes = {n.name: (n.settings.network.features, n.settings.network.images, n.settings.patch_size) for n in TABLE}
    assert len(shapes) == 14
    assert shapes["Standard"] == (8, 1, 20)
    assert shapes["C32"] == (32, 1, 20)
    assert shapes["V150"] == (8, 1, 150)
    assert shapes["Z7"] == shapes["T7"] == (8, 7, 20)
    assert {n.settings.batch_size for n in TABLE} == {32}
    assert {n.settings.network.form for n in TABLE} == {"paper"}


@pytest.mark.parametrize("name", ["Standard", "Z3", "T3"])
def test_networks_train_and_denoise(name):
    network = next(n for n in TABLE if n.name == name)
    made = trainer(network.settings)
    made.step()
    assert made.steps == 1
    assert inference(network.settings.network, 32)().shape == (1, 1, 32, 32)


def test_passes_are_recorded_where_the_denoiser_records_them():
    assert isinstance(passes("cuda"), Passes)
    assert passes("cpu") is None


def test_the_original_trains():
    torch.manual_seed(0)
    step = original_step(SETTINGS["RELEASED"].edited(batch_size=2, learning_rate=1e-2))
    losses = [step() for _ in range(20)]
    assert losses[-1] < losses[0] - 1e-3
