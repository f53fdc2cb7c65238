"""Inference: tiles without seams, honest bfloat16, any size."""

from functools import cache
from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from tango_jit.learn import inference, precision, unet
from tango_jit.learn.inference import Predictor, tiles
from tango_jit.learn.settings import TrainerSettings
from tango_jit.learn.total_variation import REACH
from tango_jit.learn.trainer import Trainer
from tango_jit.learn.unet import FORMS, NetworkConfig, UNet, build
from tango_jit.learn.weights import unpack

CPU = torch.device("cpu")
STACKS = [{}, {"depth": 3}, {"frames": 3}]
EXACT = [*product(("guided", "residual"), (0.3, 0.1)), ("paper", 0.3)]
HAS_BFLOAT16 = precision.arithmetic("auto", CPU) == torch.bfloat16


def discs(count: int, size: int, noise: float, seed: int) -> Tensor:
    """Pairs (count, 2, size, size) of discs of brightness 1 with independent noise."""
    random = np.random.default_rng(seed)
    row, col = np.mgrid[:size, :size]
    center, radius = random.uniform(0, size, (2, count, 1, 1)), random.uniform(size / 5, size, (count, 1, 1))
    truth = (row - center[0]) ** 2 + (col - center[1]) ** 2 < radius**2
    return torch.from_numpy((truth[:, None] + noise * random.normal(size=(count, 2, size, size))).astype(np.float32))


@cache
def trained(form: str, noise: float) -> UNet:
    """A network that has learned such discs."""
    torch.set_num_threads(1)
    config = NetworkConfig("CUSTOM", form=form)  # pyright: ignore[reportArgumentType]
    trainer = Trainer(TrainerSettings(config, patch_size=32, halo=4, precision="float32"), seed=1)
    trainer.add(discs(320, 32, noise, seed=0))
    for _ in range(250):
        trainer.step()
    return unpack(trainer.weights())


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


@pytest.mark.parametrize("seen", STACKS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(201, 66), (90, 411), (257, 258)])
def test_large_images_pass_in_tiles_without_seams(monkeypatch, form, shape, seen):
    config = NetworkConfig("CUSTOM", features=4, form=form, **seen)
    network = build(config)
    for _, strength in network.named_buffers():
        strength.fill_(0.5)
    images = torch.rand(1, config.images, *shape, generator=torch.Generator().manual_seed(1)) + 1
    with torch.inference_mode():
        whole = network(images)
    monkeypatch.setitem(inference.TILE_BYTES, "cpu", 4 * inference.MAPS_ALIVE * 4 * config.images * 64 * 64)
    assert len(list(tiles(shape[0], shape[1], 64 * 64))) > 2
    torch.testing.assert_close(Predictor(network, "float32", CPU)(images), whole, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_tiles_have_as_much_around_them_as_the_network_sees(monkeypatch, form):
    """Shown where what is furthest counts: nothing cancels, and the prior is the mean of all that it may depend on."""
    monkeypatch.setattr(unet, "total_variation", lambda x, _: avg_pool2d(x, 2 * REACH + 1, 1, REACH))
    network = build(NetworkConfig("CUSTOM", features=4, form=form))
    with torch.inference_mode():
        for parameter in network.parameters():
            parameter.abs_()
        network.top.last.weight /= network(torch.ones(1, 1, 256, 256)).max()
        images = torch.rand(1, 1, 201, 290, generator=torch.Generator().manual_seed(1))
        whole = network(images)
    monkeypatch.setitem(inference.TILE_BYTES, "cpu", 4 * inference.MAPS_ALIVE * 4 * 64 * 64)
    torch.testing.assert_close(Predictor(network, "float32", CPU)(images), whole, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(8, 8), (512, 511), (100, 2000), (4096, 4096)])
@pytest.mark.parametrize("pixels", [1, 4096, 1 << 20])
def test_tiles_cover_every_pixel_once(shape, pixels):
    count = np.zeros(shape, np.uint8)
    for row, col in tiles(shape[0], shape[1], pixels):
        assert row.start % 4 == col.start % 4 == 0
        assert (row.stop - row.start) * (col.stop - col.start) <= max(2 * pixels, 64 * 128)
        count[row, col] += 1
    assert (count == 1).all()


@pytest.mark.parametrize("noise", [0.3, 0.1])
@pytest.mark.parametrize("form", FORMS)
def test_auto_is_exact_to_1_percent_of_the_noise_removed(form, noise):
    network, images = trained(form, noise), discs(1, 160, noise, seed=9)[:, :1]
    exact, automatic = (Predictor(network, precision, CPU)(images) for precision in ("float32", "auto"))
    assert rms(automatic - exact) < 0.01 * rms(exact - images)


@pytest.mark.parametrize(("form", "noise"), EXACT)
def test_so_exact_is_bfloat16_itself_and_auto_keeps_it(form, noise):
    """The other forms only where there is much noise to remove."""
    network, images = trained(form, noise), discs(1, 160, noise, seed=9)[:, :1]
    exact, coarse = (Predictor(network, precision, CPU)(images) for precision in ("float32", "bfloat16"))
    assert 0 < rms(coarse - exact) < 0.01 * rms(exact - images)
    automatic = Predictor(network, "auto", CPU)
    automatic(images)
    assert (automatic.precision == "bfloat16") == HAS_BFLOAT16


@pytest.mark.skipif(not HAS_BFLOAT16, reason="no bfloat16 here")
def test_where_bfloat16_is_too_coarse_float32_goes_on():
    """A network that hardly changes a bright image: rounding would be more than what it removes."""
    network = build(NetworkConfig("CUSTOM", form="paper"))
    with torch.no_grad():
        network.top.alpha.fill_(0.9999)  # pyright: ignore[reportOptionalMemberAccess]
        for layer in (network.top.first, network.top.second, network.top.third, network.top.last):
            layer.weight.zero_()
            layer.weight[0, 0, 1, 1] = 1.003  # not a number of 8 bits
    images = 1 + torch.rand(1, 1, 64, 64)
    predictor = Predictor(network, "auto", CPU)
    assert predictor.precision == "bfloat16"
    denoised = predictor(images)
    assert predictor.precision == "float32"
    with torch.inference_mode():
        torch.testing.assert_close(denoised, network(images), rtol=1e-6, atol=1e-6)


def test_an_empty_image_decides_nothing():
    predictor = Predictor(trained("residual", 0.3), "auto", CPU)
    before = predictor.precision
    assert float(predictor(torch.zeros(1, 1, 64, 64)).abs().max()) == 0
    assert predictor.precision == before
