"""From options to a request: what is asked for, with every default filled in, before anything is made."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape

from common.errors import UserError
from common.host import models
from common.host.cli import parsing as opt
from common.host.devices import Device
from common.host.frameworks.registry import (
    Image,
    Variant,
    all_variants,
    check_variables,
    choose_variants,
    variables_set,
)
from common.host.frameworks.versions import names_in, parse_versions
from common.host.plan.loads import Load, parse_loads
from common.host.plan.options import Options
from common.job import WORKERS, Settings
from common.schema import FRONTENDS, INPUTS, IO_MODES, PRECISIONS, TUNINGS

STUDY_BATCH_SIZES = "8,16,32,64,128,256,512"
QUICK_BATCH_SIZES = "1,8,32"
#: queries of the server scenario are single images; more than one at a time is for those who ask for it
SERVER_BATCH_SIZES = "1"

#: a cell's window, and the images that it holds at least, where a single worker measures it
MIN_SECONDS, MAX_SECONDS, MIN_IMAGES = 5.0, 30.0, 512
#: and of each of several, where sharing it out would leave less: on a GPU thirty steps of NVML's energy counter and the six
#: stretches of half a second that its spread takes, on the CPU enough for its clocks to be seen
LEAST_SECONDS = {"gpu": 3.0, "cpu": 2.0}


@dataclass(frozen=True)
class Request:
    """What is asked for, resolved from the options. Equal requests make equal plans but for the seed."""

    variants: tuple[Variant, ...]
    precisions: tuple[str, ...]
    batch_sizes: tuple[int, ...]
    io_modes: tuple[str, ...]
    model: str
    model_hash: str
    devices: tuple[str, ...]
    device_uuids: tuple[str, ...]
    replicates: int
    runner: str
    settings: Settings
    threads: int | None = None
    #: path or URL of the user's picture, as given
    picture: str | None = None
    python: str | None = None
    loads: tuple[Load, ...] = (Load(),)
    frontends: tuple[str, ...] = ("script",)
    #: variant -> versions of its framework, "" for the lock's; who is not named has that alone
    versions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    #: levels of tuning that were asked for; a variant takes those that it has
    tunings: tuple[str, ...] = ("tuned",)
    #: types in which images are fed
    inputs: tuple[str, ...] = ("float32",)
    #: what else the cells are chosen by (`invoke peak`), in words
    search: str = ""
    #: the model as the user typed it, and what rates count; "" and 0: as the model says
    model_file: str = ""
    item: str = ""
    items_per_sample: int = 0
    #: keys of the cells that are meant; empty: all
    only: tuple[str, ...] = ()
    #: variables that the frameworks' adapters read (Variant.variables) and that are set: other values, another measurement
    environment: Mapping[str, str] = field(default_factory=dict)

    def versions_of(self, variant: Variant) -> tuple[str, ...]:
        return self.versions.get(variant.name, ("",))

    def fingerprint(self) -> str:
        """Identifies the same request in a later call, so that an unfinished run of it is continued."""
        values = asdict(self)
        values["variants"] = [variant.name for variant in self.variants]
        if not self.only:
            del values["only"]  # a request for all is the same as ever
        if not self.environment:
            del values["environment"]  # likewise
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def workers_of(options: Options, name: str = "--replicates") -> int:
    """Fresh workers of a cell: a verdict takes several, a first look (`--quick`) one. name: of what the user gave."""
    return opt.whole(name, options.replicates or (1 if options.quick else WORKERS))


def settings_of(options: Options, kind: str = "gpu") -> Settings:
    """How long each worker measures a cell; what the user does not give is shared out among the cell's workers.

    kind: of device, cpu or gpu. `--quick` is for a first look: intervals are wide and energy is not to be trusted.
    """
    workers = workers_of(options)
    quick = {
        "min_seconds": 1.0,
        "max_seconds": 4.0,
        "warmup_max_seconds": 2.0,
        "idle_seconds": 0.3,
        "cell_timeout_s": 120.0,
        "min_images": 1,
    }
    shared = {
        "min_seconds": MIN_SECONDS if workers == 1 else max(MIN_SECONDS / workers, LEAST_SECONDS[kind]),
        "max_seconds": MAX_SECONDS / min(workers, 3),
        "min_images": math.ceil(MIN_IMAGES / workers),
    }
    values: dict[str, Any] = dict(quick if options.quick else shared)
    given = {
        "min_seconds": options.min_seconds,
        "max_seconds": options.max_seconds,
        "warmup_max_seconds": options.warmup_seconds,
        "cell_timeout_s": options.cell_timeout,
        "cool_to_c": options.cool_to,
        "cool_max_seconds": options.cool_max_seconds,
    }
    for name, value in given.items():
        if value:
            values[name] = opt.positive(
                "--" + name.replace("warmup_max", "warmup").removesuffix("_s").removesuffix("_c").replace("_", "-"),
                value,
            )
    if options.images:
        values["min_images"] = opt.whole("--images", options.images)
    if options.idle_seconds >= 0:
        values["idle_seconds"] = options.idle_seconds
    if options.batch_window_ms >= 0:
        values["batch_window_ms"] = options.batch_window_ms
    values.update(options.settings)
    settings = Settings(**values)
    if settings.max_seconds < settings.min_seconds:
        if options.max_seconds:
            raise UserError(
                f"--max-seconds {settings.max_seconds:g} is less than --min-seconds {settings.min_seconds:g}"
            )
        settings = Settings(**{**values, "max_seconds": settings.min_seconds * 3})
    return settings


def default_batch_sizes(quick: bool, loads: Sequence[Load]) -> str:
    if all(load.scenario == "server" for load in loads):
        return SERVER_BATCH_SIZES
    return QUICK_BATCH_SIZES if quick else STUDY_BATCH_SIZES


def variants_for(
    options: Options, images: Sequence[Image], devices: Sequence[Device], console: Console
) -> list[Variant]:
    """Named variants must all be able to run; without names it is every variant that can, and the others are said.

    Raises UserError for an environment variable of their images that has no meaning, too.
    """
    chosen = _able(options, images, devices, console)
    check_variables(images, chosen, os.environ)
    return chosen


def _able(options: Options, images: Sequence[Image], devices: Sequence[Device], console: Console) -> list[Variant]:
    kind = devices[0].kind
    capability = devices[0].compute_capability
    named = options.framework or ",".join(names_in(options.version))
    if named:
        chosen = choose_variants(list(images), opt.choose("framework", named, all_variants(images)))
        for variant in chosen:
            if not variant.precisions(kind):
                able = [v.name for v in all_variants(images).values() if v.precisions(kind)]
                raise UserError(f"{variant.name} does not run on a {kind.upper()}; there is {', '.join(able)}")
        return chosen
    chosen = []
    for variant in all_variants(images).values():
        reason = variant.refusal(kind, capability)
        if reason is None:
            chosen.append(variant)
        else:
            console.print(escape(f"{variant.name} is left out: {reason}"), style="yellow", highlight=False)
    return chosen


def _alone(option: str, text: str) -> None:
    """Raises UserError for `all` beside names."""
    if "all" in (words := opt.split_list(text)) and len(words) > 1:
        raise UserError(
            f"{option} all means every one: it stands alone, not beside {', '.join(w for w in words if w != 'all')}"
        )


def precisions_for(options: Options, variants: Sequence[Variant], kind: str) -> tuple[str, ...]:
    """The named precisions; "all" is every one that a chosen variant has on this kind of device."""
    _alone("--precision", options.precision)
    if options.precision == "all":
        return tuple(p for p in PRECISIONS if any(p in v.precisions(kind) for v in variants))
    chosen = opt.choose("precision", options.precision, PRECISIONS)
    able = {p for v in variants for p in v.precisions(kind)}
    for precision in chosen:
        if precision not in able:
            names = ", ".join(v.name for v in variants)
            raise UserError(
                f"precision {precision} is not offered on a {kind.upper()} by {names}; there is {', '.join(sorted(able)) or 'none'}"
            )
    return tuple(chosen)


def tunings_for(options: Options, variants: Sequence[Variant], console: Console) -> tuple[str, ...]:
    """The named levels of tuning; "all" is every one that a chosen variant has. A variant without one of them is said."""
    able = [level for level in TUNINGS if any(level in variant.tunings for variant in variants)]
    _alone("--tuning", options.tuning)
    if options.tuning == "all":
        return tuple(able)
    chosen = opt.choose("tuning", options.tuning, TUNINGS)
    for level in chosen:
        if level not in able:
            names = ", ".join(variant.name for variant in variants)
            raise UserError(f"{names} cannot be measured {level}; there is {', '.join(able)}")
        without = [variant.name for variant in variants if level not in variant.tunings]
        if without:
            console.print(escape(f"not measured {level}: {', '.join(without)}"), style="yellow", highlight=False)
    return tuple(chosen)


def request_of(
    options: Options, images: Sequence[Image], devices: Sequence[Device], console: Console, search: str = ""
) -> Request:
    """What the options ask for on these devices; hash of the model and runner are still empty. Raises UserError.

    Makes nothing, looks at nothing but the options, images/, its environment variables and the devices as described.
    """
    settings = settings_of(options, devices[0].kind)
    loads = parse_loads(options.scenario, options.streams, options.rate)
    if options.batch_window_ms >= 0 and all(load.scenario != "server" for load in loads):
        raise UserError("--batch-window-ms is for --scenario server, which is not asked for; leave one of them out")
    batch_sizes = opt.batch_sizes(options.batch_sizes or default_batch_sizes(options.quick, loads))
    io_modes = opt.choose("io", options.io, IO_MODES)
    frontends = opt.choose("frontend", options.frontend, FRONTENDS)
    inputs = opt.choose("input", options.input, INPUTS)
    replicates = workers_of(options)
    item, items_per_sample = opt.items(options.item, options.items_per_sample)
    wanted = models.source(options.model)  # a name that does not exist is said before anything is made
    models.check(wanted, models.export_options_of(options))
    model = wanted.name
    if settings.cool_to_c is not None and devices[0].kind == "cpu":
        raise UserError("--cool-to is for a GPU, whose temperature the sidecar reads; leave it out for the CPU")
    variants = variants_for(options, images, devices, console)
    if not variants:
        raise UserError(f"no framework under images/ runs on {devices[0].product}")
    return Request(
        variants=tuple(variants),
        precisions=precisions_for(options, variants, devices[0].kind),
        batch_sizes=tuple(batch_sizes),
        io_modes=tuple(io_modes),
        model=model,
        model_hash="",
        devices=tuple(device.name for device in devices),
        device_uuids=tuple(device.uuid for device in devices),
        replicates=replicates,
        runner="",
        settings=settings,
        threads=opt.whole("--threads", options.threads) if options.threads else None,
        picture=options.image or None,
        python=options.python or None,
        loads=loads,
        frontends=tuple(frontends),
        tunings=tunings_for(options, variants, console),
        inputs=tuple(inputs),
        versions=parse_versions(options.version, variants, options.python),
        search=search,
        model_file=options.model,
        item=item,
        items_per_sample=items_per_sample,
        only=options.only,
        environment=variables_set(variants, os.environ),
    )
