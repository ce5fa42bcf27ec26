"""`invoke build`: which images, in which order, and what they turned out to be."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from common.errors import UserError, unknown
from common.host.cli import parsing as opt
from common.host.cli.progress import Steps
from common.host.frameworks.registry import all_variants, load_images
from common.host.frameworks.versions import Pin, names_in, parse_versions, pins_of
from common.host.models import OnStep
from common.host.paths import IMAGES
from common.host.runners.containers import engine, images


def chosen_images(names: str, flavour: str) -> list[str]:
    """Folders under images/ for a comma list of variants and folders; without names all that have the flavour."""
    known = load_images(IMAGES)
    requirements = "requirements-cpu.txt" if flavour == "cpu" else "requirements.txt"
    folders = sorted(path.parent.name for path in IMAGES.glob("[!_.]*/Dockerfile"))
    owner = {name: variant.image for name, variant in all_variants(known).items()}
    if not names:
        order = ["sidecar", images.ANALYZE, *(image.name for image in known)]
        return [name for name in order if name == images.ANALYZE or (IMAGES / name / requirements).is_file()]
    chosen: list[str] = []
    for name in opt.split_list(names):
        folder = name if name in folders else owner.get(name)
        if folder is None:
            raise unknown("framework", name, [*owner, *(f for f in folders if f not in owner)])
        if folder not in chosen:
            chosen.append(folder)
    return chosen


def build_images(
    console: Console,
    names: str,
    *,
    flavour: str,
    base: str,
    network: str,
    notebook: bool = False,
    version: str = "",
) -> list[images.Built]:
    """Builds one after another and prints a table; a failing build does not stop the others. Raises UserError at the end:
    of several images that some could not be built, of a single one why. version: of the frameworks, see frameworks/versions.py.
    """
    wanted: list[tuple[str, Pin | None]] = [(name, None) for name in chosen_images(names, flavour)]
    if version:
        wanted = list(_pinned(names, version, flavour))
    if notebook and not names:
        wanted = [(name, pin) for name, pin in wanted if name not in images.SUPPORT]
    client = engine.connect()
    built: list[images.Built] = []
    failed: list[str] = []
    for name, pin in wanted:
        with Steps(console).show(f"Building {name}") as on_step:
            try:
                result = images.build(
                    client,
                    name,
                    flavour,
                    base=base,
                    network=network,
                    notebook=notebook and name not in images.SUPPORT,
                    pin=pin,
                    on_line=BuildSteps(on_step, every_line=console.is_terminal).on_line,
                )
            except UserError as error:
                if len(wanted) == 1:
                    raise
                failed.append(str(error))
                console.print(escape(f"error: {error}"), style="red", highlight=False, soft_wrap=True)
                continue
        built.append(result)
    if built:
        table = Table(box=None, header_style="bold", pad_edge=False)
        for title in ("image", "size MB", "build s", "digest"):
            table.add_column(title, justify="left" if title in ("image", "digest") else "right", overflow="fold")
        for one in built:
            table.add_row(one.tag, f"{one.size_bytes / 1e6:,.0f}", f"{one.seconds:.0f}", one.digest)
        console.print(table)
    if failed:
        raise UserError(f"{len(failed)} of {len(wanted)} images could not be built (the reasons are above)")
    return built


def _pinned(names: str, version: str, flavour: str) -> Iterator[tuple[str, Pin | None]]:
    """Image and pin of each version that is named. Raises UserError."""
    known = all_variants(load_images(IMAGES))
    asked = opt.split_list(names) or names_in(version)
    variants = [
        variant for variant in known.values() if variant.name in asked or not set(asked).isdisjoint(variant.packages)
    ]
    if not variants:
        raise unknown("framework", ", ".join(asked) or version, known)
    chosen = parse_versions(version, variants)
    for variant in variants:
        if "" in chosen.get(variant.name, ()):
            yield variant.image, None
    yield from ((pin.image, pin) for pin in pins_of(variants, chosen, flavour))


class BuildSteps:
    """`Step 3/12 : RUN ...` as progress; the lines between as words beside it, on a terminal only."""

    def __init__(self, on_step: OnStep, *, every_line: bool) -> None:
        self._on_step = on_step
        self._every_line = every_line
        self._done: int = 0
        self._total: int | None = None

    def on_line(self, line: str) -> None:
        if line.startswith("Step "):
            numbers, _, what = line.removeprefix("Step ").partition(" : ")
            done, _, total = numbers.partition("/")
            if done.isdigit() and total.isdigit():
                self._done, self._total = int(done) - 1, int(total)
                # RUN and COPY are what takes time; labels and the like pass in a blink.
                if self._every_line or what.split(" ")[0] in ("FROM", "RUN", "COPY"):
                    self._on_step(self._done, self._total, what)
        elif self._every_line:
            self._on_step(self._done, self._total, line)
