"""What a user types: `invoke --list` shows the tasks, `invoke --help TASK` one task's options.

Thin on purpose: parse, call common/host or analysis, print.
"""

from __future__ import annotations

import functools
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from invoke.context import Context
from invoke.tasks import task

sys.path.insert(0, str(Path(__file__).resolve().parent))

from rich.console import Console
from rich.markup import escape

from common.errors import UserError
from common.host.bench import Options, Outcome, bench, default_console
from common.host.paths import IMAGES, ROOT, DataFolder

DEBUG_HELP = "print Python's traceback when something goes wrong; default: one line"

BENCH_HELP = {
    "framework": "framework variants to run, comma list (invoke frameworks lists them); default: all that the device can run",
    "device": "cpu, or gpu with --gpu; default: GPU 0 where there is one, else the CPU",
    "gpu": "GPU by index or UUID, comma list or 'all': several run at once, each alone on its device; default: 0",
    "batch-sizes": "images in one inference, comma list; default: 8,16,32,64,128,256,512 as in the study (--quick: 1,8,32)",
    "precision": "fp32 (TF32 off), tf32, fp16, bf16, int8, comma list, or 'all' that the variants have; default: fp32",
    "io": "host: time the copies to and from the device too; device: input and output stay on it; comma list; default: host",
    "model": "name in the registry (invoke export --list) or an .onnx file with a dynamic batch; default: MobileNetV3L",
    "weights": "imagenet (downloaded), seeded (made and calibrated here), auto (imagenet, else seeded); default: auto",
    "image": "picture (file or URL) whose top 3 classes every framework prints; default: none",
    "runner": "local (processes) or docker (containers); default: docker where an engine answers and --python is not given, else local",
    "python": "interpreter that already has the framework, instead of an environment made here; implies the local runner",
    "quick": "a first look: 1 s windows, batch 1, 8 and 32; intervals are wide and energy is not to be trusted; default: off",
    "replicates": "times each cell is measured in a fresh worker; intervals then include the variance between processes; default: 1",
    "images": "images that a measured window holds at least (the study's pass); default: 512",
    "min-seconds": "a measured window lasts at least this long, in s; default: 5 (--quick: 1)",
    "max-seconds": "and at most this long, in s, converged or not; default: 30 (--quick: 4)",
    "warmup-seconds": "warm-up ends when three blocks agree within 5 %, at the latest after this long, in s; default: 10 (--quick: 2)",
    "idle-seconds": "idle power is read this long after each window, in s; default: 2 (--quick: 0.3)",
    "cell-timeout": "a cell that takes longer in all is a timeout row, compilation included, in s; default: 900 (--quick: 120)",
    "gpu-driver": "how containers get the GPU: nvidia (NVIDIA's runtime) or cdi; default: what the engine offers",
    "cpus": "CPUs of the worker's container, as a list such as 0-3,8; the sidecar gets the others; default: all",
    "memory": "memory limit of a container, such as 8g; over it the cell is an oom row; default: none",
    "pids": "processes and threads that a container may have; default: 4096",
    "shm": "size of a container's /dev/shm; default: 1g",
    "tmp": "size of a container's /tmp (memory); default: 4g",
    "threads": "threads inside an operation on the CPU; default: the framework's choice",
    "scenario": "single-stream (one after another), offline (device kept full), multi-stream, server (random arrivals), comma list; "
    "default: single-stream",
    "streams": "multi-stream: inferences at a time, each by an instance of its own, comma list; default: 2",
    "rate": "server: mean arrivals of single images, in 1/s, comma list; no default",
    "batch-window-ms": "server: wait so long, in ms, for a batch to fill up; default: 0, take what is there",
    "seed": "seed of the order of cells and of arrivals; default: drawn, and stored in run.json",
    "debug": DEBUG_HELP,
}


def for_people(function: Callable[..., Any]) -> Callable[..., Any]:
    """Errors of a task as one line: exit code 2 for what a user can mend, 130 for Ctrl-C, 1 for a fault of ours."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except UserError as error:
            if kwargs.get("debug"):
                traceback.print_exc()
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(141)
        except Exception as error:
            if kwargs.get("debug"):
                raise
            print(
                f"error: {type(error).__name__}: {error} (this is a fault of framewatt; --debug shows where)",
                file=sys.stderr,
            )
            sys.exit(1)

    return wrapper


def _run_folders(names: list[str], data: DataFolder) -> list[Path]:
    """Run folders by name or path; without names the newest run."""
    from common.errors import unknown

    existing = sorted(path.parent for path in data.results.glob("*/run.json"))
    if not names:
        if not existing:
            raise UserError(f"there is no run in {data.results}; invoke bench or invoke demo makes one")
        return existing[-1:]
    if names == ["all"]:
        return existing
    folders = []
    for name in names:
        path = Path(name) if (Path(name) / "run.json").is_file() else data.results / name
        if not (path / "run.json").is_file():
            nested = sorted(found.parent for found in path.glob("*/run.json"))
            if not nested:
                raise unknown("run", name, [folder.name for folder in existing])
            folders += nested
            continue
        folders.append(path)
    return folders


def _analyze(folders: list[Path], console: Console, data: DataFolder, **choices: Any) -> int:
    from analysis.analyze import analyze as analyze_runs

    out = data.report / (folders[0].name if len(folders) == 1 else f"{len(folders)}-runs")
    return analyze_runs(folders, out, console, **choices).exit_code


def _finish(outcome: Outcome, console: Console, data: DataFolder) -> None:
    """What exists, and the exit code: 130 after Ctrl-C, 2 when results could not be stored, 1 when no cell is ok."""
    for message in outcome.errors:
        print(f"error: {message}", file=sys.stderr)
    if outcome.run.existing_cells():
        _analyze([outcome.run.folder], console, data)
        _print_pictures(outcome, console)
    if outcome.interrupted:
        console.print(escape(f"Interrupted; the same command continues {outcome.run.name}."), highlight=False)
        sys.exit(130)
    if outcome.errors:
        sys.exit(2)


def _print_pictures(outcome: Outcome, console: Console) -> None:
    from common.host.top_classes import print_top_classes

    print_top_classes(outcome.run, console)


@task(help=BENCH_HELP, name="bench")
@for_people
def bench_task(
    _context: Context,
    framework: str = "",
    device: str = "",
    gpu: str = "",
    batch_sizes: str = "",
    precision: str = "fp32",
    io: str = "host",
    model: str = "MobileNetV3L",
    weights: str = "auto",
    image: str = "",
    runner: str = "",
    python: str = "",
    quick: bool = False,
    replicates: int = 1,
    images: int = 512,
    min_seconds: float = 0.0,
    max_seconds: float = 0.0,
    warmup_seconds: float = 0.0,
    idle_seconds: float = -1.0,
    cell_timeout: float = 0.0,
    threads: int = 0,
    seed: int = -1,
    gpu_driver: str = "",
    cpus: str = "",
    memory: str = "",
    pids: int = 4096,
    shm: str = "1g",
    tmp: str = "4g",
    scenario: str = "",
    streams: str = "",
    rate: str = "",
    batch_window_ms: float = -1.0,
    debug: bool = False,
) -> None:
    """Measures the named frameworks on one device (or several) and prints the table. A re-run continues what was cut short."""
    if not framework:
        raise UserError(
            "which framework? give --framework NAME[,NAME]; invoke frameworks lists them, invoke sweep runs them all"
        )
    _bench(locals())


@task(help={key: text for key, text in BENCH_HELP.items() if key != "framework"})
@for_people
def sweep(
    _context: Context,
    device: str = "",
    gpu: str = "",
    batch_sizes: str = "",
    precision: str = "fp32",
    io: str = "host",
    model: str = "MobileNetV3L",
    weights: str = "auto",
    image: str = "",
    runner: str = "",
    python: str = "",
    quick: bool = False,
    replicates: int = 1,
    images: int = 512,
    min_seconds: float = 0.0,
    max_seconds: float = 0.0,
    warmup_seconds: float = 0.0,
    idle_seconds: float = -1.0,
    cell_timeout: float = 0.0,
    threads: int = 0,
    seed: int = -1,
    gpu_driver: str = "",
    cpus: str = "",
    memory: str = "",
    pids: int = 4096,
    shm: str = "1g",
    tmp: str = "4g",
    scenario: str = "",
    streams: str = "",
    rate: str = "",
    batch_window_ms: float = -1.0,
    debug: bool = False,
) -> None:
    """Measures every framework variant that the device can run."""
    _bench(locals())


def _bench(values: dict[str, Any]) -> None:
    console = default_console()
    data = DataFolder.default()
    options = Options(**{name: value for name, value in values.items() if name in Options.__dataclass_fields__})
    _finish(bench(options, console, data), console, data)


@task(help={"debug": DEBUG_HELP})
@for_people
def demo(_context: Context, debug: bool = False) -> None:
    """The main job on this machine's CPU: sets up, exports, measures six frameworks at batch 1, 8 and 32, prints table and report."""
    from common.host.demo import demo_options

    console = default_console()
    data = DataFolder.default()
    _finish(bench(demo_options(), console, data), console, data)


@task(
    iterable=["run"],
    help={
        "run": "runs to analyze: names, paths or 'all', as bare words too; several give one comparison; default: the newest",
        "where": "keep rows that satisfy all of these: COLUMN=VALUE, COLUMN>=VALUE, comma list; default: all rows",
        "pivot": "column whose values become columns of the table; default: batch_size",
        "sort": "columns to sort by, comma list, '-' before one for descending; default: throughput",
        "debug": DEBUG_HELP,
    },
)
@for_people
def analyze(
    _context: Context, run: list[str], where: str = "", pivot: str = "", sort: str = "", debug: bool = False
) -> None:
    """Tables, plots and a report from the CSVs of runs. Exit code 1 when some of their rows could not be read."""
    data = DataFolder.default()
    code = _analyze(
        _run_folders(run, data), default_console(), data, where=where or None, pivot=pivot or None, sort=sort or None
    )
    if code:
        sys.exit(code)


@task(
    help={
        "model": "name in the registry or an .onnx file; default: MobileNetV3L",
        "weights": BENCH_HELP["weights"],
        "list": "only list the models of the registry",
        "debug": DEBUG_HELP,
    }
)
@for_people
def export(
    _context: Context, model: str = "MobileNetV3L", weights: str = "auto", list: bool = False, debug: bool = False
) -> None:
    """Writes a model as Keras, SavedModel and ONNX with its reference output to data/models, once."""
    from common.host.listing import print_models
    from common.host.local_runner import LocalRunner
    from common.host.progress import Steps

    console = default_console()
    if list:
        print_models(console, DataFolder.default())
        return
    data = DataFolder.default()
    with Steps(console).show("Exporting") as on_step:
        files = LocalRunner({}, None).ensure_model(model, data, weights, on_step)
    console.print(escape(f"{files.name} ({files.hash}) is in {files.root}"), highlight=False, soft_wrap=True)
    console.print(escape(files.weights_note), highlight=False, soft_wrap=True)


@task(help={"debug": DEBUG_HELP})
@for_people
def frameworks(_context: Context, debug: bool = False) -> None:
    """What exists under images/, where it can run, and why not."""
    from common.host.listing import print_frameworks

    print_frameworks(default_console())


@task(
    help={
        "framework": "images to build, comma list of framework variants, image folders or 'sidecar'; default: all",
        "cpu": "build the CPU flavour, from requirements-cpu.txt; default: the GPU flavour",
        "base": "base image instead of the Dockerfile's own; default: NGC's (README's table)",
        "network": "network of the build, such as host; default: the engine's",
        "debug": DEBUG_HELP,
    }
)
@for_people
def build(
    _context: Context, framework: str = "", cpu: bool = False, base: str = "", network: str = "", debug: bool = False
) -> None:
    """Builds the container images; prints size, time and digest of each."""
    from common.host.containers.building import build_images

    build_images(default_console(), framework, flavour="cpu" if cpu else "gpu", base=base, network=network)


@task(help={"framework": "name of the new framework: lower-case letters, digits and '-'", "debug": DEBUG_HELP})
@for_people
def new(_context: Context, framework: str, debug: bool = False) -> None:
    """Makes a working adapter folder under images/ to fill in."""
    from common.host.new_image import new_image

    folder = new_image(framework, IMAGES)
    print(
        f"{folder.relative_to(ROOT)} works as it is: invoke bench --framework {framework} --device cpu --quick; its README.md says what to fill in"
    )


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
        "core": "leave out the tests that need a framework's environment or a Docker engine; default: off",
        "only": "path or -k expression of the tests to run; default: all",
    }
)
def test(_context: Context, core: bool = False, only: str = "") -> None:
    """The whole test suite with its set-up: ruff, mypy, pytest; the CPU environments of all frameworks."""
    from common.host.testing import run_tests

    sys.exit(run_tests(default_console(), core=core, only=only))


@task(help={"debug": DEBUG_HELP})
@for_people
def selfbench(_context: Context, debug: bool = False) -> None:
    """Measures framewatt itself: harness overhead, statistics, reading and analysis; prints the figures."""
    from common.host.selfbench import selfbench as run_selfbench

    run_selfbench(default_console())


@task(
    help={
        "check": "only say whether compose.yaml is up to date (exit code 1 if not); default: off",
        "debug": DEBUG_HELP,
    }
)
@for_people
def compose(_context: Context, check: bool = False, debug: bool = False) -> None:
    """Writes compose.yaml anew from the labels of images/*/Dockerfile, and says whether the compose here can run it."""
    from common.host.compose import generator, version

    text = generator.render()
    current = generator.FILE.read_text() if generator.FILE.is_file() else ""
    if text == current:
        print(f"{generator.FILE.name} is up to date")
    elif check:
        print(f"{generator.FILE.name} is not what the labels say; invoke compose writes it anew")
        sys.exit(1)
    else:
        generator.FILE.write_text(text)
        print(f"wrote {generator.FILE.name}")
    if not check:
        version.check()
