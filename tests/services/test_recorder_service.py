"""The recorder on real streams: what came before, what is recorded, what is refused."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from tango_jit.recordings import open_recording
from tango_jit.runs import Run
from tango_jit.services.making import digest
from tango_jit.services.service import State
from tango_jit.streams import Dark, Flat, Header, Image, SeriesEnd
from tests.events import wait_until
from tests.runs import picture, weights
from tests.services.beamline import SCAN, finished, newest, seen


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


def test_a_run_without_pictures_says_so(recorder, beamline):
    recorder.write("pre_trigger_s", 0)
    wait_until(lambda: not recorder.values["pictures_waiting"], what="an empty backlog")
    recorder.record()
    recorder.mark("nothing")
    recorder.finish()
    wait_until(lambda: not recorder.values["recording"], what="the end of the run")
    assert recorder.values["file"] == ""
    assert "no picture came" in recorder.values["last_error"]
