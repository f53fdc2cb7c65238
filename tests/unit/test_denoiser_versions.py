"""Which weights the denoiser uses: whole versions only, bad ones refused, frozen, rolled back."""

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from tango_jit.learn import Denoiser
from tango_jit.learn.unet import STRENGTH
from tango_jit.learn.weights import Weights, pack
from tests.denoising import constant, halves, learned, network_of, stronger

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def weights() -> Weights:
    """Of a network that was trained on such discs."""
    return learned("guided")


@pytest.fixture(scope="module")
def residual() -> Weights:
    """The same for one that adds a correction to the image itself."""
    return learned("residual")


def test_the_same_weights_again_change_nothing(weights):
    denoise = Denoiser()
    assert denoise.load(weights)
    assert not denoise.load(replace(weights))
    with pytest.raises(RuntimeError, match="rollback: expected weights used before these, got none"):
        denoise.rollback()
    assert denoise.load(stronger(weights, 0.5, version=1))  # a trainer that was restarted counts from 1 again


def changed(weights: Weights, name: str, tensor: Tensor | None) -> Weights:
    tensors = {n: t for n, t in load(bytes(weights.tensors)).items() if n != name or tensor is not None}
    if tensor is not None:
        tensors[name] = tensor
    return replace(weights, tensors=save(tensors))


LAST = "top.last.weight"


@pytest.mark.parametrize(
    ("name", "tensor", "words"),
    [
        (LAST, torch.full((1, 8, 3, 3), torch.nan), "top.last.weight: expected finite numbers, got 72 that are not"),
        (LAST, torch.zeros(1, 8, 3, 5), r"top.last.weight: expected shape \(1, 8, 3, 3\) of torch.float32, got \(1, 8"),
        (LAST, torch.zeros(1, 8, 3, 3, dtype=torch.float64), "of torch.float32, got .* of torch.float64"),
        (LAST, None, "expected the 19 tensors of a network of form guided, got 18; missing: top.last.weight"),
        (STRENGTH, None, "expected the 19 tensors of a network of form guided, got 18; missing: strength"),
        (STRENGTH, torch.tensor(torch.nan), "strength: expected finite numbers, got 1 that are not"),
        ("extra", torch.zeros(1), "unknown: extra"),
    ],
)
def test_bad_weights_are_refused_and_the_good_ones_stay(weights, name, tensor, words):
    even, odd, _ = halves()
    denoise = Denoiser()
    denoise.load(weights)
    before = denoise(even, odd)
    with pytest.raises(ValueError, match=words):
        denoise.load(changed(weights, name, tensor))
    after = denoise(even, odd)
    np.testing.assert_array_equal(after.image, before.image)
    assert after.weights_version == 1


def test_other_bytes_and_networks_are_refused(weights, residual):
    denoise = Denoiser()
    with pytest.raises(ValueError, match="weights: expected a safetensors file, got 7 bytes"):
        denoise.load(replace(weights, tensors=b"nothing"))
    with pytest.raises(ValueError, match=r"of a network of form guided, got 1; missing: .*; unknown: x"):
        denoise.load(replace(weights, tensors=save({"x": torch.zeros(1)})))
    with pytest.raises(ValueError, match=r"weights: .*: expected shape \(\d+, \d+, 3, 3, 3\) of"):
        denoise.load(replace(residual, network={**residual.network, "depth": 3}))
    with pytest.raises(ValueError, match="expected shape"):
        denoise.load(replace(weights, network={**weights.network, "features": 16}))
    assert denoise.weights is None


def test_no_slice_sees_parts_of_two_versions():
    """Versions follow each other as fast as they can: each slice is that of exactly the version it names."""
    even, odd, _ = halves((16, 16))
    versions = [constant(n) for n in range(1, 9)]
    for n, version in enumerate(versions, 1):  # the output of version n is (1 + n) times its input
        network = network_of(version)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.zero_()
            for layer in (network.top.first, network.top.second, network.top.third, network.top.last):
                layer.weight[0, 0, 1, 1] = 1.0
            network.top.last.weight[0, 0, 1, 1] = float(n)
        versions[n - 1] = pack(network, version=n, scale=1.0, patch_accuracy=None, generation=0)
    denoise = Denoiser(precision="float32", guard=False)
    denoise.load(versions[0])
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for version in versions:
                denoise.load(version)

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        even, odd = np.abs(even), np.abs(odd)
        seen = set()
        for _ in range(300):
            result = denoise(even, odd)
            seen.add(result.weights_version)
            np.testing.assert_allclose(result.image, (1 + result.weights_version) * result.raw, rtol=1e-4)
    finally:
        stop.set()
        thread.join()
    assert len(seen) > 1


def test_frozen_keeps_the_weights_until_thawed(weights):
    denoise = Denoiser()
    denoise.load(weights)
    denoise.freeze()
    assert denoise.frozen
    for version in (2, 3):
        assert not denoise.load(stronger(weights, 0.5, version))
    assert denoise.weights == weights
    denoise.freeze(False)
    assert denoise.weights is not None
    assert denoise.weights.version == 3


def test_rollback_returns_to_the_weights_before_and_freezes(weights):
    denoise = Denoiser(keep=2)
    for version in range(1, 6):
        denoise.load(stronger(weights, 0.5, version))
    assert [denoise.rollback(), denoise.rollback()] == [4, 3]
    assert denoise.frozen
    with pytest.raises(RuntimeError, match="rollback: expected weights used before these"):
        denoise.rollback()
    assert not denoise.load(stronger(weights, 0.5, 6))
    assert denoise(*halves()[:2]).weights_version == 3
    denoise.freeze(False)
    assert denoise(*halves()[:2]).weights_version == 6


def test_what_a_rollback_leaves_comes_back_though_nothing_newer_does(weights):
    denoise = Denoiser()
    for version in (1, 2, 3, 4):
        denoise.load(stronger(weights, 0.5, version))
    assert [denoise.rollback(), denoise.rollback()] == [3, 2]
    assert not denoise.load(stronger(weights, 0.5, 4))  # sent again
    assert denoise.versions == [1, 2, 3, 4]
    assert [denoise.remembered(version).version for version in (3, 4)] == [3, 4]
    denoise.freeze(False)
    assert denoise(*halves()[:2]).weights_version == 4
    assert denoise.versions == [1, 2, 3, 4], "in their order, for the next rollback"
    assert denoise.rollback() == 3
    denoise.load(stronger(weights, 0.5, 5))
    assert denoise.versions == [1, 2, 3, 4, 5]
    denoise.move("cpu")
    denoise.freeze(False)
    assert denoise.versions == [1, 2, 3, 4, 5]
    assert denoise.rollback() == 4
