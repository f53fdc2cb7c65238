"""What a network learns: both tasks by themselves, networks that learn them, and a third one that is made here."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from tango_jit.learn import Denoiser, NetworkConfig, Trainer, build, noise2inverse
from tango_jit.learn.measured import Measured
from tango_jit.learn.tasks import TASKS, Numbers, Task
from tango_jit.learn.tasks.segment import SMOOTHING, SOFTNESS, THRESHOLD, WEAK
from tango_jit.learn.total_variation import total_variation
from tango_jit.learn.weights import from_checkpoint, unpack
from tests.training import SMALL, equal, scene

pytestmark = pytest.mark.usefixtures("one_thread")
SEGMENT, DENOISE = TASKS["SEGMENT"], TASKS["DENOISE"]
NUMBERS = {THRESHOLD: torch.tensor(0.5), SOFTNESS: torch.tensor(0.125), SMOOTHING: torch.tensor(0.3)}
HALO = 3


def batch(n: int = 8, seed: int = 0, noise: float = 0.4, size: int = 32) -> tuple[Tensor, Tensor, Tensor]:
    """u, v and the disc without noise, (n, 1, size, size) each."""
    pairs, discs = scene(n, seed, size, noise)
    u, v = torch.from_numpy(pairs)[:, :, None].unbind(1)
    return u, v, torch.from_numpy(discs)


def numbers_of(factor: float) -> Numbers:
    return {name: factor * number for name, number in NUMBERS.items()}


# ---- the tasks by themselves


def test_denoising_predicts_the_other_image():
    u, v, disc = batch()
    ones = torch.ones_like(u)
    assert DENOISE.target(v, {}) is v
    assert float(DENOISE.loss(disc, v, ones, {})) == pytest.approx(0.16, rel=0.03)
    errors = DENOISE.errors(disc, u, v, ones, HALO, {})
    np.testing.assert_array_equal(errors, noise2inverse.errors(disc, u, v, ones, HALO))
    assert noise2inverse.accuracy(errors) == pytest.approx(0.5, abs=0.02)


def test_segmenting_predicts_labels_of_the_other_image():
    u, v, disc = batch()
    labels = SEGMENT.target(v, NUMBERS)
    assert set(labels.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(labels, (total_variation(v, 0.3) > 0.5).float())
    wrong = (labels != disc).float().mean()
    assert wrong < 0.2 * (SEGMENT.simple(v, NUMBERS) != disc).float().mean()
    ones = torch.ones_like(u)
    # An output equal to the object has p = 0.018 and 0.982 (half a contrast is four softnesses).
    assert SEGMENT.picture(disc, NUMBERS).unique().tolist() == pytest.approx([0.01799, 0.98201], abs=1e-4)
    accuracy = noise2inverse.accuracy(SEGMENT.errors(disc, u, labels, ones, HALO, NUMBERS))
    assert accuracy is not None
    assert accuracy < 0.2
    cut = torch.where(u > 0.5, 100.0, -100.0)  # nothing but the simple way
    assert noise2inverse.accuracy(SEGMENT.errors(cut, u, labels, ones, HALO, NUMBERS)) == pytest.approx(1)


def test_cross_entropy_is_least_at_the_probability_of_the_labels():
    target = torch.tensor([1.0, 1.0, 1.0, 0.0]).view(1, 1, 2, 2)
    ones, logits = torch.ones_like(target), np.linspace(-2, 4, 601)
    losses = [float(SEGMENT.loss(torch.full_like(target, 0.5 + 0.125 * x), target, ones, NUMBERS)) for x in logits]
    assert logits[int(np.argmin(losses))] == pytest.approx(np.log(3), abs=0.02)
    far = torch.full_like(target, 1e4).requires_grad_()
    SEGMENT.loss(far, target, ones, NUMBERS).backward()
    assert far.grad is not None
    assert far.grad.isfinite().all()


@pytest.mark.parametrize("unit", [1e-3, 1.0, 40.0])
@pytest.mark.parametrize("task", [DENOISE, SEGMENT])
def test_figures_do_not_depend_on_the_unit(task: Task, unit: float):
    u, v, disc = batch()
    ones = torch.ones_like(u)

    def accuracy(factor: float) -> float | None:
        numbers = numbers_of(factor)
        errors = task.errors(factor * disc, factor * u, task.target(factor * v, numbers), ones, HALO, numbers)
        return noise2inverse.accuracy(errors)

    assert accuracy(unit) == pytest.approx(accuracy(1.0), rel=1e-4)


@pytest.mark.parametrize("task", [DENOISE, SEGMENT])
def test_halo_and_weights_leave_pixels_out(task: Task):
    u, v, disc = batch()
    weights, target = torch.ones_like(u), task.target(v, NUMBERS)
    weights[:, :, 10:14] = 0
    expected = task.errors(disc, u, target, weights, HALO, NUMBERS)
    loss = task.loss(disc, target, weights, NUMBERS)
    spoilt = target.clone()
    spoilt[:, :, 10:14] = 1 - spoilt[:, :, 10:14]
    assert task.loss(disc, spoilt, weights, NUMBERS) == loss
    assert task.loss(disc, spoilt, torch.ones_like(u), NUMBERS) > loss
    spoilt[..., :HALO] = 1 - spoilt[..., :HALO]
    np.testing.assert_array_equal(task.errors(disc, u, spoilt, weights, HALO, NUMBERS), expected)
    assert (task.errors(disc, u, spoilt, weights, 0, NUMBERS)[:, 0] > expected[:, 0]).all()


def test_what_is_not_finite_scores_the_worst():
    u, v, disc = batch()
    labels, ones = SEGMENT.target(v, NUMBERS), torch.ones_like(u)
    u[0] = labels[0]  # of this sample the simple way knows everything: it must not hide a network gone wild
    wild = torch.full_like(disc, torch.nan)
    errors = SEGMENT.errors(wild, u, labels, ones, HALO, NUMBERS)
    assert (errors[:, 0] == noise2inverse.WORST * errors[:, 1]).all()
    assert noise2inverse.accuracy(errors) == pytest.approx(noise2inverse.WORST)
    assert SEGMENT.errors(disc, labels, labels, ones, HALO, NUMBERS).shape == (0, 2)


# ---- numbers that are measured


def samples(n: int = 32, seed: int = 0, unit: float = 1.0, noise: float = 0.3) -> Tensor:
    pairs, _ = scene(n, seed, 32, noise)
    return noise2inverse.samples(unit * torch.from_numpy(pairs))


@pytest.mark.parametrize("unit", [0.03, 1.0])
def test_the_threshold_lies_between_the_phases_in_units_of_the_scale(unit: float):
    network, measured = NetworkConfig(form="residual", task="SEGMENT"), Measured()
    assert not measured.complete(network)
    assert measured.numbers(network, 1.0) == {}
    assert measured.measure(samples(unit=unit), 4, network)
    numbers = measured.numbers(network, 2 * unit)
    assert set(numbers) == {THRESHOLD, SOFTNESS, SMOOTHING}
    assert numbers[THRESHOLD] == pytest.approx(0.25, abs=0.05)
    assert numbers[SOFTNESS] == pytest.approx(1 / 16, rel=0.15)
    assert 0.05 < numbers[SMOOTHING] / WEAK < 0.6
    guided = NetworkConfig(task="SEGMENT", depth=3)
    assert set(build(guided).state_dict()) - set(build(NetworkConfig(depth=3)).state_dict()) == set(numbers)
    measured.forget()
    assert not measured.complete(network)


def test_images_of_which_nothing_counts_tell_no_threshold():
    measured, network, blind = Measured(), NetworkConfig(task="SEGMENT"), samples()
    blind[:, 2] = 0
    measured.measure(blind, 4, network)
    assert not measured.complete(network)
    flat = torch.ones(4, 16, 16)
    assert SEGMENT.measure(flat, torch.ones_like(flat), 2, 0.1) is None
    for n in range(12):  # batches that are not looked at where all is known
        measured.measure(samples(seed=n), 4, network)
        assert measured.complete(network)
    assert measured.complete(NetworkConfig())
    assert not measured.complete(NetworkConfig(form="residual", task="SEGMENT")) or measured.numbers(network, 1.0)


# ---- networks that learn them

WIDE = SMALL.edited(patch_size=32, halo=4, batch_size=8, buffer_size=160)


def learned(steps: int, task: str = "SEGMENT", unit: float = 1.0, noise: float = 0.6) -> Trainer:
    trainer = Trainer(WIDE.edited(task=task), seed=2)
    for step in range(steps):
        if step % 4 == 0:
            trainer.add(unit * scene(16, 100 + step, 32, noise)[0])
        trainer.step()
    return trainer


@pytest.fixture(scope="module")
def segmenting() -> Trainer:
    torch.set_num_threads(1)
    return learned(240, noise=0.6)


def discs(seed: int = 7, size: int = 128, noise: float = 0.6) -> tuple[np.ndarray, np.ndarray]:
    """Two noisy images (2, size, size) of discs, and which pixels are theirs."""
    random = np.random.default_rng(seed)
    row, col = np.mgrid[:size, :size]
    truth = np.zeros((size, size), bool)
    for y, x, radius in random.uniform((0, 0, 4), (size, size, 18), (14, 3)):
        truth |= (row - y) ** 2 + (col - x) ** 2 < radius**2
    return (truth + noise * random.normal(size=(2, size, size))).astype(np.float32), truth


def test_a_network_learns_to_segment(segmenting: Trainer):
    weights = segmenting.weights()
    denoiser = Denoiser()
    denoiser.load(weights)
    threshold, smoothing = (float(getattr(unpack(weights), n)) * weights.scale for n in (THRESHOLD, SMOOTHING))
    assert threshold == pytest.approx(0.5, abs=0.1)
    wrong = []
    for seed in range(3):
        (u, v), truth = discs(seed)
        result = denoiser(u, u, u, before=v, mode="full")
        smooth = total_variation(torch.from_numpy(u), smoothing / WEAK).numpy()
        wrong.append([np.mean(found != truth) for found in (u > threshold, smooth > threshold, result.image > 0.5)])
        assert result.image.min() >= 0
        assert result.image.max() <= 1
        assert result.accuracy is not None
        assert (result.task, result.guarded, result.blend, result.uncertainty) == ("SEGMENT", False, None, None)
        assert result.quality_db is None
        np.testing.assert_array_equal(result.raw, u)
    raw, prior, network = np.mean(wrong, 0)
    assert network < 0.15 * raw
    assert network < 1.1 * prior  # discs without texture are what total variation is best at


def test_a_segmentation_does_not_depend_on_the_unit(segmenting: Trainer):
    other = learned(24, unit=0.03)
    same = learned(24)
    (u, v), _ = discs()
    pictures = []
    for trainer, unit in ((other, 0.03), (same, 1.0)):
        denoiser = Denoiser(guard=False)
        denoiser.load(trainer.weights())
        pictures.append(denoiser(unit * u, unit * v).image)
    np.testing.assert_allclose(*pictures, atol=0.02)
    assert other.scale == pytest.approx(0.03 * (same.scale or 0), rel=1e-4)


def test_the_guard_shows_the_simple_threshold(segmenting: Trainer):
    weights = segmenting.weights()
    tensors = {name: tensor.clone() for name, tensor in load(bytes(weights.tensors)).items()}
    tensors["top.last.weight"] *= -2000  # wrong everywhere
    harmful = type(weights)(**{**weights.__dict__, "version": 9, "tensors": save(tensors, {})})
    threshold = float(tensors[THRESHOLD]) * weights.scale
    denoiser, (u, v), _ = Denoiser(), *discs(noise=0.15)
    denoiser.load(harmful)
    result = denoiser(u, v)
    assert result.guarded
    np.testing.assert_array_equal(result.image, ((u + v) / 2 > threshold).astype(np.float32))
    assert result.accuracy is not None
    assert result.accuracy > 1
    denoiser.guard = False
    assert not denoiser(u, v).guarded
    denoiser.guard = True
    denoiser.forget("")
    denoiser.load(weights)
    u, v = discs()[0]
    assert not denoiser(u, v).guarded
    denoiser.forget("")
    assert denoiser(u, v, complete=False).guarded  # nothing was ever known of this slice


def test_a_checkpoint_brings_the_task_and_its_numbers_back(segmenting: Trainer):
    data = segmenting.save()
    other = Trainer(SMALL)
    other.load(data)
    assert other.settings.network.task == "SEGMENT"
    assert equal(from_checkpoint(data), other.weights())
    assert float(load(data)[THRESHOLD]) != 0
    other.add(scene(16, 5, 16)[0])
    assert np.isfinite(other.step())


def test_checkpoints_from_before_there_were_tasks_denoise():
    fields = NetworkConfig().to_dict()
    del fields["task"]
    assert NetworkConfig.from_dict(fields) == NetworkConfig()
    with pytest.raises(ValueError, match="task: expected one of DENOISE, SEGMENT, got 'COUNT'"):
        NetworkConfig.from_dict({**fields, "task": "COUNT"})


def test_another_task_needs_a_reset():
    trainer = learned(8, task="DENOISE")
    before = trainer.weights()
    with pytest.raises(ValueError, match=r"task DENOISE\), got .*task SEGMENT: another shape needs a reset"):
        trainer.configure(WIDE.edited(task="SEGMENT"))
    assert equal(before, trainer.weights())
    trainer.reset_network(3, WIDE.edited(task="SEGMENT").network)
    threshold = float(load(bytes(trainer.weights().tensors))[THRESHOLD])
    assert threshold * (trainer.scale or 0) == pytest.approx(0.5, abs=0.15)  # from the pairs it has
    assert np.isfinite(trainer.step())


def test_figures_of_unlike_tasks_are_not_compared():
    trainer = learned(8, task="DENOISE")
    trainer.weights()
    other = learned(60)
    data = other.save()
    assert (other.patch_accuracy or 1) < (trainer.patch_accuracy or 0)
    trainer.load(data)
    trainer.weights()
    trainer.weights()
    assert trainer.rollback() == 1, "what was before Load, whatever the figures"
    assert trainer.settings.network.task == "DENOISE"
    trainer.rollback()
    assert trainer.settings.network.task == "SEGMENT"
    # A network that segments is offered to one that denoises: it takes no part.
    denoising = learned(8, task="DENOISE")
    denoising.regimes.offer({"like": other.weights()})
    denoising.jumped()
    denoising.add(scene(16, 3, 32, 0.6)[0])
    assert denoising.regimes.chosen in ("the present network", "an untrained network", "that of an earlier regime")
    assert denoising.settings.network.task == "DENOISE"


# ---- a third one


class Twice(Task):
    """Predicts twice the image, by the mean of absolute errors."""

    name, shows, simply = "TWICE", "twice the attenuation in 1/mm", "slices are shown twice as bright"

    def target(self, other: Tensor, numbers: Numbers) -> Tensor:
        return 2 * other

    def loss(self, output: Tensor, target: Tensor, weights: Tensor, numbers: Numbers) -> Tensor:
        return ((output - target).abs() * weights).mean()

    def picture(self, output: Tensor, numbers: Numbers) -> Tensor:
        return output

    def simple(self, image: Tensor, numbers: Numbers) -> Tensor:
        return 2 * image


def test_a_third_task_is_a_class_and_its_place(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ValueError, match="task: expected one of"):
        WIDE.edited(task="TWICE")
    monkeypatch.setitem(TASKS, "TWICE", Twice())
    trainer = learned(120, task="TWICE", noise=0.4)
    assert trainer.patch_accuracy is not None
    assert 0.5 < trainer.patch_accuracy < 0.9
    denoiser = Denoiser()
    denoiser.load(from_checkpoint(trainer.save()))
    (u, v), truth = discs(noise=0.4)
    result = denoiser(u, v)
    assert (result.task, result.guarded) == ("TWICE", False)
    error = np.mean((result.image - 2 * truth) ** 2)
    assert error < 0.3 * np.mean((u + v - 2 * truth) ** 2)
