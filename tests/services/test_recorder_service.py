"""The recorder on real streams: what came before, what is recorded, disks that are full, slow or gone."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tango_jit.geometry import ScanGeometry
from tango_jit.recordings import open_recording
from tango_jit.runs import Run
from tango_jit.services.making import digest
from tango_jit.services.recorder import RecorderService
from tango_jit.services.run_names import numbered
from tango_jit.services.service import State
from tango_jit.streams import Dark, Flat, Header, Image, Publisher, SeriesEnd, View
from tests.events import wait_until
from tests.runs import picture, place, small_disk, weights

SCAN = ScanGeometry.cone(rows=4, cols=6, pixel_mm=1.0, source_axis_mm=100.0, source_detector_mm=200.0)


class Beamline:
    """The four streams that a recorder listens to, and what the devices are set to."""

    def __init__(self) -> None:
        names = ("denoised", "weights", "filtered", "projections")
        self.streams = {name: Publisher("tcp://127.0.0.1:*", budget_bytes=64 << 20) for name in names}
        self.settings: dict[str, Any] = {"buffer_size": 320}
        self.k = 0
        self.look: Any = self.facts

    def facts(self) -> dict[str, dict[str, Any]]:
        return {"trainer": {"device": "jit/trainer/1", "version": "1", "settings": dict(self.settings)}}

    def recorder(self, **options: Any) -> RecorderService:
        denoised, weights, filtered, projections = (partial(getattr, s, "endpoint") for s in self.streams.values())
        service = RecorderService(denoised, weights, filtered, projections, self.look, **options)
        service.start()
        return service

    def show(self, *names: str, rows: int = 16, cols: int = 24) -> None:
        """These are the slices now."""
        self.streams["filtered"].send(View(1, "ram-lak", dict.fromkeys(names, place(rows, cols))))

    def picture(self, name: str = "xy", **fields: Any) -> int:
        """Send one more picture; returns its last frame."""
        self.k += 1
        self.streams["denoised"].send(picture(self.k, name, **fields))
        return 60 * self.k + 149

    def close(self) -> None:
        for stream in self.streams.values():
            stream.close()


@pytest.fixture
def beamline() -> Iterator[Beamline]:
    made = Beamline()
    yield made
    made.close()


@pytest.fixture
def recorder(beamline, tmp_path) -> Iterator[RecorderService]:
    service = beamline.recorder()
    service.write("folder", str(tmp_path))
    service.write("reserve_mb", 0)
    seen(service, beamline)
    yield service
    service.close()


def seen(service: RecorderService, beamline: Beamline) -> None:
    """The recorder has the view, the weights and one picture."""

    def came() -> bool:  # a subscription takes a while, and who sends does not hear of it
        if not service._shapes:
            beamline.show("xy", "xz")
        if not service._weights:
            beamline.streams["weights"].send(weights())
        if not service.values["pictures_waiting"]:
            beamline.streams["denoised"].send(picture(beamline.k))
        return bool(service._shapes and service._weights and service.values["pictures_waiting"])

    wait_until(came, what="the first of everything")
    if beamline.look == beamline.facts:
        wait_until(lambda: service._watch and service._watch.last, what="the settings")


def newest(service: RecorderService) -> int:
    """The last frame of the newest picture of xy in the file that is written."""
    path = numbered(Path(service.values["file"]), max(service.values["parts"], 1))
    if not path.exists():
        return -1  # it comes with the first picture
    with Run(path) as run:
        return run.picture("xy", -1).last_frame if run.count("xy") else -1


def finished(service: RecorderService) -> Path:
    service.finish()
    wait_until(lambda: not service.values["recording"], what="the end of the run")
    return Path(service.values["file"])


def test_what_came_before_and_what_comes_is_in_the_file(recorder, beamline):
    assert recorder.values["state"] == State.STANDBY
    recorder.write("title", "dissolving")
    recorder.record()
    path = Path(recorder.values["file"])
    assert recorder.values["recording"]
    last = [beamline.picture(), beamline.picture("xz")]
    wait_until(lambda: recorder.values["state"] == State.RUNNING, what="RUNNING")
    recorder.mark("now")
    beamline.settings["buffer_size"] = 100

    def noted() -> bool:
        with Run(path) as run:
            return any(line["kind"] == "setting" for line in run.journal())

    wait_until(noted, what="the change of the setting")
    assert finished(recorder) == path
    with Run(path) as run:
        assert run.picture("xy", -1).last_frame == last[0]
        assert run.picture("xz", -1).last_frame == last[1]
        assert run.picture("xy", 0).last_frame == 149  # of before the Record
        assert run.count("xz") == 1
        total = run.count("xy") + 1
        assert run.weights(digest(weights())) == weights()
        assert run.facts()["trainer"]["settings"] == {"buffer_size": 320}
        lines = {line["kind"]: line for line in run.journal()}
        assert lines["mark"]["text"] == "now"
        assert {k: lines["setting"][k] for k in ("device", "name", "before", "now")} == {
            "device": "trainer",
            "name": "buffer_size",
            "before": 320,
            "now": 100,
        }
        assert lines["ended"]["recorded"] == total
        assert run.ended
    assert recorder.values["pictures_recorded"] == total
    assert recorder.values["pictures_lost"] == 0


def test_pictures_that_are_too_old_do_not_belong_to_it(recorder, beamline):
    recorder.write("pre_trigger_s", 0)
    wait_until(lambda: not recorder.values["pictures_waiting"], what="an empty backlog")
    recorder.record()
    beamline.picture()
    wait_until(lambda: recorder.values["pictures_recorded"] == 1, what="the picture")
    with Run(finished(recorder)) as run:
        assert run.count("xy") == 1


def test_orders_that_do_not_fit_are_refused_in_words(recorder, tmp_path):
    for order, words in ((recorder.finish, "Finish"), (lambda: recorder.mark("x"), "Mark")):
        with pytest.raises(RuntimeError, match=f"{words}: expected a run that is being recorded"):
            order()
    before = dict(recorder.values)
    for name, value, words in (
        ("folder", "runs", "folder: expected a path from the root, got runs"),
        ("file_name", "a/b", "file_name: expected letters"),
        ("file_name", "", "file_name: expected letters"),
    ):
        with pytest.raises(ValueError, match=words):
            recorder.write(name, value)
        assert recorder.values[name] == before[name]
    recorder.write("folder", str(tmp_path / "gone"))  # it may come
    with pytest.raises(ValueError, match="folder: expected a path from the root, of a folder that exists"):
        recorder.record()
    recorder.write("folder", before["folder"])
    recorder.write("reserve_mb", 1e9)
    with pytest.raises(RuntimeError, match=r"Record: .* is full: \d+ MB free, 1000000000 are wanted"):
        recorder.record()
    assert not [*tmp_path.iterdir()]
    recorder.write("reserve_mb", 0)
    recorder.record()
    with pytest.raises(RuntimeError, match=r"Record: .*\.nxs is being recorded, Finish ends it"):
        recorder.record()
    finished(recorder)
    recorder.stop()
    wait_until(lambda: recorder.values["status"].startswith("stopped"), what="its end")
    with pytest.raises(RuntimeError, match="expected a recorder at work"):
        recorder.record()


def test_stop_ends_the_run_with_all_that_came(recorder, beamline):
    recorder.record()
    last = beamline.picture()
    wait_until(lambda: newest(recorder) == last, what="the picture")
    recorder.stop()
    wait_until(lambda: recorder.values["status"].startswith("stopped"), what="its end")
    assert not recorder.values["recording"]
    with Run(recorder.values["file"]) as run:
        assert run.ended
        assert run.picture("xy", -1).last_frame == last


def test_projections_are_kept_as_a_recording_for_each_series(recorder, beamline):
    raw, rng = beamline.streams["projections"], np.random.default_rng(0)
    frames = {series: rng.integers(100, 4000, (5, 4, 6)).astype(np.uint16) for series in "ab"}
    dark, flat = np.full((4, 6), 100, np.float32), np.full((4, 6), 5000, np.float32)

    def begin(series: str) -> None:
        for message in (Header(series, "raw", SCAN, False), Dark(series, dark, 10), Flat(series, flat, 10)):
            raw.send(message)

    begin("a")
    recorder.write("keep_projections", True)
    recorder.record()
    wait_until(lambda: recorder._frames._subscriber.connected, what="the connection")
    sent = 0
    for series in "ab":
        begin(series)
        for n, data in enumerate(frames[series]):
            raw.send(Image(series, 10 + n + (n == 4), 0.1 * n, float(n), data))
            sent += 1
        wait_until(lambda sent=sent: recorder.values["frames_recorded"] == sent, what="the frames")
    raw.send(Flat("b", flat + 100, 10))  # taken again
    raw.send(Image("b", 16, 0.6, 6.0, frames["b"][0]))
    raw.send(SeriesEnd("b", 20))
    wait_until(lambda: recorder.values["frames_lost"] == 2 + 3, what="number 14 of each, and 17 to 19 of the last")
    path = finished(recorder)
    assert recorder.values["frames_recorded"] == sent + 1
    with open_recording(path.with_name(f"{path.stem}_projections_3.nxs")) as recording:
        assert (list(recording.frame_numbers), recording.header.series) == ([16], "b")
        assert recording.flat is not None
        assert recording.flat.mean[0, 0] == 5100
    for number, series in (("", "a"), ("_2", "b")):
        with open_recording(path.with_name(f"{path.stem}_projections{number}.nxs")) as recording:
            assert recording.header.series == series
            assert recording.header.geometry == SCAN
            assert list(recording.frame_numbers) == [10, 11, 12, 13, 15]
            np.testing.assert_array_equal(recording.frame(4).data, frames[series][4])
            assert recording.flat is not None


def test_projections_that_fill_the_disk_up_are_complete_as_far_as_they_go(beamline, tmp_path):
    """In a process of its own: HDF5 crashes easily there."""
    script = """
        import sys, time
        from pathlib import Path
        import numpy as np
        from tango_jit.geometry import ScanGeometry
        from tango_jit.recordings import open_recording
        from tango_jit.services.projection_file import ProjectionFile
        from tango_jit.streams import Header, Image, Publisher
        scan = ScanGeometry.cone(rows=256, cols=256, pixel_mm=1.0, source_axis_mm=1e3, source_detector_mm=2e3)
        out = Publisher("tcp://127.0.0.1:*", budget_bytes=64 << 20)
        path = Path(sys.argv[1]) / "p.nxs"
        file = ProjectionFile(lambda: out.endpoint, path, budget_bytes=1 << 28, full=lambda: "")
        out.send(Header("a", "raw", scan, True), "header")
        sent, data = 0, np.ones((256, 256), np.float32)
        while not (file.trouble and sent > 60):
            out.send(Image("a", sent, 0.01 * sent, float(sent), data * (sent + 1)))
            sent += file._header is not None
            time.sleep(0.02)
        file.close(10)
        with open_recording(path) as recording:
            good = sum(bool((recording.frame(k).data == n + 1).all()) for k, n in enumerate(recording.frame_numbers))
            print(len(recording), good, file.recorded, file.lost, sent, len(recording.frame_numbers))
    """
    with small_disk(tmp_path / "disk", 44) as disk:
        command = [sys.executable, "-c", textwrap.dedent(script), str(disk)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        length, good, recorded, lost, *_ = map(int, done.stdout.split())
        assert length == good  # no frame in the file is another than was sent
        assert recorded >= 20
        assert lost > 0


def test_a_full_disk_is_told_and_it_goes_on_by_itself_when_there_is_room(recorder, beamline, tmp_path):
    with small_disk(tmp_path / "disk", 100) as disk:
        recorder.write("folder", str(disk))
        recorder.write("reserve_mb", 20)
        recorder.record()
        beamline.picture()
        wait_until(lambda: recorder.values["pictures_recorded"] > 0, what="a picture")
        (disk / "other").write_bytes(bytes(60_000_000))
        wait_until(lambda: recorder.values["state"] == State.ALARM, what="the alarm")
        assert "nothing is written" in recorder.values["status"]
        assert "is full" in recorder.values["last_error"]
        wait_until(lambda: not recorder.values["pictures_waiting"], what="an empty backlog")
        before, waits = recorder.values["pictures_recorded"], beamline.picture()
        wait_until(lambda: recorder.values["pictures_waiting"] > 0, what="a picture that waits")
        with Run(recorder.values["file"]) as run:
            assert run.ended  # complete as it is
            assert run.count("xy") == before
        (disk / "other").unlink()
        wait_until(lambda: recorder.values["pictures_recorded"] > before, what="pictures again")
        path = finished(recorder)
        with Run(path.with_name(f"{path.stem}_2.nxs")) as run:
            assert run.picture("xy", 0).last_frame == waits  # which came meanwhile
            assert run.journal()[0]["kind"] == "resumed"
            assert run.count("xy") == 1


def test_what_a_disk_is_too_slow_for_is_counted(beamline, tmp_path):
    """The writer stands for a while, and more pictures come than memory is there for."""
    service = beamline.recorder(budget_bytes=4 * picture(0).nbytes)
    writing = threading.Event()
    try:
        service.write("folder", str(tmp_path))
        service.write("reserve_mb", 0)
        seen(service, beamline)
        service.record()
        wait_until(lambda: service.values["pictures_recorded"] and not service.values["pictures_waiting"], what="rest")
        recorded, received = service.values["pictures_recorded"], service._subscribers[0].received
        stands = threading.Event()
        with service._lock:
            service._orders.append((Future(), lambda: (stands.set(), writing.wait(30))))
        service.wake()
        assert stands.wait(30)
        for k in range(20):
            beamline.picture()
            wait_until(lambda k=k: service._subscribers[0].received > received + k, what="the picture")
        writing.set()
        sent = service._subscribers[0].received - received

        def accounted() -> bool:
            values = service.values
            return values["pictures_recorded"] - recorded + values["pictures_lost"] == sent

        wait_until(accounted, what="an account of every picture")
        assert service.values["pictures_lost"] >= 15
        wait_until(lambda: service.values["state"] == State.ALARM, what="the alarm")
        assert "lost" in service.values["status"]
        with Run(finished(service)) as run:
            assert run.count("xy") == service.values["pictures_recorded"]
    finally:
        writing.set()
        service.close()


def test_a_folder_that_goes_away_is_an_alarm_and_no_end(recorder, beamline, tmp_path):
    folder = tmp_path / "runs"
    folder.mkdir()
    recorder.write("folder", str(folder))
    recorder.record()
    beamline.picture()
    wait_until(lambda: recorder.values["pictures_recorded"] > 0, what="a picture")
    folder.rename(tmp_path / "elsewhere")
    wait_until(lambda: recorder.values["state"] == State.ALARM, what="the alarm")
    beamline.picture()
    (tmp_path / "elsewhere").rename(folder)
    wait_until(lambda: recorder.values["parts"] == 2, what="work again")
    last = beamline.picture()
    wait_until(lambda: newest(recorder) == last, what="all pictures")
    wait_until(lambda: recorder.values["state"] == State.RUNNING, what="RUNNING")
    path = finished(recorder)
    with Run(path.with_name(f"{path.stem}_2.nxs")) as run:
        assert [run.picture("xy", i).last_frame for i in (-2, -1)] == [last - 60, last]
    assert recorder.values["pictures_lost"] == 0


def test_settings_that_nobody_knows_yet_are_waited_for(beamline, tmp_path):
    answers = threading.Event()
    beamline.look = lambda: (answers.wait(30), {"trainer": {"device": "jit/trainer/1", "trouble": "it is gone"}})[1]
    service = beamline.recorder()
    try:
        service.write("folder", str(tmp_path))
        service.write("reserve_mb", 0)
        seen(service, beamline)
        with pytest.raises(RuntimeError, match=r"expected the settings of the devices, .*: try again"):
            service.record()
        answers.set()
        wait_until(lambda: service._watch.last, what="the settings")
        service.record()
        wait_until(lambda: "trainer: it is gone" in service.values["status"], what="who is gone")
        assert service.values["state"] == State.ALARM
        with Run(finished(service)) as run:
            assert run.facts()["trainer"]["trouble"] == "it is gone"
    finally:
        answers.set()
        service.close()


def test_weights_that_come_after_their_first_picture_are_kept_all_the_same(recorder, beamline):
    other = weights(7)
    made = dict(picture(0).made) | {"weights_sha256": digest(other)}
    recorder.record()
    beamline.picture(made=made, weights_version=7)
    wait_until(lambda: "weights" in recorder.values["status"], what="the alarm")
    assert recorder.values["state"] == State.ALARM
    beamline.streams["weights"].send(other)
    wait_until(lambda: digest(other) in recorder._weights, what="the weights")
    beamline.picture(made=made, weights_version=7)
    wait_until(lambda: recorder.values["state"] == State.RUNNING, what="RUNNING")
    with Run(finished(recorder)) as run:
        assert run.weights(digest(other)) == other


def test_a_file_that_is_removed_is_told_and_the_next_part_begins(recorder, beamline):
    recorder.record()
    beamline.picture()
    wait_until(lambda: recorder.values["pictures_recorded"] > 0, what="a picture")
    path = Path(recorder.values["file"])
    path.unlink()
    wait_until(lambda: "its file is gone" in recorder.values["status"], what="the alarm")
    wait_until(lambda: not recorder._run_now.held, what="another try")
    last = beamline.picture()
    wait_until(lambda: recorder.values["parts"] == 2, what="the next part")
    assert newest(recorder) == last
    finished(recorder)


def test_a_run_without_pictures_says_so(recorder, beamline):
    recorder.write("pre_trigger_s", 0)
    wait_until(lambda: not recorder.values["pictures_waiting"], what="an empty backlog")
    recorder.record()
    recorder.mark("nothing")
    recorder.finish()
    wait_until(lambda: not recorder.values["recording"], what="the end of the run")
    assert recorder.values["file"] == ""
    assert "no picture came" in recorder.values["last_error"]
