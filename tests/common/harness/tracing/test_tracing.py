"""The traced window: clocks, nested calls, which inference a record belongs to, the rows of the files."""

from __future__ import annotations

import time

import pytest

from common import schema
from common.harness import tracing
from common.harness.tracing import CannotTrace, Record, Recording, Trace, clocks, window
from common.harness.tracing.demangling import demangle
from common.harness.tracing.nesting import Event, innermost


def test_nested_calls_share_the_time_without_overlap():
    events = [Event("conv2d", 0, 100), Event("convolution", 10, 90), Event("mkldnn", 20, 80), Event("relu", 100, 130)]
    records = innermost(events, thread=3)
    assert [(record.name, record.kind, record.start_ns, record.end_ns) for record in records] == [
        ("conv2d", "dispatch", 0, 10),
        ("convolution", "dispatch", 10, 20),
        ("mkldnn", "operator", 20, 80),
        ("convolution", "dispatch", 80, 90),
        ("conv2d", "dispatch", 90, 100),
        ("relu", "operator", 100, 130),
    ]
    assert sum(record.end_ns - record.start_ns for record in records) == 130
    assert {record.stream for record in records} == {3}
    assert len({record.correlation for record in records}) == 4


def test_two_callees_leave_their_caller_the_time_between_them():
    records = innermost([Event("a", 0, 100), Event("b", 10, 40), Event("c", 60, 90)], 0, first=7)
    own = [(record.start_ns, record.end_ns) for record in records if record.name == "a"]
    assert own == [(0, 10), (40, 60), (90, 100)]
    assert {record.correlation for record in records if record.name == "a"} == {7}


def test_the_own_time_of_a_frame_is_nobodys():
    records = innermost([Event("frame", 0, 100, ignored=True), Event("add", 30, 60)], 0)
    assert [(record.name, record.start_ns, record.end_ns) for record in records] == [("add", 30, 60)]


def test_frames_of_another_clock_are_put_into_their_walls():
    begin = 1_795_879_686_032_925_729
    walls = [(1_000, 2_000), (3_000, 4_100)]
    frames = [(begin + 1_100, begin + 1_950), (begin + 3_020, begin + 4_000)]
    offset, error = clocks.offset_of_frames(walls, frames)
    assert abs(offset + begin) <= 60
    assert error <= 60


def test_as_many_frames_as_walls_are_asked_for():
    with pytest.raises(ValueError, match="1 inferences of 2"):
        clocks.offset_of_frames([(0, 1), (2, 3)], [(0, 1)])


def test_a_drifting_clock_is_read_at_both_ends():
    line = clocks.Line(clocks.Reading(10**18, 500, 3), clocks.Reading(10**18 + 1_000_000, 1_000_600, 5))
    assert line.monotonic_ns(10**18) == 500
    assert line.monotonic_ns(10**18 + 1_000_000) == 1_000_600
    assert line.monotonic_ns(10**18 + 500_000) == 500_550
    assert line.error_ns == 5


def test_the_best_of_some_readings_counts():
    assert clocks.read(time.monotonic_ns).error_ns < 10**8


def test_a_record_belongs_to_the_inference_in_which_it_began():
    walls = [(100, 200), (250, 300)]
    assert tracing.inference_of([99, 100, 150, 220, 299, 301], walls) == [None, 0, 0, None, 1, None]
    assert tracing.inference_of([98, 301], walls, slack_ns=2) == [0, 1]
    assert tracing.inference_of([1], []) == [None]


class Known:
    """Records each of its runs as one kernel."""

    source = "known"

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.records: list[Record] = []

    def start(self) -> None:
        self.calls.append("start")

    def run(self) -> None:
        self.calls.append("run")
        now = time.monotonic_ns()
        self.records.append(Record("kernel", "k", now, now + 1, stream=7, correlation=len(self.records)))

    def stop(self) -> Recording:
        self.calls.append("stop")
        return Recording(self.records, "1.0", dropped=0, clock_error_ns=0)


def test_a_window_has_as_many_inferences_without_before_and_after():
    plain: list[int] = []
    recorder = Known()
    trace = tracing.trace(lambda: plain.append(1), recorder, runs=5, seconds=10)
    assert (len(trace.walls), len(trace.untraced), len(plain)) == (5, 10, 10)
    assert recorder.calls == ["start", *["run"] * (tracing.SETTLE_RUNS + 5), "stop"]
    assert len(trace.recording.records) == 5  # those that settled are left out


def test_slow_inferences_are_fewer_but_never_below_three():
    trace = tracing.trace(lambda: time.sleep(0.002), Known(), runs=50, seconds=0.001)
    assert len(trace.walls) == tracing.LEAST_RUNS


def test_the_rows_fit_the_schema():
    records = [
        Record("sync", "cudaStreamSynchronize", 150, 190, stream=4711),
        Record("memcpy", "memcpy H2D", 110, 120, "H2D", stream=13, bytes=64, correlation=1),
    ]
    trace = Trace("cupti", Recording(records, "13.0.1", 2, 30), [(100, 200)], [(0, 50), (300, 340)])
    files = {name: list(rows) for name, rows in window.rows(trace).items()}
    for name, rows in files.items():
        schema.to_csv(name, rows)
    assert files["trace.csv"][0]["dropped"] == 2
    assert [row["traced"] for row in files["traced.csv"]] == [0, 0, 1]
    first, second = files["kernels.csv"]
    assert (first["kind"], first["inference"], first["stream"], first["bytes"]) == ("memcpy", 0, 13, 64)
    assert (second["kind"], second["stream"], second["detail"]) == ("sync", 0, None)  # threads are numbered


def test_what_could_not_be_recorded_leaves_its_reason_alone():
    files = window.rows(window.failed(CannotTrace("no CUPTI: install it"), "cupti"))
    assert list(files) == ["trace.csv"]
    assert next(iter(files["trace.csv"]))["message"] == "no CUPTI: install it"


def test_an_adapter_without_profiler_is_reported_so():
    with pytest.raises(CannotTrace, match="no profiler of operators"):
        window.profiler_of(object())  # type: ignore[arg-type]


def test_names_of_cpp_are_made_plain():
    mangled = "_ZN2at6native12_GLOBAL__N_16kernelIfEEvT_"
    names = demangle([mangled, "nvjet_hsh_128x256"])
    assert names["nvjet_hsh_128x256"] == "nvjet_hsh_128x256"
    assert names[mangled] in ("void at::native::(anonymous namespace)::kernel<float>(float)", mangled)
