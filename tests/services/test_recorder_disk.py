"""The recorder where disks are full, slow or gone."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from concurrent.futures import Future
from pathlib import Path

from tango_jit.runs import Run
from tango_jit.services.service import State
from tests.events import wait_until
from tests.runs import picture, small_disk
from tests.services.beamline import finished, newest, seen


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
