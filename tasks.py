"""What a user types: `invoke --list` shows the tasks, `invoke --help TASK` one task's options.

Thin on purpose: parse, call common/host or analysis, print.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    print(
        "error: ./invoke --list, in this folder, shows the tasks that stand here; ./invoke TASK runs one",
        file=sys.stderr,
    )
    sys.exit(2)

from invoke.context import Context
from invoke.tasks import task

sys.path.insert(0, str(Path(__file__).resolve().parent))

try:
    from rich.console import Console
    from rich.markup import escape
except ModuleNotFoundError:  # by an invoke of another Python, which knows nothing of this checkout
    print("error: run ./invoke in this folder: it has all that the tasks need", file=sys.stderr)
    sys.exit(2)

# Only what the tasks' options and helps are made of: the rest, numpy and Docker's client among it, is imported by the task that
# needs it, so that --help, a typo and --dry-run do not wait for it.
from common.errors import UserError
from common.host import signals
from common.host.cli import parsing as opt
from common.host.cli.command_line import DEBUG_HELP, complain, for_people, help_of, takes, typed, typed_options
from common.host.cli.console import default_console
from common.host.paths import IMAGES, ROOT, DataFolder
from common.host.plan.options import Options
from common.text import shell_line, visible

if TYPE_CHECKING:
    from analysis.comparisons.question import Question
    from analysis.comparisons.recipes import Recipe
    from common.host.bench.again import Again, Marks
    from common.host.bench.execution import Outcome
    from common.host.bench.planned import PlanOutcome
    from common.host.bench.traced_again import Again as TracedAgain
    from common.host.runs.run import Run


def _run_folders(words: Sequence[str], data: DataFolder) -> list[Path]:
    from common.host.runs.find import run_folders

    return run_folders(words, data)


def _analyze(folders: list[Path], console: Console, data: DataFolder, **choices: Any) -> int:
    from analysis.analyze import analyze as analyze_runs
    from common.host.runs.find import words_for

    words = choices.get("words", ())
    out = data.report / _name_of(folders, words)
    named = partial(words_for, words=words, data=data)
    found = analyze_runs(
        folders, out, console, cache=data.host_cache / "analysis", recipe=_recipe_task(), named=named, **choices
    )
    return found.exit_code


def _name_of(folders: Sequence[Path], words: Sequence[str]) -> str:
    """Of the folder of a report: the run, or the one folder of runs that was named, or how many there are."""
    if len(folders) == 1:
        return folders[0].name
    return Path(words[0]).resolve().name if len(words) == 1 and words[0] != "all" else f"{len(folders)}-runs"


def _recipe_task() -> str | None:
    """The task that prints the recipe of a cell, where there is one: reports offer it."""
    return "invoke recipe" if "recipe" in globals() else None


def _finish(outcome: Outcome, console: Console, data: DataFolder) -> None:
    """What exists, and the exit code: 130 after Ctrl-C, 143 after SIGTERM, 2 when results are not stored, 1 when no cell is ok."""
    from common.host.bench.top_classes import print_top_classes
    from common.host.runs.run import has_ok_cell

    for message in outcome.errors:
        complain(f"error: {visible(message)}")
    if outcome.run.existing_cells():
        print_top_classes(outcome.run, console)
        _offer_again([outcome.run], console)
        _analyze([outcome.run.folder], console, data, here=True)
    if outcome.interrupted:
        console.print(escape(f"Interrupted; the same command continues {outcome.run.name}."), highlight=False)
        sys.exit(signals.exit_code())
    if outcome.errors:
        sys.exit(2)
    if not has_ok_cell(outcome.run):
        complain("error: no cell was measured; the table and attempts.csv of the run say why")
        sys.exit(1)


def _offer_again(runs: Sequence[Run], console: Console) -> None:
    """One line where other load was beside cells."""
    from common.host.runs import early_marks

    loaded = sum(early_marks.of_run(run)[early_marks.LOAD] for run in runs)
    if loaded:
        count = "1 cell ran" if loaded == 1 else f"{loaded} cells ran"
        typed = sys.argv[1 : sys.argv.index("--again")] if "--again" in sys.argv else sys.argv[1:]
        command = shell_line(["bench", "--plan", "demo"] if typed[:1] == ["demo"] else typed)
        text = f"{count} beside other load (l). When the machine is quiet: invoke {command} --again marked"
        console.print(escape(text), style="yellow", highlight=False, soft_wrap=True)


#: of a folder that is named for runs: file systems take 255
MOST_BYTES = 200

PLAN_HELP = "plan to measure, a file (docs/plans.md) or a name in data/plans; options on the command line override it; default: none"

MISSING_HELP = (
    "only print, in groups, the cells of --plan that these runs lack, comma list, a folder of runs such as data/reference/h100, or "
    "'all'; default: off"
)

DRY_RUN_HELP = "only print the runs, the number of cells and the least time they take; default: off"

WHERE_HELP = (
    "only cells that satisfy all of these, comma list of COLUMN=VALUE or COLUMN>=VALUE, such as io=host,batch_size=1|8; "
    "default: all"
)

AGAIN_HELP = (
    "measure cells with these marks again in the newest run of this command: 'marked' (disturbed by other load, heat or noise), or "
    "names or signs of marks, comma list such as load,noisy; new measurements replace the old ones in tables; default: off"
)


def _again(words: str) -> Again | None:
    from common.host.bench.again import Again

    return Again(words, _marks_of) if words else None


def _marks_of(folder: Path) -> Marks:
    from analysis.results.marked import marks_of
    from common.host.bench.again import Marks

    return Marks(*marks_of(folder))


@task(
    name="bench",
    help=help_of(
        Options,
        framework="framework variants, comma list (invoke frameworks lists them); no default, unless --plan or --version names them",
        plan=PLAN_HELP,
        again=AGAIN_HELP,
        dry_run=DRY_RUN_HELP,
        missing=MISSING_HELP,
    ),
    auto_shortflags=False,
)
@for_people
@takes(Options, plan="", again="", dry_run=False, missing=None)
def bench_task(_context: Context, given: dict[str, Any]) -> None:
    """Measures the named frameworks on one device or several, and prints the table.

    The same command continues an interrupted run and skips finished cells.

    Exit code 1: no cell is ok.

    Examples:
        invoke bench --framework onnxrt,torch --gpu 0
        invoke bench --framework tensorrt --gpu 0 --precision fp32,tf32,fp16 --io host,device
        invoke bench --framework onnxrt --device cpu --quick
        invoke bench --framework onnxrt,torch --model my.onnx --image cat.jpg
        invoke bench --framework onnxrt --gpu 0 --scenario server --rate 400
        invoke bench --plan study --gpu 0
        invoke bench --plan reference --dry-run
        invoke bench --plan reference --missing data/reference/h100
        invoke bench --framework onnxrt,torch --gpu 0 --again marked
    """
    if given["dry_run"] and given["again"]:
        raise UserError("--dry-run measures nothing, and --again measures again; leave one of them out")
    if given["missing"] is not None and (given["again"] or not given["plan"]):
        raise UserError("--missing prints what of a --plan is not there; give --plan, and leave --again out")
    if given["missing"] is not None and not opt.split_list(given["missing"]):
        raise UserError(
            "--missing names no runs; give names, run folders or sealed runs, comma list, or a folder of them"
        )
    if given["plan"]:
        typed = {name: value for name, value in given.items() if name in typed_options(Options)}
        if given["missing"] or given["dry_run"]:
            _foresee_plan(given["plan"], typed, given["missing"])
        else:
            _run_plan(given["plan"], typed, given["again"])
        return
    _named(given["framework"], given["version"], "; invoke frameworks lists them, invoke sweep runs them all")
    if given["dry_run"]:
        from common.host.bench.dry_run import dry_run

        dry_run(Options.of(given), default_console())
        return
    _bench(Options.of(given), given["again"])


@task(help=help_of(Options, leave_out=["framework"], again=AGAIN_HELP), auto_shortflags=False)
@for_people
@takes(Options, leave_out=["framework"], again="")
def sweep(_context: Context, given: dict[str, Any]) -> None:
    """Measures every framework variant that the device can run.

    Takes the options of bench but --framework, --plan, --dry-run and --missing. Exit code 1: no cell is ok.

    Examples:
        invoke sweep --gpu all
        invoke sweep --device cpu --quick
    """
    _bench(Options.of(given), given["again"])


def _named(framework: str, version: str, otherwise: str) -> None:
    """Raises UserError where no framework is named, by itself or with a version."""
    from common.host.frameworks.versions import names_in

    if not framework and not names_in(version):
        raise UserError(f"which framework? give --framework NAME[,NAME]{otherwise}")


def _foresee_plan(name: str, typed: dict[str, Any], missing: str | None) -> None:
    """Prints what a plan would measure, or what of it these runs (comma list) lack."""
    from common.host.bench.dry_run import dry_run_of_plan, print_missing
    from common.host.plan.plan_file import read_plan

    console = default_console()
    read = read_plan(name, typed, console)
    if missing:
        from analysis.results import planned_cells  # DuckDB: only runs need it

        print_missing(read, planned_cells.of_runs(_run_folders(opt.split_list(missing), DataFolder.default())), console)
    else:
        dry_run_of_plan(read, console)


def _bench(options: Options, again: str = "") -> None:
    from common.host.bench.command import bench

    console = default_console()
    data = DataFolder.default()
    _finish(bench(options, console, data, again=_again(again)), console, data)


FLEET_OPTIONS: dict[str, str] = {
    "address": "address of Ray's head node, as `ray start --head` prints it; default: the environment variable RAY_ADDRESS",
    "accelerators": "types of GPU by Ray's names, comma list such as A2,V100,H100; default: all in the cluster",
    "checkout": "folder of the checkout on the hosts; default: the host's FRAMEWATT_CHECKOUT, else the folder of Ray's .venv",
    "device": "gpu, or cpu to try a sweep on the hosts' CPUs, one task per declared GPU; default: gpu",
}


@task(
    name="fleet up-check",
    help=help_of(Options, leave_out=["gpu"], **FLEET_OPTIONS),
    auto_shortflags=False,
)
@for_people
@takes(Options, leave_out=["gpu"], address="", accelerators="", checkout="")
def fleet_up_check(_context: Context, given: dict[str, Any]) -> None:
    """Checks the hosts of a Ray cluster: can each measure, and do code, models and versions agree?

    It takes the options of fleet sweep. Exit code 1: a check fails.

    Examples:
        invoke fleet up-check --address HEAD:6379
    """
    from common.host.fleet.head.targets import Wanted
    from common.host.fleet.head.up_check import up_check

    wanted = Wanted(given["accelerators"], checkout=given["checkout"])
    code = up_check(given["address"], Options.of(given), wanted, default_console(), DataFolder.default())
    if code:
        sys.exit(code)


@task(
    name="fleet sweep",
    help=help_of(
        Options,
        leave_out=["gpu"],
        **FLEET_OPTIONS,
        per_accelerator="number of GPUs of each type, each of which measures all cells, or 'all'; default: 1",
    ),
    auto_shortflags=False,
)
@for_people
@takes(Options, leave_out=["gpu"], address="", accelerators="", per_accelerator="1", checkout="")
def fleet_sweep(_context: Context, given: dict[str, Any]) -> None:
    """Measures on GPUs of many hosts, through Ray.

    The same command continues an interrupted sweep. Exit code 1: some cells are missing.

    Examples:
        invoke fleet sweep --address HEAD:6379 --accelerators A2,V100,H100 --per-accelerator 3
    """
    from common.host.fleet.head.outcome import finish, print_pictures
    from common.host.fleet.head.sweep import sweep as sweep_fleet
    from common.host.fleet.head.targets import Wanted

    console, data = default_console(), DataFolder.default()
    wanted = Wanted(given["accelerators"], given["per_accelerator"], given["checkout"])
    result = sweep_fleet(given["address"], Options.of(given), wanted, console, data)
    if result.measured:
        _analyze(result.measured, console, data)
        print_pictures(result.measured, console)
    code = finish(result, console)
    if code:
        sys.exit(code)


PEAK_OPTIONS = (
    "framework", "device", "gpu", "batch_sizes", "precision", "tuning", "io", "model", "shape", "rebatch", "inputs", "input_range",
    "mean", "std",
    "weights", "runner", "python", "quick",
    "cell_timeout", "gpu_driver", "cpus", "memory", "threads", "batch_window_ms", "seed",
)  # fmt: skip


@task(
    help=help_of(
        Options,
        only=PEAK_OPTIONS,
        max_p99_ms="upper limit of the 99th percentile of latency, from a query's scheduled arrival to its answer, in ms; no default",
        batch_sizes="largest numbers of queries in one inference, comma list; default: 1",
        quick="662 queries per trial instead of 1000, which does not resolve close rates; default: off",
        longest_try="skip rates whose trial would take longer than this, in s; default: 300",
    ),
    auto_shortflags=False,
)
@for_people
@takes(Options, only=PEAK_OPTIONS, max_p99_ms=0.0, longest_try=300.0)
def peak(_context: Context, given: dict[str, Any]) -> None:
    """Finds the highest rate of random arrivals that each framework serves within a limit of latency.

    By bisection over rates, with trials of the server scenario.

    Examples:
        invoke peak --framework onnxrt,torch --gpu 0 --max-p99-ms 15
    """
    from common.host.bench.peak import bound_of, print_results
    from common.host.bench.peak import peak as find_peaks

    console = default_console()
    bound = bound_of(given["max_p99_ms"], given["longest_try"], given["quick"])
    print_results(find_peaks(Options.of(given), bound, console, DataFolder.default()), bound, console)


EXPLAIN_OPTIONS = (
    "framework", "device", "gpu", "batch_sizes", "precision", "tuning", "io", "model", "shape", "rebatch", "inputs", "input_range",
    "mean", "std", "weights", "runner", "python", "cell_timeout", "threads", "gpu_driver", "cpus", "memory", "min_seconds",
    "max_seconds", "seed", "version",
)  # fmt: skip


@task(
    iterable=["run"],
    help=help_of(
        Options,
        only=EXPLAIN_OPTIONS,
        run="a run to explain, or two runs or cells (RUN/CELL) to explain the difference of; default: measure a new one",
        batch_sizes="images per inference, comma list; default: 1,32",
        min_seconds="shortest measured window, in s; default: 3",
        max_seconds="longest measured window, in s; default: 6",
        trace="also write a trace to this file, in Chrome's format, which Perfetto opens; default: none",
    ),
    auto_shortflags=False,
)
@for_people
@takes(Options, only=EXPLAIN_OPTIONS, run=[], trace="")
def explain(_context: Context, given: dict[str, Any]) -> None:
    """Shows where the time of an inference goes: kernels, copies and gaps.

    Exit code 1: nothing could be recorded, or some files could not be read.

    Examples:
        invoke explain --framework torch,tensorrt --gpu 0
        invoke explain RUN_A RUN_B
    """
    from analysis.explain import Side, check_options, folder_name, was_to_be_traced
    from analysis.explain import explain as explain_runs
    from common.host.bench.traced import runs_to_explain, traced
    from common.host.bench.traced_again import Again, options_of_run
    from common.host.whole_files import check_target

    console, data = default_console(), DataFolder.default()
    typed = {name: given[name] for name in typed_options(Options)}
    trace = Path(given["trace"]) if given["trace"] else None
    if trace is not None:
        check_target(trace)
    sides = [Side(*named) for named in runs_to_explain(given["run"], data)]
    again, only = Again(Options.of(given)), dict[str, str]()
    if len(sides) == 1 and not was_to_be_traced(sides[0].run):
        again, sides = options_of_run(sides[0].run, typed, data.results, sides[0].cell_key), []
    elif sides:
        check_options(typed)
        only = typed
    if not sides:
        sides = [Side(_measured_traced(replace(again, options=traced(again.options)), console, data))]
    out = data.report / folder_name(sides, only)
    code = explain_runs(sides, out, console, trace=trace, cache=data.host_cache / "analysis", only=only)
    if code:
        sys.exit(code)


def _measured_traced(again: TracedAgain, console: Console, data: DataFolder) -> Path:
    """The new run of what shall be explained. Raises UserError where nothing was recorded."""
    from analysis.explain import is_traced
    from common.host.bench.command import bench

    _named(again.options.framework, again.options.version, ", or the name of a run; invoke frameworks lists them")
    for note in again.notes:
        console.print(escape(note), style="yellow", highlight=False, soft_wrap=True)
    outcome = bench(again.options, console, data)
    note = again.note_on_model(str(outcome.run.description["model"]["hash"]))
    if note:
        console.print(escape(note), style="yellow", highlight=False, soft_wrap=True)
    for message in outcome.errors:
        complain(f"error: {message}")
    if outcome.interrupted:
        console.print(escape(f"Interrupted; the same command continues {outcome.run.name}."), highlight=False)
        sys.exit(signals.exit_code())
    if not is_traced(outcome.run.folder):
        _analyze([outcome.run.folder], console, data)
        raise UserError("no cell was measured to its end, so none can be explained; the table says why")
    return outcome.run.folder


VERIFY_OPTIONS = (
    "framework",
    "device",
    "gpu",
    "batch_sizes",
    "precision",
    "tuning",
    "io",
    "input",
    "model",
    "shape",
    "rebatch",
    "inputs",
    "input_range",
    "mean",
    "std",
    "weights",
    "python",
    "threads",
)


@task(
    help=help_of(
        Options,
        only=VERIFY_OPTIONS,
        framework="framework variants to verify, comma list; default: all that the device can run",
        batch_sizes="images per inference, comma list; default: 1,32 on the CPU, 1,32,512 on a GPU",
        tuning="levels of tuning, comma list of stock, tuned and rewritten, or 'all' that the variants support; default: all",
        io="comma list of host and device; default: host on the CPU, host,device on a GPU",
        pairs="number of pairs of blocks, one of the harness and one of the recipe, at least 11; default: 16",
        block_seconds="length of a block, in s; default: 1",
    ),
    auto_shortflags=False,
)
@for_people
@takes(Options, only=VERIFY_OPTIONS, io="", tuning="all", pairs=16, block_seconds=1.0)
def verify(_context: Context, given: dict[str, Any]) -> None:
    """Compares the harness with each cell's recipe (invoke recipe), in two processes that alternate in blocks.

    Exit code 1: an interval lies wholly outside 0.98 to 1.02 (OFF), an output differs, or nothing could be compared.

    Examples:
        invoke verify --device cpu
    """
    from common.host.verify.command import verify as compare_loops
    from common.host.verify.report import line, print_result, sentence, write_markdown

    console, data = default_console(), DataFolder.default()
    result = compare_loops(
        Options.of(given), given["pairs"], given["block_seconds"], console, data,
        on_row=lambda row: console.print(escape(line(row)), highlight=False, soft_wrap=True),
    )  # fmt: skip
    print_result(result, console)
    path = write_markdown(result, data.report)
    console.print(escape(sentence(result)), style="bold", highlight=False, soft_wrap=True)
    console.print(escape(f"Table: {path}"), highlight=False, soft_wrap=True)
    if any(row.word == "OFF" for row in result.verdicts) or not any(row.ratio for row in result.verdicts):
        sys.exit(1)


@task(help={"debug": DEBUG_HELP})
@for_people
def demo(_context: Context, debug: bool = False) -> None:
    """Measures seven frameworks on this machine's CPU and prints the answer; no GPU, no Docker.

    Sets up their environments and exports the model first; the plan is data/plans/demo.toml (batch sizes 1, 8 and 32).
    Exit code 1: no cell is ok.
    """
    _run_plan("demo", {})


def _run_plan(name: str, typed: dict[str, Any], again: str = "") -> None:
    from common.host.bench.planned import run_plan
    from common.host.plan.plan_file import read_plan

    console, data = default_console(), DataFolder.default()
    outcome = run_plan(read_plan(name, typed, console), console, data, again=_again(again))
    _finish_plan(outcome, console, data)


def _finish_plan(outcome: PlanOutcome, console: Console, data: DataFolder) -> None:
    """As _finish, for all runs of a plan; exit code 2 also when some of them are missing."""
    from common.host.bench.top_classes import print_top_classes
    from common.host.runs.run import has_ok_cell

    for message in outcome.errors:
        complain(f"error: {visible(message)}")
    measured = [run for run in outcome.runs if run.existing_cells()]
    for run in measured:
        print_top_classes(run, console)
    for title, reason in outcome.missing.items():
        console.print(escape(f"missing: {title}: {reason}"), highlight=False, soft_wrap=True)
    if measured:
        _offer_again(measured, console)
        _analyze([run.folder for run in measured], console, data, here=True)
    if outcome.interrupted:
        console.print("Interrupted; the same command continues the plan.", highlight=False)
        sys.exit(signals.exit_code())
    if outcome.errors or outcome.missing:
        sys.exit(2)
    if not any(has_ok_cell(run) for run in outcome.runs):
        complain("error: no cell was measured; the table and attempts.csv of the run say why")
        sys.exit(1)


@task(
    iterable=["run"],
    help=help_of(Options, run="run whose plan to write, instead of one from the options; default: none"),
    auto_shortflags=False,
)
@for_people
@takes(Options, run=[])
def plan(_context: Context, given: dict[str, Any]) -> None:
    """Writes a plan file, from the options of bench or from a run, to standard output.

    Examples:
        invoke plan --framework onnxrt,torch --gpu 0 > sweep.toml
        invoke plan RUN > again.toml
    """
    from common.host.bench.planned import plan_of_options, plan_of_run

    typed = {name: value for name, value in given.items() if name in typed_options(Options)}
    if len(given["run"]) > 1:
        raise UserError(f"plan takes one run, not {len(given['run'])}")
    folder = _run_folders(given["run"], DataFolder.default())[0] if given["run"] else None
    print(plan_of_run(folder, typed) if folder else plan_of_options(Options.of(typed)), end="")


@task(
    iterable=["run"],
    help={
        "run": "names or paths of the runs to analyze, or 'all'; several are compared with each other; default: the newest",
        "where": WHERE_HELP,
        "pivot": "column whose values become the columns of the table; default: batch_size",
        "sort": "columns to sort by, comma list, with '-' before a name for descending order; default: throughput",
        "tables": "metrics to print tables of, comma list such as latency,p99, or 'all'; default: what fits on one screen",
        "baseline": "framework that the speed-up plot compares with; default: the stock levels if measured, else the median one",
        "peak-tflops": "peak of the device at the precision of the cells, in TFLOP/s, for the roofline; default: unknown",
        "gflop-per-image": "operations per image, in GFLOP, a multiply-add counted as two, for the roofline; default: unknown",
        "copy-gb-s": "bandwidth of copies to the device, in GB/s, for the roofline; default: as in run.json, else that of its PCIe "
        "link",
        "debug": DEBUG_HELP,
    },
)
@for_people
def analyze(
    _context: Context,
    run: list[str],
    where: str = "",
    pivot: str = "",
    sort: str = "",
    tables: str = "",
    baseline: str = "",
    peak_tflops: str = "",
    gflop_per_image: str = "",
    copy_gb_s: str = "",
    debug: bool = False,
) -> None:
    """Makes tables, plots and a report from the CSV files of runs.

    Exit code 1: some files or rows could not be read; each is named.

    Examples:
        invoke analyze
        invoke analyze all --where io=host,batch_size>=8 --pivot device_name
        invoke analyze data/reference/h100 --tables latency,p99
    """
    from analysis.plots.roofline import Limits

    data = DataFolder.default()
    arithmetic, operations = (
        opt.optional_number("--peak-tflops", peak_tflops),
        opt.optional_number("--gflop-per-image", gflop_per_image),
    )
    copies = opt.optional_number("--copy-gb-s", copy_gb_s)
    limits = Limits(copies and copies * 1e9, arithmetic and arithmetic * 1e12, operations and operations * 1e9)
    code = _analyze(
        _run_folders(run, data), default_console(), data, where=where or None, pivot=pivot or None, sort=sort or None,
        baseline=baseline or None, limits=limits, shown=tables or None, words=run,
    )  # fmt: skip
    if code:
        sys.exit(code)


@task(
    iterable=["run"],
    help={
        "run": "names or paths of the runs to report on, or 'all'; default: the newest",
        "where": WHERE_HELP,
        "compare": "show the GPUs of the runs, or the runs of one GPU, side by side; default: off",
        "pdf": "also write report.pdf, with the Chromium or Chrome on PATH; default: off",
        "debug": DEBUG_HELP,
    },
)
@for_people
def report(
    _context: Context, run: list[str], where: str = "", compare: bool = False, pdf: bool = False, debug: bool = False
) -> None:
    """Writes a report of runs: one HTML file with the answer, tables, plots, machine and method.

    Exit code 1: some files or rows could not be read; each is named.

    Examples:
        invoke report --pdf
        invoke report data/reference/h100 data/reference/h200 --compare
    """
    from analysis.analyze import write_report

    data = DataFolder.default()
    folders = _run_folders(run, data)
    name = _name_of(folders, run)
    out = data.report / (f"{name}-compared" if compare else name)
    result = write_report(
        folders,
        out,
        default_console(),
        where=where or None,
        compare=compare,
        pdf=pdf,
        cache=data.host_cache / "analysis",
        recipe=_recipe_task(),
        words=run,
    )
    if result.exit_code:
        sys.exit(result.exit_code)


@task(
    iterable=["run"],
    help={
        "query": "query in SQL (DuckDB) over the views of analysis/sql/README.md",
        "run": "names or paths of the runs to query; default: all",
        "debug": DEBUG_HELP,
    },
)
@for_people
def sql(_context: Context, query: str, run: list[str], debug: bool = False) -> None:
    """Runs SQL queries over the results.

    Prints the result of each statement; semicolons separate statements. Exit code 1: some files could not be read.

    Examples:
        invoke sql "SELECT variant, batch_size, images_per_s FROM comparison"
        invoke sql "SELECT * FROM marks" data/reference/h100
    """
    from analysis.database.sql_shell import EXAMPLE, sql_shell
    from common.host.runs.find import is_a_run

    data = DataFolder.default()
    if not query.strip():
        raise UserError(f"the query is empty; {EXAMPLE}")
    if is_a_run(query, data) or ("/" in query and len(query.split()) == 1):
        raise UserError(f"{query} is a run or a path, not a query; the query comes first, {EXAMPLE} {query}")
    code = sql_shell(_run_folders(run or ["all"], data), query, default_console(), data.host_cache / "analysis")
    if code:
        sys.exit(code)


@task(
    name="import",
    help={
        "path": "folder or file with the results",
        "gpu-ordinal": "index of the measured GPU, from 0 in the order of the files; default: the only one",
        "format": "study (folder of CSVs per GPU), trtexec (JSON of --exportTimes) or perf_analyzer (CSV of -f); default: detected",
        "gpu-name": "name of the GPU, if not in the files; default: unknown",
        "framework": "measured framework variant, if not in the files; default: tensorrt for trtexec",
        "model": "measured model, if not in the files; default: the file's name",
        "precision": "fp32, tf32, fp16, bf16, int8 or int8-dynamic, if not in the files; no default",
        "batch-size": "images per inference, if not in the files; no default",
        "debug": DEBUG_HELP,
    },
)
@for_people
def import_task(
    _context: Context,
    path: str,
    gpu_ordinal: str = "",
    format: str = "",
    gpu_name: str = "",
    framework: str = "",
    model: str = "",
    precision: str = "",
    batch_size: str = "",
    debug: bool = False,
) -> None:
    """Imports results of other tools as a run, which analyze, recommend and the other tasks read.

    Exit code 1: some lines could not be used.

    Examples:
        invoke import published/a2 --gpu-ordinal 0
        invoke import times.json --precision fp16 --batch-size 8 --gpu-name "NVIDIA A2"
    """
    from analysis.importers.import_results import import_results
    from analysis.importers.imported import Facts

    facts = Facts(
        gpu_ordinal=opt.optional_whole("--gpu-ordinal", gpu_ordinal, 0),
        gpu_name=gpu_name or None,
        framework=framework or None,
        model=model or None,
        precision=precision or None,
        batch_size=opt.optional_whole("--batch-size", batch_size, 1),
    )
    results = DataFolder.default().results
    imported = import_results(Path(path), results, console=default_console(), facts=facts, format=format or None)
    if imported.exit_code:
        sys.exit(imported.exit_code)


#: of `recommend` and of `recipe --best`
LIMITS_HELP = {
    "gpu": "device to choose for, by name or part of it, number (gpu0) or UUID, 'cpu' for the CPU; default: the only one measured",
    "objective": "what to optimize: throughput, joules (per image), latency or cost (of energy); default: throughput",
    "max-latency-ms": "upper limit of the latency of a batch, in ms; default: no limit",
    "percentile": "percentile of latency to limit and to optimize: 50 (median), 90, 95 or 99; default: 50",
    "max-power-w": "upper limit of the device's power, in W; cells of unknown power are left out; default: no limit",
    "min-throughput": "lower limit of throughput, in images/s; default: no limit",
    "min-precision": "lowest precision allowed, int8-dynamic, int8, bf16, fp16, tf32 or fp32; default: any",
    "price-per-kwh": "price of energy per kWh, in any currency, for --objective cost; no default",
    "where": WHERE_HELP,
}


def _question(
    gpu: str,
    objective: str,
    max_latency_ms: str,
    percentile: str,
    max_power_w: str,
    min_throughput: str,
    min_precision: str,
    price_per_kwh: str,
) -> Question:
    """The options of LIMITS_HELP as typed, "" where they were not given."""
    from analysis.comparisons.question import Question

    return Question(
        gpu=gpu or None,
        objective=objective,
        max_latency_ms=opt.optional_number("--max-latency-ms", max_latency_ms),
        percentile=opt.optional_whole("--percentile", percentile, 1) or 50,
        max_power_w=opt.optional_number("--max-power-w", max_power_w),
        min_throughput=opt.optional_number("--min-throughput", min_throughput),
        price_per_kwh=opt.optional_number("--price-per-kwh", price_per_kwh),
        min_precision=min_precision or None,
    )


@task(
    iterable=["run"],
    help={
        "run": "names or paths of the runs to choose from; default: all",
        **LIMITS_HELP,
        "debug": DEBUG_HELP,
    },
)
@for_people
def recommend(
    _context: Context,
    run: list[str],
    gpu: str = "",
    objective: str = "throughput",
    max_latency_ms: str = "",
    percentile: str = "50",
    max_power_w: str = "",
    min_throughput: str = "",
    min_precision: str = "",
    price_per_kwh: str = "",
    where: str = "",
    debug: bool = False,
) -> None:
    """Recommends framework, precision and batch size under limits, with the certainty and the next best.

    Exit code 1: no cell meets the limits, or some files could not be read.

    Examples:
        invoke recommend --max-latency-ms 20
        invoke recommend --gpu A2 --max-latency-ms 20 --max-power-w 50
        invoke recommend data/reference/h100 --objective joules --where io=host
    """
    from analysis.comparisons.recommend import recommend as answer
    from common.host.runs.find import words_for

    question = _question(
        gpu, objective, max_latency_ms, percentile, max_power_w, min_throughput, min_precision, price_per_kwh
    )
    data = DataFolder.default()
    folders = _run_folders(run or ["all"], data)
    named = partial(words_for, words=run, data=data)
    code = answer(
        folders, question, default_console(), where=where or None, cache=data.host_cache / "analysis", named=named
    )
    if code:
        sys.exit(code)


@task(
    iterable=["run"],
    help={
        "run": "key of a cell (bench prints that of the fastest; the report has a row's command, and `invoke sql \"SELECT cell_key "
        'FROM cells"` lists all keys), then names or paths of the runs to search (with --best: only the runs); default: all runs',
        "best": "take the cell that `invoke recommend` recommends under the same limits, instead of a key; default: off",
        **LIMITS_HELP,
        "objective": "what --best optimizes: throughput, joules (per image), latency or cost (of energy); default: throughput",
        "out": "file to write, or '-' for standard output; default: the cell's key with .py, in the current folder",
        "docs": "regenerate from the reference runs docs/recipes, docs/results.md, the README's table of worth, and the README of "
        "each folder of a plan's runs in data/reference; default: off",
        "debug": DEBUG_HELP,
    },
)
@for_people
def recipe(
    _context: Context,
    run: list[str],
    best: bool = False,
    gpu: str = "",
    objective: str = "",
    max_latency_ms: str = "",
    percentile: str = "",
    max_power_w: str = "",
    min_throughput: str = "",
    min_precision: str = "",
    price_per_kwh: str = "",
    where: str = "",
    out: str = "",
    docs: bool = False,
    debug: bool = False,
) -> None:
    """Writes a Python program that runs a cell without framewatt.

    The program needs numpy and the framework, that of PyTorch also onnx and onnx2torch to read the model; its head names all. It
    loads the model file, applies the cell's settings, runs and prints items/s.

    Examples:
        invoke recipe MobileNetV3L_onnxrt_fp32_b0008_host_single-stream_script_cpu_r0
        invoke recipe MobileNetV3L_torch_fp16_b0032_host_single-stream_script_gpu0 data/reference/h200-levels
        invoke recipe --best --gpu H100 --max-latency-ms 5 --where io=host data/reference/h100
    """
    from analysis.comparisons import recipes
    from analysis.output.reference_docs import write_all

    data = DataFolder.default()
    limits = {
        "--gpu": gpu, "--objective": objective, "--max-latency-ms": max_latency_ms, "--percentile": percentile,
        "--max-power-w": max_power_w, "--min-throughput": min_throughput, "--min-precision": min_precision,
        "--price-per-kwh": price_per_kwh, "--where": where,
    }  # fmt: skip
    _check_recipe_options(run, best, [name for name, value in limits.items() if value], out, docs)
    if docs:
        for path in write_all(data.host_cache):
            print(path)
        return
    file = "" if out == "-" else Path(out).name
    if best:
        objective = objective or "throughput"
        question = _question(
            gpu, objective, max_latency_ms, percentile, max_power_w, min_throughput, min_precision, price_per_kwh
        )
        folders, cache = _run_folders(run or ["all"], data), data.host_cache / "analysis"
        made = recipes.best(question, folders, _models(data), where=where or None, cache=cache, file=file)
    else:
        made = _recipe_of_cell(run, data, file)
    if made.lack:
        print(f"note: {visible(made.lack)}", file=sys.stderr)
    if out == "-":
        print(made.text, end="")
        return
    path = recipes.store(made, Path(out) if out else None)
    console = default_console()
    console.print(escape(made.sentence), style="bold", highlight=False, soft_wrap=True)
    console.print(escape(f"Recipe: {path}"), highlight=False, soft_wrap=True)


def _recipe_of_cell(run: Sequence[str], data: DataFolder, file: str = "") -> Recipe:
    """run: the cell's key, which may have a folder of runs before it, and then names of runs."""
    from analysis.comparisons import recipes

    if not run:
        raise UserError(
            'which cell? give its key (./invoke sql "SELECT cell_key FROM cells" lists all), or --best with limits'
        )
    runs, _, key = run[0].rpartition("/")
    words = [*([runs] if runs else []), *run[1:]]
    folders = _run_folders(words or ["all"], data)
    return recipes.of_cell(key, folders, _models(data), cache=data.host_cache / "analysis", words=words, file=file)


def _check_recipe_options(run: Sequence[str], best: bool, limits: Sequence[str], out: str, docs: bool) -> None:
    """Raises UserError for options that say different things, of which one would be ignored. limits: those given."""
    if docs:
        others = [*run, *(["--best"] if best else []), *limits, *(["--out"] if out else [])]
        if others:
            raise UserError(
                f"--docs writes the pages of the reference runs and nothing else: leave out {', '.join(others)}"
            )
    elif limits and not best:
        verb = "choose" if len(limits) > 1 else "chooses"
        raise UserError(
            f"{', '.join(limits)} {verb} a cell with --best; a key names one already: give one or the other"
        )


def _models(data: DataFolder) -> Path:
    """Where a recipe looks for models by default: relative where it is run from here."""
    here = Path.cwd()
    return data.models.relative_to(here) if data.models.is_relative_to(here) else data.models


@task(
    iterable=["run"],
    help={
        "run": "names or paths of two runs, the earlier one first; one is enough with --cell-a and --cell-b",
        "cell_a": "cells of the first run to compare, comma list of COLUMN=VALUE, such as framework=torch,batch_size=8; default: all",
        "cell_b": "cells of the last run to compare them with, such as framework=onnxrt,batch_size=8; all other columns must be "
        "equal; default: all",
        "out": "folder for compare.md and compare.csv; default: data/report/compare-RUN_A-RUN_B, with --format none",
        "format": "print only markdown, json or customSmallerIsBetter (of github-action-benchmark) to standard output; default: a "
        "table",
        "debug": DEBUG_HELP,
    },
)
@for_people
def compare(
    _context: Context,
    run: list[str],
    cell_a: str = "",
    cell_b: str = "",
    out: str = "",
    format: str = "",
    debug: bool = False,
) -> None:
    """Compares two runs: each cell of the second is FASTER, SLOWER, the SAME or UNCLEAR.

    FASTER or SLOWER: the 98 % interval of the ratio, over workers, excludes 1, and the ratio is more than 1 % from it. A side
    with one worker is UNCLEAR, unless other cells or earlier runs of that framework and device show the spread between workers.

    Exit code 3: a cell is slower or no longer runs; 1: some files could not be read.

    Examples:
        invoke compare RUN_A RUN_B
        invoke compare RUN --cell-a framework=torch --cell-b framework=onnxrt
        invoke compare RUN --cell-a version=1.30.0 --cell-b version=1.31.1 --format markdown
    """
    from analysis.comparisons.runs import compare_cells, compare_folders
    from analysis.output.compare_formats import writer

    write = writer(format) if format else None
    console = default_console(stderr=write is not None)
    data = DataFolder.default()
    earlier = sorted(path.parent for path in data.results.glob("*/run.json"))

    def folder_for(chosen: Sequence[Path]) -> Path | None:
        names = "-".join(dict.fromkeys(one.name for one in chosen))
        short = f"compare-{names}".encode(errors="surrogateescape")[:MOST_BYTES].decode(errors="ignore")
        return Path(out) if out else None if write else data.report / short

    if cell_a or cell_b:
        if not (cell_a and cell_b):
            raise UserError(
                "--cell-a and --cell-b belong together: the cells to compare, and those that they are held against"
            )
        chosen = _run_folders(run, data)
        if len(chosen) > 2:
            raise UserError(f"compare takes one or two runs, not {len(chosen)}")
        folder = folder_for(chosen)
        code = compare_cells(chosen, cell_a, cell_b, console, out=folder, earlier=earlier, write=write)
        if code:
            sys.exit(code)
        return
    if len(run) != 2:
        raise UserError(f"compare takes two runs, not {len(run)}: invoke compare RUN_A RUN_B")
    folders = _run_folders(run, data)
    if len(folders) != 2:
        raise UserError(
            f"{' and '.join(run)} hold {len(folders)} runs, and compare takes two: name one of each, or put all of them side by "
            f"side: invoke report --compare {shell_line(run)}"
        )
    code = compare_folders(folders[0], folders[1], console, out=folder_for(folders), earlier=earlier, write=write)
    if code:
        sys.exit(code)


@task(
    iterable=["run"],
    help={
        "run": "names or paths of the runs to show; default: all",
        "framework": "framework variants, comma list; default: all",
        "where": WHERE_HELP,
        "metric": "metric to show, such as latency, throughput, joules_per_image; default: latency",
        "out": "folder for history.md, history.csv and plots; default: data/report/history",
        "debug": DEBUG_HELP,
    },
)
@for_people
def history(
    _context: Context,
    run: list[str],
    framework: str = "",
    where: str = "",
    metric: str = "latency",
    out: str = "",
    debug: bool = False,
) -> None:
    """Shows a metric over runs by date and framework version, with the verdict at each step, as tables and plots.

    Verdicts are on durations, whatever metric is shown. Exit code 3: the newest step of a configuration is SLOWER, or its
    newest point no longer runs; 1: some files could not be read.

    Examples:
        invoke history --framework onnxrt --where device=cpu
        invoke history RUN --metric throughput
    """
    from analysis.history import show_history

    data = DataFolder.default()
    folders = _run_folders(run or ["all"], data)
    code = show_history(
        folders, Path(out) if out else data.report / "history", default_console(), framework=framework, where=where,
        of=metric, cache=data.host_cache / "analysis",
        earlier=sorted(path.parent for path in data.results.glob("*/run.json")),
    )  # fmt: skip
    if code:
        sys.exit(code)


@task(
    help={
        "model": help_of(Options)["model"],
        "weights": help_of(Options)["weights"],
        "list": "list the known models and exit; default: off",
        **help_of(Options, only=("shape", "rebatch", "inputs", "input_range", "mean", "std")),
        "debug": DEBUG_HELP,
    }
)
@for_people
def export(
    _context: Context,
    model: str = "MobileNetV3L",
    weights: str = "auto",
    list: bool = False,
    shape: str = "",
    rebatch: bool = False,
    inputs: str = "",
    input_range: str = "",
    mean: str = "",
    std: str = "",
    debug: bool = False,
) -> None:
    """Exports a model as Keras, SavedModel and ONNX, with its reference outputs, to data/models.

    Does nothing if it exists already.

    Examples:
        invoke export --list
        invoke export --model ResNet50
        invoke export --model yolo.onnx --shape height=640,width=640
    """
    from common.host import models
    from common.host.cli.progress import Steps
    from common.host.frameworks.listing import print_models
    from common.host.runners.local import LocalRunner

    console = default_console()
    if list:
        print_models(console, DataFolder.default())
        return
    data = DataFolder.default()
    export_options = models.export_options_of(
        Options(
            weights=weights, shape=shape, rebatch=rebatch, inputs=inputs, input_range=input_range, mean=mean, std=std
        )
    )
    with Steps(console).show("Exporting") as on_step:
        files = LocalRunner({}, None).ensure_model(model, data, export_options, on_step)
    console.print(escape(f"{files.name} ({files.hash}) is in {files.root}"), highlight=False, soft_wrap=True)
    console.print(escape(files.weights_note), highlight=False, soft_wrap=True)
    for note in files.notes:
        console.print(escape(note), highlight=False, soft_wrap=True)


@task(
    help={
        "gpu": "GPU to check, by index or UUID; default: 0 if there is one, else the CPU only",
        "json": "print figures and advice as JSON; default: a table",
        "debug": DEBUG_HELP,
    }
)
@for_people
def doctor(_context: Context, gpu: str = "", json: bool = False, debug: bool = False) -> None:
    """Checks in under a minute whether this machine is fit to measure on, and what to do if not.

    Exit code 1: a check fails.

    Examples:
        invoke doctor --gpu 0
    """
    from common.host.doctor.command import doctor as examine

    code = examine(gpu, json, default_console(), DataFolder.default())
    if code:
        sys.exit(code)


@task(help={"debug": DEBUG_HELP})
@for_people
def frameworks(_context: Context, debug: bool = False) -> None:
    """Lists the frameworks, where each can run, and why not elsewhere."""
    from common.host.frameworks.listing import print_frameworks

    print_frameworks(default_console())


@task(
    help={
        "framework": "images to build, comma list of framework variants, image folders or 'sidecar'; default: all",
        "cpu": "build the CPU images, from requirements-cpu.txt; default: the GPU images",
        "notebook": "build the -notebook images (with ipykernel, for --frontend notebook) instead of the default ones; default: off",
        "base": "base image instead of the Dockerfile's; default: those of docs/frameworks.md",
        "network": "Docker network of the build, such as host; default: the engine's",
        "version": "versions of the frameworks, comma list such as 1.30.0 or torch@2.11, as for bench; default: locked",
        "debug": DEBUG_HELP,
    }
)
@for_people
def build(
    _context: Context,
    framework: str = "",
    cpu: bool = False,
    notebook: bool = False,
    base: str = "",
    network: str = "",
    version: str = "",
    debug: bool = False,
) -> None:
    """Builds the container images, and prints size, time and digest of each.

    Examples:
        invoke build --framework onnxrt,torch
        invoke build --framework onnxrt,sidecar --cpu
    """
    from common.host.runners.containers.building import build_images

    flavour = "cpu" if cpu else "gpu"
    build_images(
        default_console(), framework, flavour=flavour, base=base, network=network, notebook=notebook, version=version
    )


@task(
    iterable=["run"],
    help={
        "run": "names or paths of the runs to keep; default: the newest",
        "out": "folder for the copies, one per run; default: data/reference",
        "seal": "write one compressed file per run, about a seventh of the size, which every task reads; default: off",
        "command": "command line to record instead of the one that was typed; default: as typed",
        "debug": DEBUG_HELP,
    },
)
@for_people
def keep(
    _context: Context, run: list[str], out: str = "", command: str = "", seal: bool = False, debug: bool = False
) -> None:
    """Copies runs as small references to commit: all results, no logs, no paths of this machine.

    Examples:
        invoke keep RUN --seal --out results/2026-11
    """
    from common.host.runs.keep import keep as keep_runs

    data = DataFolder.default()
    target = Path(out) if out else data.root / "reference"
    for kept in keep_runs(_run_folders(run, data), target, command, sealed=seal):
        print(kept)


@task(
    help={
        "framework": "name of the new framework: lower-case letters, digits and '-'",
        "package": "its package on PyPI, NAME or NAME==VERSION; default: the answer on a terminal, else the template's (numpy)",
        "title": "its display name in tables and plots; default: the answer on a terminal, else the framework's name",
        "module": "module to import; default: the package's name with _ for -",
        "cpu-only": "only a CPU image, on Python's base image; default: a GPU image on NVIDIA's, and a CPU image",
        "debug": DEBUG_HELP,
    }
)
@for_people
def new(
    _context: Context,
    framework: str,
    package: str = "",
    title: str = "",
    module: str = "",
    cpu_only: bool = False,
    debug: bool = False,
) -> None:
    """Creates a working folder for a new framework under images/, to fill in (docs/add-a-framework.md).

    Examples:
        invoke new --framework myframework --package myframework --title "My Framework"
    """
    from common.host.frameworks.scaffold import Filling, new_image

    if sys.stdin.isatty():
        package = package or input("Package on PyPI (empty: numpy, as the template has it): ").strip()
        title = title or input(f"Name for people (empty: {framework}): ").strip()
    folder = new_image(framework, IMAGES, Filling(package, title, module, cpu_only))
    print(f"{folder.relative_to(ROOT)} works as it is; docs/add-a-framework.md says what to fill in. Try it:")
    print(f"invoke bench --framework {framework} --device cpu --quick --runner local")


@task(
    help={
        "models": "also remove the exported models; default: keep",
        "results": "also remove all runs and reports; default: keep",
        "cache": "also remove the caches: TensorRT engines, XLA's compiled code, the analysis' tables; default: keep",
        "environments": "also remove the environments of local runs; default: keep",
        "images": "also remove the container images that framewatt built; default: keep",
        "versions": "also remove the environments and images that --version made; default: keep",
        "yes": "do not ask before removing results; default: ask",
        "debug": DEBUG_HELP,
    }
)
@for_people
def clean(
    _context: Context,
    models: bool = False,
    results: bool = False,
    cache: bool = False,
    environments: bool = False,
    images: bool = False,
    versions: bool = False,
    yes: bool = False,
    debug: bool = False,
) -> None:
    """Removes leftovers of interrupted runs, and what the options select.

    Examples:
        invoke clean
        invoke clean --cache --environments
    """
    from common.host.cleaning import clean as clean_up

    clean_up(
        DataFolder.default(),
        default_console(),
        models=models,
        results=results,
        cache=cache,
        environments=environments,
        images=images,
        versions=versions,
        yes=yes,
    )


@task(
    help={
        "core": "skip the tests that need a framework's environment, a Docker engine or Ray; default: off",
        "only": "path or -k expression of the tests to run; default: all",
        "setup": "make what the tests need and run none; default: off",
        "engine-all": "also build the images of TensorFlow and PyTorch, and test every framework in its container; default: off",
        "debug": DEBUG_HELP,
    }
)
@for_people
def test(
    _context: Context,
    core: bool = False,
    only: str = "",
    setup: bool = False,
    engine_all: bool = False,
    debug: bool = False,
) -> None:
    """Runs the whole test suite: ruff, mypy, pytest.

    Makes the CPU environments of all frameworks first.

    Examples:
        invoke test --core
    """
    from common.host.testing import run_tests, set_up

    if setup:
        sys.exit(set_up(default_console(), core))
    sys.exit(run_tests(default_console(), core=core, only=only, engine_all=engine_all))


@task(
    help={
        "docker": "measure the overhead of containers and the sidecar instead; takes about 10 minutes; default: off",
        "notebook": "measure the overhead of a Jupyter notebook over a script instead; takes about 20 minutes; default: off",
        "order": "compare a cell that follows another batch size with the same cell alone in a fresh worker instead, on the CPU or "
        "the GPU of --gpu; takes about 10 minutes; default: off",
        "framework": "frameworks for --notebook, --order or --gpu, comma list; default: onnxrt,torch,keras (with --order: "
        "onnxrt,torch; with --gpu: torch)",
        "gpu": "measure the overhead of the timing loop and the sidecar on this GPU (index or UUID) instead; takes a minute; "
        "default: off",
        "batch_sizes": "with --order: only the orders between these batch sizes, comma list; default: all (CPU: 1,8; GPU: 1,32,512)",
        "rounds": "with --order: number of rounds of fresh processes, over which the interval is taken (that of one round holds no "
        "difference between processes); default: 4",
        "precision": "with --gpu or --order: precisions, comma list; default: fp32",
        "threads": "with --order: CPU threads within one operation; default: as many as the process may use",
        "python": "with --gpu: Python interpreter that already has the framework; default: a new environment",
        "statistics": "also test the stopping rule, intervals and verdicts on 1,000 synthetic streams each; takes half an hour; "
        "default: off",
        "fleet": "measure a simulated fleet of 10, 100 and 1,000 GPUs on Ray instead; takes a quarter of an hour; default: off",
        "debug": DEBUG_HELP,
    }
)
@for_people
def selfbench(
    _context: Context,
    docker: bool = False,
    notebook: bool = False,
    order: bool = False,
    framework: str = "",
    gpu: str = "",
    precision: str = "",
    batch_sizes: str = "",
    rounds: int = 4,
    threads: int = 0,
    python: str = "",
    statistics: bool = False,
    fleet: bool = False,
    debug: bool = False,
) -> None:
    """Measures framewatt itself: the overhead of the harness, the speed of the analysis.

    Exit code 1: with --order, a framework could not be measured.

    Examples:
        invoke selfbench
        invoke selfbench --gpu 0
    """
    from common.host.selfbench.modes import mode_of

    mode = mode_of(typed)
    if mode == "fleet":
        from analysis.selfbench.fleet import fleet_selfbench

        fleet_selfbench(default_console())
        return
    if mode == "order":
        _selfbench_order(framework, gpu, precision, batch_sizes, rounds, threads, python)
        return
    if mode == "gpu":
        from common.host.selfbench import gpu as selfbench_gpu

        options = Options(framework=framework or "torch", gpu=gpu, precision=precision, python=python)
        selfbench_gpu.measure(options, default_console(), DataFolder.default())
        return
    if mode == "docker":
        from common.host.selfbench.containers import measure

        measure(default_console())
        return
    if mode == "notebook":
        from common.host.selfbench import frontends

        frontends.measure(default_console(), framework)
        return
    from analysis.selfbench.command import selfbench as run_selfbench

    run_selfbench(default_console(), statistics=statistics)


def _selfbench_order(
    framework: str, gpu: str, precision: str, batch_sizes: str, rounds: int, threads: int, python: str
) -> None:
    from common.host.selfbench import order

    options = Options(
        framework=framework or order.VARIANTS, device="" if gpu else "cpu", gpu=gpu, precision=precision or "fp32", python=python,
        threads=threads, batch_sizes=batch_sizes,
    )  # fmt: skip
    code = order.measure(options, default_console(), DataFolder.default(), rounds)
    if code:
        sys.exit(code)


@task(
    help={
        "check": "write nothing, only check whether the files are up to date (exit code 1 if not); default: off",
        "debug": DEBUG_HELP,
    }
)
@for_people
def compose(_context: Context, check: bool = False, debug: bool = False) -> None:
    """Generates compose.yaml, the base images in .env and the lists of frameworks in README.md and docs/.

    From the labels of images/*/Dockerfile.
    """
    from common.host.compose import generator, version
    from common.host.frameworks import generated_pages
    from common.host.frameworks.registry import load_images

    images = load_images(IMAGES)
    stale = {
        file: text
        for file, text in (
            (generator.FILE, generator.render()),
            *((page, generated_pages.updated(page, page.read_text(), images)) for page in generated_pages.PAGES),
            (generator.ENV, generator.updated_env(generator.ENV.read_text(), images)),
        )
        if not file.is_file() or file.read_text() != text
    }
    for file, text in stale.items():
        if not check:
            file.write_text(text)
        print(
            f"{file.name} is not what the labels say; invoke compose writes it anew" if check else f"wrote {file.name}"
        )
    if not stale:
        print("compose.yaml, README.md, docs/frameworks.md and .env are up to date")
    elif check:
        sys.exit(1)
    if not check:
        version.check()


@task(
    help={
        "check": "write nothing, only list the locks that do not match their requirements (exit code 1 if any); default: off",
        "upgrade": "take the newest versions that the requirements allow; default: keep locked ones that still fit",
        "framework": "folders under images/ whose locks to renew or check, comma list; default: all, and the notebook's",
        "host": "also renew requirements.lock and the locks of Ray and uv; default: only those of images and notebook",
        "bases": "also look up the digests of the base images, with the Docker engine; default: off",
        "debug": DEBUG_HELP,
    }
)
@for_people
def lock(
    _context: Context,
    framework: str = "",
    check: bool = False,
    upgrade: bool = False,
    host: bool = False,
    bases: bool = False,
    debug: bool = False,
) -> None:
    """Locks all requirements with hashes, with uv.

    Examples:
        invoke lock --framework onnxrt
        invoke lock --check
    """
    from common.host.frameworks import locks

    of_images = locks.of_folders(locks.image_locks(), framework)
    stale = locks.stale(of_images)
    if check:
        for one in stale:
            print(f"{one.target.relative_to(ROOT)} is missing or not of {one.source.name}; invoke lock makes it anew")
        if stale:
            sys.exit(1)
        print("every requirements file has its lock")
        return
    locks.renew([*of_images, *(locks.host_locks() if host else [])], default_console(), upgrade=upgrade)
    if bases:
        from common.host.runners.containers.bases import look_up

        look_up(default_console())
