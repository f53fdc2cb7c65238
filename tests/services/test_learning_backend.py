"""Where trainer and denoiser compute when the backend that was asked for cannot run, or fails while it does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tango_jit.learn import Denoiser, Trainer
from tango_jit.learn.inference import Predictor
from tango_jit.recon import backproject
from tango_jit.recon.backproject import cuda, cuda_device
from tango_jit.services.backends import BackendChoice
from tango_jit.services.denoiser import DenoiserService
from tango_jit.services.service import State
from tango_jit.services.trainer import TrainerService
from tango_jit.streams import Publisher
from tests.services.denoisers import DenoiserBench, helps, meet, wait_for_slices
from tests.services.scans import CONE, LOOPBACK, VIEWS, Feed, look, see
from tests.services.trainers import training

no_cuda = pytest.mark.skipif(not backproject.obstacle("cuda"), reason="the backend cuda runs here")


@pytest.fixture
def cuda_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend cuda, whose device is the processor: good for all that does not backproject."""
    monkeypatch.setattr(cuda, "obstacle", lambda: "")
    monkeypatch.setattr(cuda_device, "DEVICE", "cpu")


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


def test_what_is_refused_leaves_its_endpoint_free():
    probe = Publisher(LOOPBACK)
    endpoint = probe.endpoint
    probe.close()
    for make in (
        lambda backend: TrainerService(lambda: None, weights_endpoint=endpoint, backend=backend),
        lambda backend: DenoiserService(lambda: None, lambda: None, denoised_endpoint=endpoint, backend=backend),
    ):
        with pytest.raises(ValueError, match="abacus") as refused:
            make("abacus")
        make("cpu").close()
        del refused  # it holds what was refused until now


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


def test_a_backend_that_fails_does_not_take_the_network_along(make_trainer, monkeypatch):
    """As deep as a GPU allowed, though the processor that takes over would not have been asked for that."""
    monkeypatch.setattr("tango_jit.services.following.device", lambda name: "cpu" if name == "cpu" else "cuda")
    monkeypatch.setattr("tango_jit.services.following.slice_pixels", lambda cores: 1.0)
    feed = Feed(CONE)
    try:
        trainer = make_trainer(feed, patch_size=12, backend="reference")
        feed.frames()
        steps = training(trainer)["steps"]
        assert trainer.values["depth"] == 3

        step, failures = Trainer.step, [RuntimeError("CUDA error: an illegal memory access")]

        def fails_once(engine: Trainer) -> float:
            if failures:
                raise failures.pop()
            return step(engine)

        monkeypatch.setattr(Trainer, "step", fails_once)
        see(trainer, backend="cpu")
        feed.frames(range(VIEWS, 3 * VIEWS))
        training(trainer)
        assert trainer.values["depth"] == 3
        assert trainer.values["steps"] > steps
    finally:
        feed.close()


def test_a_denoiser_whose_backend_fails_goes_on_with_cpu(cuda_here, monkeypatch):
    bench = DenoiserBench(backend="cuda")
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
        assert "backend cuda failed: RuntimeError: CUDA error" in look(bench.service)["status"]
    finally:
        bench.close()


def refusing(monkeypatch: pytest.MonkeyPatch, engine: type[Any]) -> None:
    """The first move to a device fails: it has no memory for the networks."""
    move, failures = engine.move, [torch.OutOfMemoryError("CUDA out of memory")]

    def fails_once(self: Any, device: str) -> None:
        if failures:
            raise failures.pop()
        move(self, device)

    monkeypatch.setattr(engine, "move", fails_once)


def test_a_trainer_whose_device_has_no_room_at_the_start_starts_on_cpu(make_trainer, feed, monkeypatch):
    refusing(monkeypatch, Trainer)
    trainer = make_trainer(feed, backend="reference")
    feed.frames()
    values = training(trainer)
    assert (values["backend"], values["state"]) == ("cpu", State.ALARM)
    assert "backend reference failed: OutOfMemoryError: CUDA out of memory" in values["status"]


def test_a_denoiser_whose_device_has_no_room_at_the_start_starts_on_cpu(cuda_here, monkeypatch):
    refusing(monkeypatch, Denoiser)
    bench = DenoiserBench(backend="cuda")
    try:
        wait_for_slices(bench, "xy")
        meet(bench)
        bench.use(helps(1))
        values = look(bench.service)
        assert (values["backend"], values["state"]) == ("cpu", State.ALARM)
        assert "backend cuda failed: OutOfMemoryError: CUDA out of memory; cpu is used instead" in values["status"]
    finally:
        bench.close()


SHORTAGES = pytest.mark.parametrize("kind", [MemoryError, torch.OutOfMemoryError])


@SHORTAGES
def test_where_memory_ran_out_fewer_bits_come_before_cpu(kind: type[Exception], monkeypatch):
    monkeypatch.setattr(BackendChoice, "_warm_up", lambda choice: None)
    choice = BackendChoice("cuda")
    choice.fall_back(kind("CUDA out of memory"))
    assert choice.name == "cuda_half"
    assert choice.device == "cuda"
    choice.fall_back(kind("CUDA out of memory"))
    assert choice.name == "cpu"


@SHORTAGES
def test_what_only_runs_networks_needs_as_much_memory_with_fewer_bits(kind: type[Exception]):
    choice = BackendChoice("cuda", backprojects=False)
    choice.fall_back(kind("CUDA out of memory"))
    assert choice.name == "cpu"
    assert choice.why.endswith("; cpu is used instead")


@pytest.mark.parametrize("name", ["cuda_half", "reference", "astra"])
def test_ways_to_backproject_are_none_to_run_networks(name: str):
    with pytest.raises(ValueError, match=f"backend: expected one of cpu, cuda, got '{name}'"):
        DenoiserService(lambda: None, lambda: None, backend=name)


def test_what_failed_otherwise_goes_to_cpu_at_once():
    choice = BackendChoice("cuda", backprojects=False)
    choice.fall_back(RuntimeError("CUDA error: an illegal memory access"))
    assert choice.name == "cpu"


def test_a_failure_of_cpu_itself_is_not_hidden():
    choice = BackendChoice("cpu", backprojects=False)
    with pytest.raises(RuntimeError, match="broken"):
        choice.fall_back(RuntimeError("broken"))


def test_what_makes_a_backend_slow_is_told_with_an_alarm():
    choice, slow = BackendChoice("cpu"), "no CUDA graph: RuntimeError: not permitted"
    assert choice.told(State.RUNNING, "3 steps/s") == (State.RUNNING, "3 steps/s")
    assert choice.told(State.RUNNING, "3 steps/s", slow) == (State.ALARM, f"3 steps/s; {slow}")
    assert choice.told(State.STANDBY, "paused", slow) == (State.STANDBY, f"paused; {slow}")
    choice.why = "backend cuda: none here; cpu is used instead"
    assert choice.told(State.RUNNING, "3 steps/s", slow) == (State.ALARM, f"3 steps/s; {choice.why}; {slow}")
