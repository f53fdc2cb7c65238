"""The U-Net family: wiring, size, cost, receptive field."""

import re
from itertools import product

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, conv3d, conv_transpose3d

from tango_jit.learn import unet
from tango_jit.learn.total_variation import REACH, total_variation
from tango_jit.learn.unet import BREADTH, CONVOLUTIONS, FORMS, STRENGTH, Level, NetworkConfig, UNet, build, mean

CONFIGS = [NetworkConfig(features=f, form=form) for form, f in product(FORMS, (8, 16, 32))]
STACKS = [
    NetworkConfig("CUSTOM", form=form, depth=number if seen == "depth" else 1, frames=number if seen == "frames" else 1)
    for form, seen, number in product(FORMS, ("depth", "frames"), (3, 5, 7))
]


def scene(n: int = 2, size: int = 40, stack: int = 1) -> Tensor:
    """A bright square with noise: (n, stack, size, size)."""
    images = torch.rand(n, stack, size, size, generator=torch.Generator().manual_seed(1))
    images[..., size // 4 : size // 2, size // 4 :] += 3
    return images


def with_strength(network: UNet, strength: float) -> UNet:
    """The network, guided by total variation of this strength if it is of that form."""
    for _, buffer in network.named_buffers():
        buffer.fill_(strength)
    return network


def layers(config: NetworkConfig, size: int = 48) -> list[tuple[int, float]]:
    """(weights, multiplications per pixel of the image) of each convolution, in the order in which they run."""
    network, found = build(config), []

    def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        assert isinstance(module, CONVOLUTIONS)
        # Each output pixel of a convolution, each input pixel of a transposed one, meets all taps.
        transposed = isinstance(module, nn.ConvTranspose2d | nn.ConvTranspose3d)
        pixels = (inputs[0] if transposed else output)[0, 0].numel()
        found.append((module.weight.numel(), pixels * module.weight.numel() / size**2))

    for module in network.modules():
        if isinstance(module, CONVOLUTIONS):
            module.register_forward_hook(note)
    network(torch.rand(1, config.images, size, size))
    return found


@pytest.mark.parametrize("config", CONFIGS + STACKS, ids=str)
def test_size_and_cost_are_as_declared(config):
    table = layers(config)
    mixing = {"guided": 0, "residual": 0, "paper": 3, "released": 1}[config.form]
    assert sum(weights for weights, _ in table) + mixing == config.parameters
    assert sum(p.numel() for p in build(config).parameters()) == config.parameters
    assert sum(macs for _, macs in table) == config.macs_per_pixel


def test_table_of_the_docstring_is_true():
    text = unet.__doc__ or ""
    rows = re.findall(r"^ +\d? +(?:first|second|down|up|third|last) .* ([\d,]+) +([\d,]+)$", text, re.MULTILINE)
    table = [(int(weights.replace(",", "")), float(macs.replace(",", ""))) for weights, macs in rows]
    assert table == layers(NetworkConfig(form="residual"))
    for form in FORMS:
        config = NetworkConfig(form=form)
        (row,) = re.findall(rf"^ +{form} .*$", text, re.MULTILINE)
        mixing = {"paper": 3, "released": 1}.get(form, 0)
        assert f" {config.parameters - mixing:,} {f'+ {mixing} ' if mixing else ''}" in row
        assert f" {config.macs_per_pixel:,.0f} " in row
        assert f" {config.receptive_field} x {config.receptive_field}" in row


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("config", CONFIGS[::3] + CONFIGS[1:2] + STACKS[::5], ids=str)
def test_every_parameter_gets_a_gradient(config, seed):
    network, images = build(config, seed), scene(stack=config.images)
    (network(images) - images[:, :1].flip(0)).square().mean().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("form", FORMS)
def test_receptive_field_is_as_declared(form, monkeypatch):
    """Total variation has no gradient; a mean over its reach stands for it (test_total_variation shows that reach)."""
    monkeypatch.setattr(unet, "total_variation", lambda images, _: avg_pool2d(images, 2 * REACH + 1, 1, REACH))
    network = build(NetworkConfig(form=form))
    for parameter in network.parameters():  # positive weights: no ReLU hides a path, nothing cancels
        nn.init.constant_(parameter, 0.0 if parameter.ndim == 0 else 0.1)
    widths = set()
    for at in range(80, 84):  # every place in the grid of the lowest level
        image = torch.ones(1, 1, 164, 164, requires_grad=True)
        network(image)[0, 0, at, at].backward()
        assert image.grad is not None
        seen = image.grad[0, 0] != 0
        widths |= {int(seen.any(0).sum()), int(seen.any(1).sum())}
    assert max(widths) == network.config.receptive_field


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(8, 8), (9, 13), (30, 30), (50, 31), (150, 250)])
def test_any_size_runs(form, shape):
    output = build(NetworkConfig(form=form))(torch.rand(1, 1, *shape))
    assert output.shape == (1, 1, *shape)
    assert torch.isfinite(output).all()


@pytest.mark.parametrize("config", STACKS, ids=str)
def test_stacks_give_their_middle_image_at_any_size(config):
    for shape in ((8, 8), (30, 51)):
        assert build(config)(torch.rand(2, config.images, *shape)).shape == (2, 1, *shape)


@pytest.mark.parametrize("config", STACKS, ids=str)
def test_a_stack_is_seen_as_a_whole(config):
    """The middle image depends on every image of the stack."""
    network, images = build(config), scene(stack=config.images)
    images.requires_grad_()
    network(images).square().mean().backward()
    assert images.grad is not None
    assert (images.grad.abs().sum((0, 2, 3)) > 0).all()


@pytest.mark.parametrize("shape", [(1, 1, 7, 8), (1, 2, 16, 16), (16, 16)])
def test_no_image_is_refused(shape):
    with pytest.raises(ValueError, match=r"expected \(batch, 1, rows, cols\) of at least 8 x 8"):
        build(NetworkConfig())(torch.zeros(shape))


def level_in_3d(level: Level, x: Tensor) -> Tensor:
    """The same level with 3 x 3 x 3 kernels, whose outer slices meet nothing but padding at depth 1."""

    def kernel(conv: nn.Conv2d | nn.Conv3d | nn.ConvTranspose2d | nn.ConvTranspose3d) -> Tensor:
        weight = torch.rand(*conv.weight.shape[:2], 3, 3, 3)
        weight[:, :, 1] = conv.weight
        return weight

    bottom = level.below is None
    stride = (1, 1, 1) if bottom else (1, 2, 2)
    skip = conv3d(x, kernel(level.first), padding=1).relu()
    skip = conv3d(skip, kernel(level.second), padding=1).relu()
    y = conv3d(skip, kernel(level.down), padding=1, stride=stride).relu()
    if isinstance(level.below, Level):
        y = level_in_3d(level.below, y)
    extra = (0, 0, 0) if bottom else (0, 1, 1)
    y = conv_transpose3d(y, kernel(level.up), padding=1, stride=stride, output_padding=extra).relu()
    y = y if bottom else torch.cat([skip, y], 1)
    y = conv3d(conv3d(y, kernel(level.third), padding=1).relu(), kernel(level.last), padding=1)
    y = y if level.linear else y.relu()
    return y if level.alpha is None else level.alpha * x + (1 - level.alpha) * y


@pytest.mark.parametrize("form", FORMS)
def test_flat_convolutions_are_those_in_3d_at_depth_1(form):
    network, images = with_strength(build(NetworkConfig(form=form)), 0.4), scene()
    for name, parameter in network.named_parameters():
        if name.endswith("alpha"):
            nn.init.constant_(parameter, 0.2)
    prior = total_variation(images, 0.4)
    seen = torch.cat([images, prior], 1) if form == "guided" else images
    with torch.no_grad():
        deep = level_in_3d(network.top, seen[:, :, None])[:, :, 0]
        deep = {"guided": prior, "residual": images}.get(form, 0) + deep
        torch.testing.assert_close(network(images), deep, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_without_biases_brightness_does_not_matter(form):
    """To a guided network neither, as long as its strength is that of the same noise."""
    network, images = with_strength(build(NetworkConfig(form=form)), 0.1), scene()
    with torch.no_grad():
        expected = 8 * network(images)
        if form == "guided":
            assert float((network(8 * images) - expected).abs().max()) > 0.1
        torch.testing.assert_close(with_strength(network, 0.8)(8 * images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("form", ["guided", "residual"])
def test_it_begins_near_the_identity(form):
    """A guided one near total variation, which is the identity while the strength is not known."""
    images = scene()
    with torch.no_grad():
        for seed in range(4):
            network = build(NetworkConfig(form=form), seed)
            assert (network(images) - images).norm() < images.norm() / 2
            prior = total_variation(images, 0.4 if form == "guided" else 0)
            change = with_strength(network, 0.4)(images) - prior
            assert change.norm() < images.norm() / 2


@pytest.mark.parametrize("seen", [{}, {"depth": 3}, {"frames": 5}])
def test_a_guided_network_corrects_the_prior_of_the_middle_image(seen):
    network = build(NetworkConfig("CUSTOM", **seen))
    images = scene(stack=network.config.images)
    middle = images[:, network.config.images // 2, None]
    nn.init.zeros_(network.top.last.weight)
    with torch.no_grad():
        torch.testing.assert_close(network(images), middle, rtol=0, atol=1e-5)  # strength 0, as it is built
        assert torch.equal(with_strength(network, 0.3)(images), total_variation(middle, 0.3))


def test_of_a_stack_the_prior_is_that_of_the_mean():
    network = with_strength(build(NetworkConfig("CUSTOM", depth=5)), 0.3)
    nn.init.zeros_(network.top.last.weight)
    getattr(network, BREADTH).fill_(2.0)
    images = scene(stack=5)
    weights = torch.tensor([0, 1, 2, 1, 0]) / 4
    expected = total_variation((images * weights[:, None, None]).sum(1, keepdim=True), 0.3)
    with torch.no_grad():
        torch.testing.assert_close(network(images), expected, rtol=0, atol=1e-5)
    assert torch.equal(mean(images, 4, 1.0), images[:, 4:])
    torch.testing.assert_close(mean(images, 4, 2.0), (2 * images[:, 4:] + images[:, 3:4]) / 3)


def test_the_strength_travels_with_the_weights_and_is_not_trained():
    network = build(NetworkConfig())
    assert network.state_dict()[STRENGTH] == 0
    assert STRENGTH not in dict(network.named_parameters())
    other = build(NetworkConfig(), seed=1)
    other.load_state_dict(with_strength(network, 0.3).state_dict())
    assert torch.equal(other(scene()), network(scene()))
    for form in FORMS[1:]:
        assert STRENGTH not in build(NetworkConfig(form=form)).state_dict()


def test_seed_decides_the_weights():
    first, same, other = (dict(build(NetworkConfig(), seed).named_parameters()) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not any(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"depth": 4}, "depth: expected an odd number .the middle one is put out., got 4"),
        ({"frames": 2}, "frames: expected an odd number .the middle one is put out., got 2"),
        ({"depth": 3, "frames": 3}, "depth, frames: expected one of them to be 1, got 3 and 3"),
        ({"depth": 65}, "depth: expected a whole number from 1 to 63, got 65"),
        ({"depth": 7, "features": 64}, "features: expected at most 256 maps .*, got 64 for each of 7 images"),
        ({"depth": 0}, "depth: expected a whole number from 1"),
        ({"features": 65}, "features: expected a whole number from 1 to 64, got 65"),
        ({"features": 8.0}, "features: expected a whole number"),
        ({"features": True}, "features: expected a whole number"),
        ({"frame_interval": 0}, "frame_interval: expected a whole number"),
        ({"target": "first"}, "target: expected one of middle, last, got 'first'"),
        ({"depth": 3, "target": "last"}, "target: expected 'middle' for a network that sees 3 slices, got 'last'"),
        ({"form": "deep"}, "form: expected one of guided, residual, paper, released, got 'deep'"),
        ({"preset": "BEST"}, "preset: expected one of PRODUCT, PAPER, RELEASED, CUSTOM, got 'BEST'"),
    ],
)
def test_wrong_configurations_are_refused_in_words(fields, words):
    with pytest.raises(ValueError, match=words):
        NetworkConfig(**fields)


def test_configuration_survives_json():
    config = NetworkConfig("CUSTOM", features=16, frame_interval=30)
    assert NetworkConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="network: expected the fields"):
        NetworkConfig.from_dict({**config.to_dict(), "layers": 3})
    with pytest.raises(ValueError, match="network: expected the fields"):
        NetworkConfig.from_dict({"preset": "PRODUCT"})
