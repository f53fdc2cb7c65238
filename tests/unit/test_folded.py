"""The folded network is the network: values and gradients, any stack, any form."""

import copy
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from tango_jit.learn.folded import Folded, in_blocks, in_pixels
from tango_jit.learn.total_variation import total_variation
from tango_jit.learn.unet import FORMS, STRENGTH, NetworkConfig, UNet, build, mean

STACKS = [{}, {"depth": 3}, {"depth": 5}, {"depth": 7}, {"frames": 3}, {"frames": 7}]
STACKS += [{"frames": 3, "target": "last"}, {"frames": 5, "target": "last"}]
CONFIGS = [NetworkConfig("CUSTOM", features=4, form=form, **seen) for form, seen in product(FORMS, STACKS)]


def network_of(config: NetworkConfig) -> UNet:
    """One whose levels all mix in some of their input, and whose prior is not the image itself."""
    network = build(config, seed=3)
    for name, parameter in network.named_parameters():
        if name.endswith("alpha"):
            nn.init.constant_(parameter, 0.2)
    for name, number in network.named_buffers():
        number.fill_(0.3 if name == STRENGTH else 2.5)
    return network


def tensors_of(network: UNet) -> dict[str, Tensor]:
    """All it computes with, to differentiate with respect to."""
    return dict(network.named_parameters()) | dict(network.named_buffers())


def images(config: NetworkConfig, rows: int = 30, cols: int = 26) -> Tensor:
    return torch.rand(2, config.images, rows, cols, generator=torch.Generator().manual_seed(1))


def far(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_values_and_gradients_are_those_of_the_network(config):
    network, x = network_of(config), images(config)
    expected = network(x)
    folded = Folded(config, tensors_of(network))(x)
    assert far(folded.detach(), expected.detach()) < 1e-6
    loss, expected_loss = (y.square().mean() for y in (folded, expected))
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    for gradient, wanted in zip(gradients, torch.autograd.grad(expected_loss, list(network.parameters())), strict=True):
        assert far(gradient, wanted) < 2e-3  # the scalars alpha are sums that nearly cancel


@pytest.mark.parametrize("shape", [(8, 8), (9, 14), (40, 31)])
@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_blocks_of_pixels_change_nothing(config, shape):
    network, x = network_of(config), images(config, *shape)
    with torch.no_grad():
        assert far(Folded(config, network.state_dict(), blocks=True)(x), network(x)) < 1e-6


def test_pixels_become_blocks_and_pixels_again():
    for batch, maps, rows, cols in ((1, 1, 2, 2), (1, 1, 14, 8), (2, 3, 6, 10)):
        for dtype in (torch.float32, torch.bfloat16):
            x = torch.rand(batch, maps, rows, cols).to(dtype)
            blocks = in_blocks(x)
            assert torch.equal(blocks, pixel_unshuffle(x, 2))
            assert blocks.is_contiguous(memory_format=torch.channels_last)
            single = x[:, :1].contiguous()
            assert torch.equal(in_pixels(in_blocks(single)), single)
            assert torch.equal(in_pixels(blocks[:, :4]), pixel_shuffle(blocks[:, :4], 2))


@pytest.mark.parametrize("config", CONFIGS[:: len(STACKS)], ids=str)
def test_bfloat16_brings_the_image_through_exactly(config):
    """An image whose numbers need more than 8 bits comes out to float32 where the network changes nothing, and so does
    its prior, which a guided network changes."""
    network, x = build(config), images(config) + 10
    tensors = {name: torch.zeros_like(tensor) for name, tensor in network.state_dict().items()}
    for layer in ("first", "second", "third", "last"):  # the first map carries the image, the others nothing
        tensors[f"top.{layer}.weight"][0, 0, 1, 1] = 0.0 if config.linear else 1.0
    y = Folded(config, tensors, torch.bfloat16)(x)
    assert far(y, x) < (1e-6 if config.form == "guided" else 1e-7 if config.linear else 3e-3)
    if config.form == "guided":
        tensors[STRENGTH].fill_(0.3)
        x = x[..., :28, :24]  # sides that need no padding
        assert torch.equal(Folded(config, tensors, torch.bfloat16)(x), total_variation(x, 0.3))


@pytest.mark.parametrize("seen", STACKS[::2])
@pytest.mark.parametrize("blocks", [False, True])
def test_bfloat16_sees_image_and_prior_each_as_two_numbers(seen, blocks):
    """The prior of a bright image differs from it by less than 8 bits show: what the network makes of the difference is
    right all the same."""
    config = NetworkConfig("CUSTOM", features=4, **seen)
    network, x = network_of(config), images(config) + 30
    with torch.no_grad():
        first, shown = network.top.first.weight, config.images // 2
        image = first[:, shown].clone()
        first[:] = 0
        first[:, shown], first[:, -1] = image, -image  # image less prior
        prior = total_variation(x if config.images == 1 else mean(x, shown, 2.5), 0.3)
        change, exact = (
            Folded(config, network.state_dict(), dtype, blocks=blocks)(x) - prior
            for dtype in (torch.bfloat16, torch.float32)
        )
    assert far(change, exact) < 0.05


@pytest.mark.parametrize("seen", STACKS[::2])
def test_a_guided_network_without_its_strength_is_refused(seen):
    network = network_of(NetworkConfig("CUSTOM", features=4, **seen))
    with pytest.raises(KeyError, match=STRENGTH):
        Folded(network.config, dict(network.named_parameters()))


def test_a_copy_computes_with_numbers_of_its_own():
    """As recordings for a GPU do: the numbers of a copy are exchanged, those of the original stay."""
    first, second = (build(NetworkConfig("CUSTOM", depth=3), seed) for seed in (1, 2))
    x = images(first.config)
    with torch.inference_mode():
        original, other = (Folded(network.config, network.state_dict()) for network in (first, second))
        duplicate = copy.deepcopy(original)
        for here, new in zip(duplicate.numbers, other.numbers, strict=True):
            here.copy_(new)
        assert torch.equal(duplicate(x), other(x))
        assert far(original(x), first(x)) < 1e-6
