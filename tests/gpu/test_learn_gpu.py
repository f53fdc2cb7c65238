"""Training and inference on a GPU: the same numbers as on the processor, recorded as CUDA graphs."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from tango_jit.learn import PAPER, PRODUCT, Denoiser, NetworkConfig, Trainer, build
from tango_jit.learn.graphs import Passes
from tango_jit.learn.inference import Predictor
from tango_jit.learn.unet import FORMS

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
STACKS = [{}, {"depth": 3}, {"frames": 3}]
SMALL = replace(PRODUCT, patch_size=32, halo=2, precision="float32")


def pairs(n: int, seed: int, images: int = 1, size: int = 32) -> Tensor:
    """Pairs of discs of brightness 1 with independent noise of 0.3."""
    random = np.random.default_rng(seed)
    row, col = np.mgrid[:size, :size]
    center, radius = random.uniform(0, size, (2, n, 1, 1)), random.uniform(size / 5, size, (n, 1, 1))
    truth = (row - center[0]) ** 2 + (col - center[1]) ** 2 < radius**2
    truth = truth[:, None] if images == 1 else truth[:, None, None]
    shape = (n, 2, size, size) if images == 1 else (n, 2, images, size, size)
    return torch.from_numpy((truth + 0.3 * random.normal(size=shape)).astype(np.float32))


def rms(x: Tensor) -> float:
    return float(x.square().mean().sqrt())


@pytest.mark.parametrize("seen", STACKS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 2e-3), ("bfloat16", 0.02)])  # TF32 has 10 bits
def test_inference_agrees_with_the_processor(form, seen, precision, tolerance):
    network = build(NetworkConfig("CUSTOM", form=form, **seen), seed=3)
    images = torch.rand(2, network.config.images, 203, 150, generator=torch.Generator().manual_seed(1))
    expected = Predictor(network, "float32", CPU)(images)
    changed = rms(expected - images[:, network.config.images // 2, None])
    passes = Passes()
    recorded, plain = (Predictor(network, precision, CUDA, used)(images.cuda()).cpu() for used in (passes, None))
    assert passes.trouble == ""
    assert rms(recorded - expected) < tolerance * changed
    torch.testing.assert_close(recorded, plain, rtol=1e-3, atol=1e-3 * changed)


def test_a_recording_serves_new_weights_and_the_old_ones_again():
    passes, images = Passes(), torch.rand(1, 1, 64, 64).cuda()
    networks = [build(NetworkConfig("CUSTOM", form="paper"), seed) for seed in range(3)]
    predictors = [Predictor(network, "float32", CUDA, passes) for network in networks]
    for n in (0, 1, 2, 0, 1):
        expected = Predictor(networks[n], "float32", CUDA)(images)
        torch.testing.assert_close(predictors[n](images), expected, rtol=1e-4, atol=1e-5)
    assert passes.trouble == ""


def test_many_shapes_are_recorded_in_bounded_number():
    passes = Passes()
    predictor = Predictor(build(NetworkConfig()), "float32", CUDA, passes)
    for size in range(32, 32 + 4 * 12, 4):
        predictor(torch.rand(1, 1, size, size).cuda())
    assert len(passes._kept) == 8


@pytest.mark.parametrize("settings", [SMALL, replace(SMALL, precision="auto"), SMALL.edited(frames=3)], ids=str)
def test_training_learns_and_is_recorded(settings):
    trainer = Trainer(settings, seed=5, device="cuda")
    for step in range(300):
        if step % 4 == 0:
            trainer.add(pairs(8, step, settings.network.images))
        trainer.step()
    torch.cuda.synchronize()
    assert trainer.trouble == ""
    scores = trainer.add(pairs(64, 999, settings.network.images))
    assert 0.45 < scores.mean() < 0.75
    assert trainer.steps >= 299  # that of some steps ago
    assert trainer.steps_rejected == 0
    assert trainer.loss < 0.2


def test_recording_itself_teaches_nothing():
    """The first step alone changes the weights: warming up and recording are undone."""
    recorded, plain = Trainer(SMALL, seed=5, device="cuda"), Trainer(SMALL, seed=5, device="cuda")
    for trainer in (recorded, plain):
        trainer.add(pairs(64, 1))
    plain._step._run = plain._step._work
    start = recorded._step.average.clone()
    for trainer in (recorded, plain):
        trainer.step()
    moved = (recorded._step._vector - start).abs().max()
    assert 0 < float(moved) <= 1.01 * SMALL.learning_rate  # one step of Adam
    assert float((plain._step._vector - start).abs().max()) <= 1.01 * SMALL.learning_rate


def test_steps_that_are_not_finite_are_undone_on_the_gpu():
    trainer = Trainer(SMALL, seed=5, device="cuda")
    trainer.add(pairs(320, 1))
    for _ in range(5):
        trainer.step()
    before = trainer._step._vector.detach().clone(), trainer._step.average.clone()
    trainer.add(1e19 * pairs(320, 2), scored=False)
    trainer.step()
    torch.cuda.synchronize()
    trainer.step()
    assert trainer.steps_rejected >= 1
    assert torch.equal(trainer._step._vector.detach(), before[0])
    assert torch.equal(trainer._step.average, before[1])


def test_settings_change_while_training_on_the_gpu():
    trainer = Trainer(SMALL, seed=5, device="cuda")
    trainer.add(pairs(64, 1))
    trainer.step()
    for fields in ({"batch_size": 16}, {"learning_rate": 1e-4}, {"buffer_size": 64}, {"ema": 0.0}):
        trainer.configure(trainer.settings.edited(**fields))
        trainer.step()
    torch.cuda.synchronize()
    assert trainer.trouble == ""
    assert trainer._step._status[2] == 5


def test_a_trainer_moves_between_devices():
    trainer = Trainer(SMALL, seed=5)
    trainer.add(pairs(64, 1))
    for _ in range(5):
        trainer.step()
    before = trainer.averaged()
    trainer.move("cuda")
    torch.testing.assert_close(trainer.averaged().state_dict(), before.state_dict(), rtol=0, atol=0)
    assert trainer.pairs == 64
    trainer.step()
    trainer.move("cpu")
    trainer.step()
    assert trainer.steps == 1


def test_the_denoiser_on_a_gpu_agrees_with_the_processor():
    trainer = Trainer(SMALL, seed=5)
    trainer.add(pairs(320, 1))
    for _ in range(100):
        trainer.step()
    even, odd = pairs(1, 7, size=192)[0].numpy()
    results = []
    for device in ("cpu", "cuda"):
        denoise = Denoiser(device=device)
        denoise.load(trainer.weights())
        results.append(denoise(even, odd))
        assert denoise.trouble == ""
    removed = np.abs(results[0].image - results[0].raw).mean()
    assert np.abs(results[1].image - results[0].image).mean() < 0.02 * removed
    assert results[1].accuracy == pytest.approx(results[0].accuracy, abs=2e-3)


def test_the_networks_of_the_paper_are_recorded():
    for fields in ({}, {"frames": 3}, {"depth": 3}):
        settings = PAPER.edited(**fields)
        trainer = Trainer(settings, device="cuda")
        trainer.add(pairs(64, 1, settings.network.images, size=20))
        for _ in range(3):
            trainer.step()
        assert trainer.trouble == ""
