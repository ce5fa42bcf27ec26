"""What `invoke bench`, `sweep` and their relatives take: each option once, with its default, unit and effect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: headings of `invoke --help bench` in their order; the group of each option is one of them
WHAT, MODEL, WHERE = "What to measure", "The model", "Where to run"
LONG, SCENARIO, CONTAINER = "How long to measure", "Load scenario", "Containers"
GROUPS = (WHAT, MODEL, WHERE, LONG, SCENARIO, CONTAINER)


def _option(group: str, default: Any, help: str) -> Any:
    return field(default=default, metadata={"help": help, "group": group})


@dataclass(frozen=True)
class Options:
    """As typed. The default that the help names is empty text, 0 where zero makes no sense, else -1."""

    framework: str = _option(
        WHAT, "", "framework variants, comma list (invoke frameworks lists them); default: all that the device can run"
    )
    batch_sizes: str = _option(
        WHAT,
        "",
        "images (or other samples) per inference, comma list; default: 8,16,32,64,128,256,512 (with --quick: 1,8,32)",
    )
    precision: str = _option(
        WHAT,
        "fp32",
        "comma list of fp32 (TF32 off), tf32, fp16, bf16, int8 and int8-dynamic, or 'all' that the variants support; default: fp32",
    )
    tuning: str = _option(
        WHAT,
        "tuned",
        "levels of tuning, comma list of stock (as in the framework's first tutorial), tuned (public API only) and rewritten "
        "(framewatt changes model or kernels), or 'all' that the variants support; default: tuned",
    )
    input: str = _option(
        WHAT,
        "float32",
        "type of the input images, comma list of float32 and uint8 (cast on the device); default: float32",
    )
    version: str = _option(
        WHAT,
        "",
        "versions of the frameworks, comma list such as 1.30.0 or torch@2.11 ('locked': the lock's), each in its own environment "
        "or image; default: locked",
    )
    io: str = _option(
        WHAT,
        "host",
        "comma list of host (time includes the H2D and D2H copies) and device (input and output stay on the device); default: host",
    )
    frontend: str = _option(
        WHAT,
        "script",
        "comma list of script and notebook (the same worker inside a Jupyter kernel); given both, they are compared; default: script",
    )
    model: str = _option(
        MODEL,
        "MobileNetV3L",
        "name of a known model (invoke export --list), path of an .onnx file, timm:NAME, or FILE.py:FUNCTION that returns a PyTorch "
        "module and example inputs; default: MobileNetV3L",
    )
    weights: str = _option(
        MODEL,
        "auto",
        "weights of a known model: imagenet (downloaded), seeded (random, calibrated on this machine) or auto (imagenet, else "
        "seeded); default: auto",
    )
    shape: str = _option(
        MODEL,
        "",
        "sizes of an ONNX file's dynamic axes, comma list of AXIS=SIZE, such as height=640, or INPUT=N,3,320,320 (N: the batch axis); "
        "names with a comma or quotes in double quotes, with JSON's escapes; no default",
    )
    rebatch: bool = _option(
        MODEL,
        False,
        "make the fixed batch size of an ONNX file dynamic, after checking that a batch of n equals n single inferences; "
        "default: off",
    )
    inputs: str = _option(
        MODEL,
        "",
        "input values for an ONNX file: an .npz file with one array per input; "
        "default: seeded random values of fitting type and range",
    )
    input_range: str = _option(
        MODEL,
        "",
        "values that an ONNX file expects for black and white, LOW,HIGH; default: 0,255 (without it, --image shows no classes)",
    )
    mean: str = _option(
        MODEL,
        "",
        "instead of --input-range: means for normalizing an ONNX file's inputs (0 to 1), one number or one per channel; no default",
    )
    std: str = _option(MODEL, "", "standard deviations, with --mean; no default")
    item: str = _option(
        MODEL,
        "",
        "unit that rates count, such as token, with --items-per-sample; default: image, sequence or sample, by the model's input",
    )
    #: -1, so that 0 can be refused
    items_per_sample: int = _option(
        MODEL, -1, "number of items in one sample of a batch, with --item, such as 128 tokens in a sequence; default: 1"
    )
    image: str = _option(
        MODEL, "", "picture, file or URL, of which to print each framework's 3 most probable classes; default: none"
    )
    device: str = _option(WHERE, "", "cpu or gpu; default: GPU 0 if there is one, else the CPU")
    gpu: str = _option(
        WHERE,
        "",
        "GPUs by index or UUID, comma list or 'all'; several are measured at the same time, one worker each; default: 0",
    )
    runner: str = _option(
        WHERE,
        "",
        "local (processes) or docker (containers); default: docker if an engine answers, but local with --python and on a CPU whose "
        "images are not built",
    )
    python: str = _option(
        WHERE,
        "",
        "Python interpreter that already has the framework; implies --runner local; default: a new environment",
    )
    threads: int = _option(WHERE, 0, "CPU threads within one operation; default: the framework's own choice")
    quick: bool = _option(
        LONG,
        False,
        "first look: windows of 1 to 4 s, batch sizes 1, 8 and 32, one worker; wide intervals, no reliable energy; default: off",
    )
    replicates: int = _option(
        LONG,
        0,
        "number of fresh workers per cell; intervals are over workers, and one worker gives no verdict; default: 3 (with --quick: 1)",
    )
    images: int = _option(
        LONG,
        0,
        "fewest images in a worker's measured window; default: 512 divided by the number of workers (with --quick: 1)",
    )
    min_seconds: float = _option(
        LONG,
        0.0,
        "shortest measured window of a worker, in s; default: 5 with one worker, 3 with several (on a CPU 2.5 with two, else 2; with "
        "--quick: 1)",
    )
    max_seconds: float = _option(
        LONG,
        0.0,
        "longest measured window of a worker, in s, even if the interval is still wide; default: 30 with one worker, 15 with "
        "two, else 10 (with --quick: 4)",
    )
    warmup_seconds: float = _option(
        LONG,
        0.0,
        "longest warm-up, in s; it ends earlier once three blocks of inferences agree within 5 %; default: 10 (with --quick: 2)",
    )
    idle_seconds: float = _option(
        LONG,
        -1.0,
        "how long to record idle power before and after each cell, and before the first worker, in s; default: 1 (with --quick: 0.3)",
    )
    cell_timeout: float = _option(
        LONG,
        0.0,
        "time limit of a cell, compilation included, in s; beyond it the row is a timeout; default: 900 (with --quick: 120)",
    )
    cool_to: float = _option(
        LONG,
        0.0,
        "temperature to which the GPU must cool before each cell, in degrees C; default: do not wait",
    )
    cool_max_seconds: float = _option(LONG, 0.0, "longest wait for --cool-to, in s; default: 300")
    seed: int = _option(
        LONG,
        -1,
        "seed of the order of cells and of arrivals; default: random, stored in run.json",
    )
    scenario: str = _option(
        SCENARIO,
        "",
        "comma list of single-stream (one inference after the other), offline (keep the device busy), multi-stream (concurrent "
        "streams) and server (random arrivals); default: single-stream",
    )
    streams: str = _option(
        SCENARIO,
        "",
        "multi-stream: numbers of concurrent streams, each with its own instance of the model, comma list; default: 2",
    )
    rate: str = _option(SCENARIO, "", "server: mean arrival rates of single images, in 1/s, comma list; no default")
    batch_window_ms: float = _option(
        SCENARIO,
        -1.0,
        "server: longest wait for a batch to fill, in ms; default: 0 (take what has arrived)",
    )
    gpu_driver: str = _option(
        CONTAINER,
        "",
        "how containers get the GPU: nvidia (NVIDIA's runtime) or cdi; default: what the engine offers",
    )
    cpus: str = _option(
        CONTAINER,
        "",
        "CPUs of workers in containers or on GPUs, as a list such as 0-3,8; the sidecar gets the others; default: all",
    )
    memory: str = _option(
        CONTAINER,
        "",
        "memory limit of a container, such as 8g; a cell that exceeds it is an oom row; default: no limit",
    )
    pids: int = _option(CONTAINER, 4096, "limit on processes and threads in a container; default: 4096")
    shm: str = _option(CONTAINER, "1g", "size of a container's /dev/shm; default: 1g")
    tmp: str = _option(CONTAINER, "4g", "size of a container's /tmp, which is in memory; default: 4g")
    #: overrides of the settings that a caller in Python may give (`invoke demo`)
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: keys of the cells to plan, of all that the options would give (`invoke explain RUN`); empty: all
    only: tuple[str, ...] = ()

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """The options among what a task was given."""
        return cls(**{name: value for name, value in given.items() if name in cls.__dataclass_fields__})
