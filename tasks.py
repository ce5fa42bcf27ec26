"""What a user types: `invoke --list` shows the tasks, `invoke --help TASK` one task's options.

Thin on purpose: parse, call common/host or analysis, print.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.tasks import task

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rich.console import Console
from rich.markup import escape

from common.errors import UserError
from common.host.bench.command import bench
from common.host.bench.execution import Outcome
from common.host.bench.planned import PlanOutcome, plan_of_options, plan_of_run, read_plan, run_plan
from common.host.bench.top_classes import print_top_classes
from common.host.cli import parsing as opt
from common.host.cli.command_line import DEBUG_HELP, for_people, help_of, takes, typed_options
from common.host.cli.console import default_console
from common.host.paths import IMAGES, ROOT, DataFolder
from common.host.plan.options import Options
from common.host.runs.find import is_a_run, run_folders, run_or_cell
from common.host.runs.run import has_ok_cell
from common.text import visible


def _analyze(folders: list[Path], console: Console, data: DataFolder, **choices: Any) -> int:
    from analysis.analyze import analyze as analyze_runs

    out = data.report / (folders[0].name if len(folders) == 1 else f"{len(folders)}-runs")
    return analyze_runs(folders, out, console, cache=data.host_cache / "analysis", **choices).exit_code


def _finish(outcome: Outcome, console: Console, data: DataFolder) -> None:
    """What exists, and the exit code: 130 after Ctrl-C, 2 when results could not be stored, 1 when no cell is ok."""
    for message in outcome.errors:
        print(f"error: {visible(message)}", file=sys.stderr)
    if outcome.run.existing_cells():
        _analyze([outcome.run.folder], console, data)
        print_top_classes(outcome.run, console)
    if outcome.interrupted:
        console.print(escape(f"Interrupted; the same command continues {outcome.run.name}."), highlight=False)
        sys.exit(130)
    if outcome.errors:
        sys.exit(2)
    if not has_ok_cell(outcome.run):
        print("error: no cell was measured; the table and attempts.csv of the run say why", file=sys.stderr)
        sys.exit(1)


PLAN_HELP = (
    "file with all of this (docs/plans.md), or the name of one in data/plans; options beside it win; default: none"
)


@task(name="bench", help=help_of(Options, plan=PLAN_HELP), auto_shortflags=False)
@for_people
@takes(Options, plan="")
def bench_task(_context: Context, given: dict[str, Any]) -> None:
    """Measures the named frameworks on one device (or several) and prints the table. A re-run continues what was cut short.

    Exit code 1: no cell is ok.
    """
    if given["plan"]:
        _run_plan(given["plan"], {name: value for name, value in given.items() if name in typed_options(Options)})
        return
    if not given["framework"]:
        raise UserError(
            "which framework? give --framework NAME[,NAME]; invoke frameworks lists them, invoke sweep runs them all"
        )
    _bench(Options.of(given))


@task(help=help_of(Options, leave_out=["framework"]), auto_shortflags=False)
@for_people
@takes(Options, leave_out=["framework"])
def sweep(_context: Context, given: dict[str, Any]) -> None:
    """Measures every framework variant that the device can run. Exit code 1: no cell is ok."""
    _bench(Options.of(given))


def _bench(options: Options) -> None:
    console = default_console()
    data = DataFolder.default()
    _finish(bench(options, console, data), console, data)


FLEET_OPTIONS: dict[str, str] = {
    "address": "HOST:PORT of Ray's head, which `ray start --head` printed; default: the variable RAY_ADDRESS",
    "accelerators": "types of GPU as Ray names them, comma list such as A2,V100,H100; default: all that there are",
    "checkout": "folder of this checkout on the hosts; default: where Ray's .venv is, or the host's FRAMEWATT_CHECKOUT",
    "device": "gpu, or cpu: a trial of the fleet on the hosts' processors, one task for each GPU declared; default: gpu",
}


@task(
    name="fleet up-check",
    help=help_of(Options, leave_out=["gpu"], **FLEET_OPTIONS),
    auto_shortflags=False,
)
@for_people
@takes(Options, leave_out=["gpu"], address="", accelerators="", checkout="")
def fleet_up_check(_context: Context, given: dict[str, Any]) -> None:
    """Looks at the hosts of a Ray cluster: are they fit, and alike? Takes the options of fleet sweep. Exit code 1: something fails."""
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
        per_accelerator="GPUs of each type on which everything is measured, or 'all'; default: 1",
    ),
    auto_shortflags=False,
)
@for_people
@takes(Options, leave_out=["gpu"], address="", accelerators="", per_accelerator="1", checkout="")
def fleet_sweep(_context: Context, given: dict[str, Any]) -> None:
    """Measures on GPUs of many hosts, through Ray. A re-run continues what was cut short. Exit code 1: some cells are missing."""
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
    "framework", "device", "gpu", "batch_sizes", "precision", "io", "model", "shape", "rebatch", "inputs", "input_range",
    "weights", "runner", "python", "quick",
    "cell_timeout", "gpu_driver", "cpus", "memory", "threads", "batch_window_ms", "seed",
)  # fmt: skip


@task(
    help=help_of(
        Options,
        only=PEAK_OPTIONS,
        max_p99_ms="bound of the 99th percentile of latency, in ms, counted from when a query was due; no default",
        batch_sizes="queries that one inference takes at the most, comma list; default: 1",
        quick="662 queries a try instead of 1000: fewer rates can be told apart; default: off",
        longest_try="a rate so low that a try would take longer than this, in s, is not tried; default: 300",
    ),
    auto_shortflags=False,
)
@for_people
@takes(Options, only=PEAK_OPTIONS, max_p99_ms=0.0, longest_try=300.0)
def peak(_context: Context, given: dict[str, Any]) -> None:
    """The highest rate of random arrivals that each framework serves within a bound of latency, by bisection."""
    from common.host.bench.peak import bound_of, print_results
    from common.host.bench.peak import peak as find_peaks

    console = default_console()
    bound = bound_of(given["max_p99_ms"], given["longest_try"], given["quick"])
    print_results(find_peaks(Options.of(given), bound, console, DataFolder.default()), bound, console)


EXPLAIN_OPTIONS = (
    "framework", "device", "gpu", "batch_sizes", "precision", "io", "model", "weights", "runner", "python", "cell_timeout",
    "threads", "gpu_driver", "cpus", "memory", "min_seconds", "max_seconds", "seed",
)  # fmt: skip


@task(
    iterable=["run"],
    help=help_of(
        Options,
        only=EXPLAIN_OPTIONS,
        run="a run to explain, or two runs or cells (RUN/CELL) whose difference to explain; as bare words too; default: measure anew",
        batch_sizes="images in one inference, comma list; default: 1,32",
        min_seconds="a measured window lasts at least this long, in s; default: 3",
        max_seconds="and at most this long, in s; default: 6",
        trace="also a file in Chrome's trace format, which Perfetto opens; default: none",
    ),
    auto_shortflags=False,
)
@for_people
@takes(Options, only=EXPLAIN_OPTIONS, run=[], trace="")
def explain(_context: Context, given: dict[str, Any]) -> None:
    """Why a framework takes its time: kernels, copies and gaps of an inference. Exit code 1: nothing could be recorded."""
    from analysis.explain import Side, is_traced
    from analysis.explain import explain as explain_runs
    from common.host.bench.traced import options_of_run, traced

    console, data = default_console(), DataFolder.default()
    options = Options.of(given)
    trace = Path(given["trace"]) if given["trace"] else None
    sides = [Side(*side) for word in given["run"] for side in run_or_cell(word, data)]
    if len(sides) == 1 and not is_traced(sides[0].run):
        options, sides = options_of_run(sides[0].run, options), []
    if not sides:
        if not options.framework:
            raise UserError(
                "which framework? give --framework NAME[,NAME], or the name of a run; invoke frameworks lists them"
            )
        outcome = bench(traced(options), console, data)
        for message in outcome.errors:
            print(f"error: {message}", file=sys.stderr)
        if outcome.interrupted:
            console.print(escape(f"Interrupted; the same command continues {outcome.run.name}."), highlight=False)
            sys.exit(130)
        sides = [Side(outcome.run.folder)] if is_traced(outcome.run.folder) else []
        if not sides:
            _analyze([outcome.run.folder], console, data)
            raise UserError("no cell was measured to its end, so none can be explained; the table says why")
    out = data.report / f"explain-{'-'.join(dict.fromkeys(side.run.name for side in sides))}"
    code = explain_runs(sides, out, console, trace=trace, cache=data.host_cache / "analysis")
    if code:
        sys.exit(code)


VERIFY_OPTIONS = (
    "framework",
    "device",
    "gpu",
    "batch_sizes",
    "precision",
    "io",
    "model",
    "shape",
    "rebatch",
    "inputs",
    "input_range",
    "weights",
    "python",
    "threads",
)


@task(
    help=help_of(
        Options,
        only=VERIFY_OPTIONS,
        framework="framework variants to verify, comma list; default: all that the device can run",
        batch_sizes="images in one inference, comma list; default: 1,8,32",
        io="host or device, comma list; default: host on the CPU, device on a GPU",
        pairs="pairs of blocks, harness and plain loop, at least 11; default: 16",
        block_seconds="length of a block, in s; default: 1",
    ),
    auto_shortflags=False,
)
@for_people
@takes(Options, only=VERIFY_OPTIONS, io="", pairs=16, block_seconds=1.0)
def verify(_context: Context, given: dict[str, Any]) -> None:
    """Compares the harness with an independent plain loop of each framework, turn by turn. Exit code 1: a ratio is off."""
    from common.host.verify.command import verify as compare_loops
    from common.host.verify.report import print_result, write_markdown

    console, data = default_console(), DataFolder.default()
    result = compare_loops(Options.of(given), given["pairs"], given["block_seconds"], console, data)
    print_result(result, console)
    console.print(escape(f"written to {write_markdown(result, data.report)}"), highlight=False, soft_wrap=True)
    if any(row.word == "OFF" for row in result.verdicts) or not any(row.ratio for row in result.verdicts):
        sys.exit(1)


@task(help={"debug": DEBUG_HELP})
@for_people
def demo(_context: Context, debug: bool = False) -> None:
    """The main job on this machine's CPU: sets up, exports, measures seven frameworks at batch 1, 8 and 32, prints table, report."""
    _run_plan("demo", {})


def _run_plan(name: str, typed: dict[str, Any]) -> None:
    console, data = default_console(), DataFolder.default()
    _finish_plan(run_plan(read_plan(name, typed, console), console, data), console, data)


def _finish_plan(outcome: PlanOutcome, console: Console, data: DataFolder) -> None:
    """As _finish, for all runs of a plan; exit code 2 also when some of them are missing."""
    for message in outcome.errors:
        print(f"error: {visible(message)}", file=sys.stderr)
    measured = [run for run in outcome.runs if run.existing_cells()]
    if measured:
        _analyze([run.folder for run in measured], console, data)
        for run in measured:
            print_top_classes(run, console)
    for title, reason in outcome.missing.items():
        console.print(escape(f"missing: {title}: {reason}"), highlight=False, soft_wrap=True)
    if outcome.interrupted:
        console.print("Interrupted; the same command continues the plan.", highlight=False)
        sys.exit(130)
    if outcome.errors or outcome.missing:
        sys.exit(2)
    if not any(has_ok_cell(run) for run in outcome.runs):
        print("error: no cell was measured; the table and attempts.csv of the run say why", file=sys.stderr)
        sys.exit(1)


@task(
    iterable=["run"],
    help=help_of(Options, run="a run that tells it in place of options; default: none"),
    auto_shortflags=False,
)
@for_people
@takes(Options, run=[])
def plan(_context: Context, given: dict[str, Any]) -> None:
    """Writes a plan to standard output, from the options of bench or from a run: invoke plan --framework onnxrt > sweep.toml."""
    typed = {name: value for name, value in given.items() if name in typed_options(Options)}
    if len(given["run"]) > 1:
        raise UserError(f"plan takes one run, not {len(given['run'])}")
    folder = run_folders(given["run"], DataFolder.default())[0] if given["run"] else None
    print(plan_of_run(folder, typed) if folder else plan_of_options(Options.of(typed)), end="")


@task(
    iterable=["run"],
    help={
        "run": "runs to analyze: names, paths or 'all', as bare words too; several give one comparison; default: the newest",
        "where": "keep rows that satisfy all of these: COLUMN=VALUE, COLUMN>=VALUE, comma list; default: all rows",
        "pivot": "column whose values become columns of the table; default: batch_size",
        "sort": "columns to sort by, comma list, '-' before one for descending; default: throughput",
        "tables": "metrics whose tables are printed, comma list such as latency,p99, or 'all'; default: what fits one screen",
        "baseline": "framework that the speed-up plot compares with; default: the slowest",
        "peak-tflops": "arithmetic peak of the device at the cells' precision, in TFLOP/s, for the roofline; default: unknown",
        "gflop-per-image": "operations of one inference in GFLOP, multiply and add are two; default: unknown",
        "copy-gb-s": "bandwidth of copies to the device, in GB/s; default: as in run.json, else of its PCIe link",
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
    """Tables, plots and a report from the CSVs of runs. Exit code 1 when some of their rows could not be read."""
    from analysis.plots.roofline import Limits

    data = DataFolder.default()
    arithmetic, operations = (
        opt.optional_number("--peak-tflops", peak_tflops),
        opt.optional_number("--gflop-per-image", gflop_per_image),
    )
    copies = opt.optional_number("--copy-gb-s", copy_gb_s)
    limits = Limits(copies and copies * 1e9, arithmetic and arithmetic * 1e12, operations and operations * 1e9)
    code = _analyze(
        run_folders(run, data), default_console(), data, where=where or None, pivot=pivot or None, sort=sort or None,
        baseline=baseline or None, limits=limits, shown=tables or None,
    )  # fmt: skip
    if code:
        sys.exit(code)


@task(
    iterable=["run"],
    help={
        "run": "runs to report on: names, paths or 'all', as bare words too; default: the newest",
        "where": "only cells that satisfy all of these: COLUMN=VALUE, comma list; default: all",
        "compare": "put the GPUs of the runs, or the runs of one GPU, side by side; default: off",
        "pdf": "also print it to report.pdf, through a headless Chromium or Chrome on PATH; default: off",
        "debug": DEBUG_HELP,
    },
)
@for_people
def report(
    _context: Context, run: list[str], where: str = "", compare: bool = False, pdf: bool = False, debug: bool = False
) -> None:
    """One HTML page that stands alone: the answer first, tables to sort and filter, plots to point at, machine and method."""
    from analysis.analyze import write_report

    data = DataFolder.default()
    folders = run_folders(run, data)
    name = folders[0].name if len(folders) == 1 else f"{len(folders)}-runs"
    out = data.report / (f"{name}-compared" if compare else name)
    console = default_console()
    result = write_report(
        folders, out, console, where=where or None, compare=compare, pdf=pdf, cache=data.host_cache / "analysis"
    )
    for path in result.paths:
        if path.parent == out:
            console.print(escape(str(path)), highlight=False, soft_wrap=True)
    if result.exit_code:
        sys.exit(result.exit_code)


@task(
    iterable=["run"],
    help={
        "query": "SQL of DuckDB, over the views that analysis/sql/README.md describes",
        "run": "runs that the views hold: names or paths, as bare words after the query too; default: all",
        "debug": DEBUG_HELP,
    },
)
@for_people
def sql(_context: Context, query: str, run: list[str], debug: bool = False) -> None:
    """Answers a question of your own in SQL: invoke sql "SELECT variant, batch_size, images_per_s FROM comparison"."""
    from analysis.database.sql_shell import EXAMPLE, sql_shell

    data = DataFolder.default()
    if not query.strip():
        raise UserError(f"the query is empty; {EXAMPLE}")
    if is_a_run(query, data) or ("/" in query and len(query.split()) == 1):
        raise UserError(f"{query} is a run or a path, not a query; the query comes first, {EXAMPLE} {query}")
    code = sql_shell(run_folders(run or ["all"], data), query, default_console(), data.host_cache / "analysis")
    if code:
        sys.exit(code)


@task(
    name="import",
    help={
        "path": "folder or file that others measured",
        "gpu-ordinal": "which of the machine's GPUs ran, counted from 0 as the files list them; default: the only one",
        "format": "study (folder of CSVs per GPU), trtexec (--exportTimes JSON) or perf_analyzer (-f CSV); default: by its looks",
        "gpu-name": "name of the GPU, where the files do not say it; default: unknown",
        "framework": "variant that ran, where the files do not say it; default: tensorrt for trtexec",
        "model": "model that ran, where the files do not say it; default: the file's name",
        "precision": "fp32, tf32, fp16, bf16, int8 or int8-dynamic, where the files do not say it; no default",
        "batch-size": "images in one inference, where the files do not say it; no default",
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
    """Makes a run of results that others measured; invoke analyze and recommend then take it. Exit code 1 when lines were unusable."""
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


@task(
    iterable=["run"],
    help={
        "run": "runs to choose from: names or paths, as bare words too; default: all",
        "gpu": "device by name, words of it, number (gpu0) or UUID; 'cpu' for the CPU; default: the only one",
        "objective": "throughput (most), joules (least per image), latency (least) or cost (least energy cost); default: throughput",
        "max-latency-ms": "a batch takes at most this long, in ms; default: no limit",
        "percentile": "latency that is meant: 50 (median), 90, 95 or 99; default: 50",
        "max-power-w": "the device draws at most this, in W; cells of unknown power do not count; default: no limit",
        "min-throughput": "at least so many images/s; default: no limit",
        "min-precision": "the coarsest precision that is allowed: int8-dynamic, int8, bf16, fp16, tf32 or fp32; default: any",
        "price-per-kwh": "price of energy for the objective cost, in any currency; no default",
        "where": "only cells that satisfy all of these: COLUMN=VALUE, comma list; default: all",
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
    """Says which framework, precision and batch size to take, how sure that is, and what would change it. Exit code 1: none."""
    from analysis.comparisons.recommend import Question
    from analysis.comparisons.recommend import recommend as answer

    question = Question(
        gpu=gpu or None,
        objective=objective,
        max_latency_ms=opt.optional_number("--max-latency-ms", max_latency_ms),
        percentile=opt.optional_whole("--percentile", percentile, 1) or 50,
        max_power_w=opt.optional_number("--max-power-w", max_power_w),
        min_throughput=opt.optional_number("--min-throughput", min_throughput),
        price_per_kwh=opt.optional_number("--price-per-kwh", price_per_kwh),
        min_precision=min_precision or None,
    )
    data = DataFolder.default()
    folders = run_folders(run or ["all"], data)
    code = answer(folders, question, default_console(), where=where or None, cache=data.host_cache / "analysis")
    if code:
        sys.exit(code)


@task(
    iterable=["run"],
    help={
        "run": "the run before and the one after, names or paths, as bare words too; one will do with --cell-a and --cell-b",
        "cell_a": "compare any two cells: which of the first run, as of --where (framework=torch,batch_size=8)",
        "cell_b": "which of the last run is held against it (framework=onnxrt,batch_size=8); cells are paired by what neither names",
        "out": "folder for compare.md and compare.csv; default: none is written",
        "debug": DEBUG_HELP,
    },
)
@for_people
def compare(
    _context: Context, run: list[str], cell_a: str = "", cell_b: str = "", out: str = "", debug: bool = False
) -> None:
    """Says for each cell whether the second run is FASTER, SLOWER or the SAME. Exit code 3 when a cell got slower or runs no more.

    FASTER or SLOWER: the 98 % interval of the ratio, over workers, leaves out 1, and the ratio is more than 1 % from it. A side
    of one worker is UNCLEAR unless earlier runs of the same framework and device tell how far workers lie apart.
    """
    from analysis.comparisons.runs import compare_cells, compare_folders

    data = DataFolder.default()
    folder = Path(out) if out else None
    earlier = sorted(path.parent for path in data.results.glob("*/run.json"))
    if cell_a or cell_b:
        if not (cell_a and cell_b):
            raise UserError(
                "--cell-a and --cell-b belong together: the cells to compare, and those that they are held against"
            )
        chosen = run_folders(run, data)
        if len(chosen) > 2:
            raise UserError(f"compare takes one or two runs, not {len(chosen)}")
        code = compare_cells(chosen, cell_a, cell_b, default_console(), out=folder, earlier=earlier)
        if code:
            sys.exit(code)
        return
    if len(run) != 2:
        raise UserError(f"compare takes two runs, not {len(run)}: invoke compare RUN_A RUN_B")
    folders = run_folders(run, data)
    if len(folders) != 2:
        raise UserError("compare takes two runs; one of these is a folder of several")
    code = compare_folders(folders[0], folders[1], default_console(), out=folder, earlier=earlier)
    if code:
        sys.exit(code)


@task(
    help={
        "model": "name in the registry or an .onnx file; default: MobileNetV3L",
        "weights": help_of(Options)["weights"],
        "list": "only list the models of the registry",
        **help_of(Options, only=("shape", "rebatch", "inputs", "input_range")),
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
    debug: bool = False,
) -> None:
    """Writes a model as Keras, SavedModel and ONNX with its reference output to data/models, once."""
    from common.host import models
    from common.host.cli.progress import Steps
    from common.host.frameworks.listing import print_models
    from common.host.runners.local import LocalRunner

    console = default_console()
    if list:
        print_models(console, DataFolder.default())
        return
    data = DataFolder.default()
    asked = models.asked_of(
        Options(weights=weights, shape=shape, rebatch=rebatch, inputs=inputs, input_range=input_range)
    )
    with Steps(console).show("Exporting") as on_step:
        files = LocalRunner({}, None).ensure_model(model, data, asked, on_step)
    console.print(escape(f"{files.name} ({files.hash}) is in {files.root}"), highlight=False, soft_wrap=True)
    console.print(escape(files.weights_note), highlight=False, soft_wrap=True)
    for note in files.notes:
        console.print(escape(note), highlight=False, soft_wrap=True)


@task(
    help={
        "gpu": "GPU to look at, by index or UUID; default: 0 where there is one, else the CPU",
        "json": "figures and advice as JSON, for machines; default: a table",
        "debug": DEBUG_HELP,
    }
)
@for_people
def doctor(_context: Context, gpu: str = "", json: bool = False, debug: bool = False) -> None:
    """Checks in under a minute whether this machine can be measured on, and says what to do. Exit code 1: something fails."""
    from common.host.doctor.command import doctor as examine

    code = examine(gpu, json, default_console(), DataFolder.default())
    if code:
        sys.exit(code)


@task(help={"debug": DEBUG_HELP})
@for_people
def frameworks(_context: Context, debug: bool = False) -> None:
    """What exists under images/, where it can run, and why not."""
    from common.host.frameworks.listing import print_frameworks

    print_frameworks(default_console())


@task(
    help={
        "framework": "images to build, comma list of framework variants, image folders or 'sidecar'; default: all",
        "cpu": "build the CPU flavour, from requirements-cpu.txt; default: the GPU flavour",
        "notebook": "build the images that --frontend notebook takes: with ipykernel, tagged -notebook; default: off",
        "base": "base image instead of the Dockerfile's own; default: NGC's (README's table)",
        "network": "network of the build, such as host; default: the engine's",
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
    debug: bool = False,
) -> None:
    """Builds the container images; prints size, time and digest of each."""
    from common.host.runners.containers.building import build_images

    flavour = "cpu" if cpu else "gpu"
    build_images(default_console(), framework, flavour=flavour, base=base, network=network, notebook=notebook)


@task(
    iterable=["run"],
    help={
        "run": "runs to keep: names or paths, as bare words too; default: the newest",
        "out": "folder that gets one folder for each run; default: data/reference",
        "seal": "one compressed file for each run instead, about a seventh of the size; every task reads it too; default: off",
        "command": "the command line that repeats them, in place of the one that was typed; default: as typed",
        "debug": DEBUG_HELP,
    },
)
@for_people
def keep(
    _context: Context, run: list[str], out: str = "", command: str = "", seal: bool = False, debug: bool = False
) -> None:
    """Copies runs as small references that can be committed: all facts, no logs, no paths of this machine."""
    from common.host.runs.keep import keep as keep_runs

    data = DataFolder.default()
    target = Path(out) if out else data.root / "reference"
    for kept in keep_runs(run_folders(run, data), target, command, sealed=seal):
        print(kept)


@task(
    help={
        "framework": "name of the new framework: lower-case letters, digits and '-'",
        "package": "its package on PyPI, NAME or NAME==VERSION (default: the newest); asked for on a terminal",
        "title": "its name for people, in tables and plots; asked for on a terminal; default: the framework's name",
        "module": "what one imports; default: the package's name with _ for -",
        "cpu-only": "a Dockerfile on Python's own image and no GPU flavour; default: an NVIDIA base, both flavours",
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
    """Makes a working adapter folder under images/ to fill in: docs/add-a-framework.md."""
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
        "cache": "also remove engines, XLA and analysis caches; default: keep",
        "environments": "also remove the environments of local runs; default: keep",
        "images": "also remove the container images that framewatt built; default: keep",
        "yes": "do not ask before results are removed; default: ask",
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
    yes: bool = False,
    debug: bool = False,
) -> None:
    """Removes what interrupted runs left behind, and what the options name."""
    from common.host.cleaning import clean as clean_up

    clean_up(
        DataFolder.default(),
        default_console(),
        models=models,
        results=results,
        cache=cache,
        environments=environments,
        images=images,
        yes=yes,
    )


@task(
    help={
        "core": "leave out the tests that need a framework's environment, a Docker engine or Ray; default: off",
        "only": "path or -k expression of the tests to run; default: all",
        "engine-all": "also build the images of TensorFlow and PyTorch, and run every framework in its container; default: off",
        "debug": DEBUG_HELP,
    }
)
@for_people
def test(_context: Context, core: bool = False, only: str = "", engine_all: bool = False, debug: bool = False) -> None:
    """The whole test suite with its set-up: ruff, mypy, pytest; the CPU environments of all frameworks."""
    from common.host.testing import run_tests

    sys.exit(run_tests(default_console(), core=core, only=only, engine_all=engine_all))


@task(
    help={
        "docker": "measure instead what containers and the sidecar cost; takes about 10 minutes; default: off",
        "notebook": "measure instead what a Jupyter notebook costs, by turns with a script; takes about 20 minutes; default: off",
        "framework": "frameworks of --notebook or --gpu, comma list; default: onnxrt,torch,keras; with --gpu torch",
        "gpu": "measure instead, on this GPU (index or UUID), what the timing loop and the sidecar cost; takes a minute",
        "precision": "with --gpu: precisions, comma list; default: fp32",
        "python": "with --gpu: interpreter that already has the framework; default: an environment made here",
        "statistics": "also the stopping rule, intervals and verdicts on 1,000 known streams each; takes half an hour; default: off",
        "fleet": "measure instead a simulated fleet of 10, 100 and 1,000 GPUs, on Ray; takes a quarter of an hour; default: off",
        "debug": DEBUG_HELP,
    }
)
@for_people
def selfbench(
    _context: Context,
    docker: bool = False,
    notebook: bool = False,
    framework: str = "",
    gpu: str = "",
    precision: str = "",
    python: str = "",
    statistics: bool = False,
    fleet: bool = False,
    debug: bool = False,
) -> None:
    """Measures framewatt itself: harness overhead, reading into the table; prints the figures."""
    if fleet:
        from analysis.selfbench.fleet import fleet_selfbench

        fleet_selfbench(default_console())
        return
    if gpu:
        from common.host.paths import DataFolder
        from common.host.plan.options import Options
        from common.host.selfbench import gpu as selfbench_gpu

        asked = Options(framework=framework or "torch", gpu=gpu, precision=precision, python=python)
        selfbench_gpu.measure(asked, default_console(), DataFolder.default())
        return
    if docker:
        from common.host.selfbench.containers import measure

        measure(default_console())
        return
    if notebook:
        from common.host.selfbench import frontends as selfbench_frontends

        selfbench_frontends.measure(default_console(), framework)
        return
    from analysis.selfbench.command import selfbench as run_selfbench

    run_selfbench(default_console(), statistics=statistics)


@task(
    help={
        "check": "only say whether compose.yaml is up to date (exit code 1 if not); default: off",
        "debug": DEBUG_HELP,
    }
)
@for_people
def compose(_context: Context, check: bool = False, debug: bool = False) -> None:
    """Writes compose.yaml, the README's table of frameworks and base images in .env anew from the labels of images/*/Dockerfile."""
    from common.host.compose import generator, version
    from common.host.frameworks import readme_table as framework_table
    from common.host.frameworks.registry import load_images

    images = load_images(IMAGES)
    readme = framework_table.README.read_text()
    stale = {
        file: text
        for file, text in (
            (generator.FILE, generator.render()),
            (framework_table.README, framework_table.updated(readme, images)),
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
        print("compose.yaml and the README's table of frameworks are up to date")
    elif check:
        sys.exit(1)
    if not check:
        version.check()


@task(
    help={
        "check": "only say which locks are not of their requirements (exit code 1 if any); default: off",
        "upgrade": "newest versions that the requirements allow; default: those of the locks, where they still fit",
        "host": "also requirements.lock and those of Ray and uv; default: those of the images and the notebook alone",
        "bases": "also look up the digests of base images, through the Docker engine; default: off",
        "debug": DEBUG_HELP,
    }
)
@for_people
def lock(
    _context: Context,
    check: bool = False,
    upgrade: bool = False,
    host: bool = False,
    bases: bool = False,
    debug: bool = False,
) -> None:
    """Writes the locks with hashes of all requirements anew, by uv."""
    from common.host.frameworks import locks

    of_images = locks.image_locks()
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
