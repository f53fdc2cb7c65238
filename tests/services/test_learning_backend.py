"""Where trainer and denoiser compute when the backend that was asked for cannot run, or fails while it does."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tango_jit.learn import Trainer
from tango_jit.learn.inference import Predictor
from tango_jit.recon import backproject
from tango_jit.services.backends import BackendChoice
from tango_jit.services.denoiser import DenoiserService
from tango_jit.services.service import State
from tango_jit.services.trainer import TrainerService
from tests.services.denoisers import DenoiserBench, helps, meet, wait_for_slices
from tests.services.scans import look, see
from tests.services.trainers import training

no_cuda = pytest.mark.skipif(not backproject.obstacle("cuda"), reason="the backend cuda runs here")


@no_cuda
def test_a_trainer_without_its_backend_trains_on_cpu_and_says_so(make_trainer, feed):
    trainer = make_trainer(feed, backend="cuda")
    feed.frames()
    values = training(trainer)
    assert (values["backend"], values["state"]) == ("cpu", State.ALARM)
    assert "steps done; backend cuda: " in values["status"]
    assert values["status"].endswith("; cpu is used instead")
    assert "backend cuda: " in values["last_error"]


@no_cuda
def test_a_denoiser_without_its_backend_denoises_on_cpu_and_says_so():
    bench = DenoiserBench(backend="cuda")
    try:
        wait_for_slices(bench, "xy")
        meet(bench)
        bench.use(helps(1))
        values = look(bench.service)
        assert (values["backend"], values["state"], values["guard_active"]) == ("cpu", State.ALARM, False)
        assert "slices/s with weights 1; backend cuda: " in values["status"]
    finally:
        bench.close()


def test_backends_that_run_are_no_alarm(trainer, feed, denoiser):
    feed.frames()
    values = training(trainer)
    assert (values["backend"], values["state"]) == ("cpu", State.RUNNING)
    assert look(denoiser.service)["backend"] == "cpu"


def test_unknown_backends_are_refused():
    for make in (
        lambda: TrainerService(lambda: None, backend="abacus"),
        lambda: DenoiserService(lambda: None, lambda: None, backend="abacus"),
    ):
        with pytest.raises(ValueError, match=r"backend: expected one of cpu, .*, got 'abacus'"):
            make()


def test_a_trainer_whose_backend_fails_goes_on_with_cpu(make_trainer, feed, monkeypatch):
    trainer = make_trainer(feed, backend="reference")
    assert trainer.values["backend"] == "reference"
    step, failures = Trainer.step, [RuntimeError("CUDA error: an illegal memory access")]

    def fails_once(engine: Trainer) -> float:
        if failures:
            raise failures.pop()
        return step(engine)

    monkeypatch.setattr(Trainer, "step", fails_once)
    feed.frames()
    status = see(trainer, backend="cpu", status=lambda text: "cpu is used instead" in text)["status"]
    assert "backend reference failed: RuntimeError: CUDA error" in status
    feed.frames(range(100, 148))  # the window fills anew
    assert training(trainer)["state"] is State.ALARM


def test_a_denoiser_whose_backend_fails_goes_on_with_cpu(monkeypatch):
    bench = DenoiserBench(backend="reference")
    try:
        wait_for_slices(bench, "xy")
        meet(bench)
        bench.use(helps(1))
        call, failures = Predictor.__call__, [RuntimeError("CUDA error: out of memory")]

        def fails_once(predictor: Predictor, images):
            if failures:
                raise failures.pop()
            return call(predictor, images)

        monkeypatch.setattr(Predictor, "__call__", fails_once)
        bench.slices.send(bench.slice())
        see(bench.service, backend="cpu", state=State.ALARM)
        message = bench.next()
        assert message.weights_version == 1
        assert np.abs(message.data[0] - message.data[1]).max() > 0
        assert "backend reference failed: RuntimeError: CUDA error" in look(bench.service)["status"]
    finally:
        bench.close()


@pytest.mark.parametrize("kind", [MemoryError, torch.OutOfMemoryError])
def test_where_memory_ran_out_fewer_bits_come_before_cpu(kind: type[Exception]):
    choice = BackendChoice("cuda", backprojects=False)
    choice.fall_back(kind("CUDA out of memory"))
    assert choice.name == "cuda_half"
    assert choice.device == "cuda"
    choice.fall_back(kind("CUDA out of memory"))
    assert choice.name == "cpu"


def test_what_failed_otherwise_goes_to_cpu_at_once():
    choice = BackendChoice("cuda", backprojects=False)
    choice.fall_back(RuntimeError("CUDA error: an illegal memory access"))
    assert choice.name == "cpu"


def test_a_failure_of_cpu_itself_is_not_hidden():
    choice = BackendChoice("cpu", backprojects=False)
    with pytest.raises(RuntimeError, match="broken"):
        choice.fall_back(RuntimeError("broken"))
