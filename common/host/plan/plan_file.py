"""A sweep as a file that people keep in git: TOML whose keys are the options of `invoke bench`, by their names.

```toml
name = "study"                       # default: the file's name
device = "gpu"                       # options at the top hold for all sweeps
batch_sizes = [8, 16, 32]            # a comma list may be a list

[[sweep]]                            # one run for each, in this order; without any, the top alone is the sweep
model = ["MobileNetV3L", "ResNet50"] # one run for each model
framework = ["onnxrt", "torch"]
run_for_each = ["framework"]         # and for each value of these

[settings]                           # or [sweep.settings]: how a cell is measured, where no option says it
min_samples = 5
```

Every complaint names line and key. What a file says of a sweep is the same `Options` that the command line makes, so that it
reproduces the request of a run exactly.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import tomllib
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from common.errors import UserError, unknown
from common.host.cli.parsing import split_list
from common.host.paths import ROOT
from common.host.plan.options import Options
from common.host.plan.toml_lines import KeyPath, lines_of
from common.job import Settings
from common.text import storable, visible

PLANS = ROOT / "data/plans"
#: a file of people; longer ones are something else
MOST_BYTES = 2**20
RUN_FOR_EACH = "run_for_each"
#: keys of a plan that are no option
_WORDS = ("name", "description", "settings", "sweep")
_OPTIONS = {one.name: one for one in fields(Options) if "help" in one.metadata}
#: options that may be a list: comma lists, and the models
_LISTS = tuple(
    name
    for name, one in _OPTIONS.items()
    if one.type == "str" and ("comma list" in one.metadata["help"] or name == "model")
)
#: of those, the ones whose values are numbers
_NUMBERS = ("batch_sizes", "streams", "rate", "gpu")
#: options whose value may be a file, which lies beside the plan or where the command is typed
_FILES = ("model", "image", "inputs", "python")
#: setting -> the option that sets it
OF_OPTION = {
    "min_seconds": "min_seconds", "max_seconds": "max_seconds", "min_images": "images", "warmup_max_seconds": "warmup_seconds",
    "idle_seconds": "idle_seconds", "cell_timeout_s": "cell_timeout", "cool_to_c": "cool_to",
    "cool_max_seconds": "cool_max_seconds", "batch_window_ms": "batch_window_ms",
}  # fmt: skip
_SETTINGS = {name: hint for name, hint in typing.get_type_hints(Settings).items() if name not in OF_OPTION}


@dataclass(frozen=True)
class Sweep:
    """One run of a plan."""

    options: Options
    #: where its heading stands; 0: the plan has no [[sweep]]
    line: int = 0
    #: option -> line of the file that says it
    lines: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class PlanFile:
    """file: as the user named it. hash: first 12 hex digits of the SHA-256 of its bytes."""

    file: Path
    name: str
    hash: str
    sweeps: tuple[Sweep, ...]
    description: str = ""

    @property
    def digest(self) -> str:
        """Of all that the sweeps ask for: equal for equal sweeps, whatever the file's comments say."""
        return hashlib.sha256(json.dumps([options_given(one.options) for one in self.sweeps]).encode()).hexdigest()[:16]

    def complaint(self, line: int, key: str, text: str) -> UserError:
        where = f" line {line}" if line else ""
        return UserError(f"{self.file.name}{where}{f', {key}' if key else ''}: {text}")

    def beside(self, typed: Mapping[str, Any]) -> PlanFile:
        """The plan with options that were given beside it, which win."""
        sweeps: dict[str, Sweep] = {}
        for one in self.sweeps:
            lines = {name: line for name, line in one.lines.items() if name not in typed}
            options = replace(one.options, **typed)
            # What only the replaced option told apart is one sweep now.
            sweeps.setdefault(
                json.dumps(options_given(options), sort_keys=True), replace(one, options=options, lines=lines)
            )
        return replace(self, sweeps=tuple(sweeps.values()))

    def values_of(self, option: str) -> list[str]:
        """What the sweeps say of an option, each value once; nothing where they leave it at its default."""
        values = dict.fromkeys(getattr(one.options, option) for one in self.sweeps if option in one.lines)
        return [str(value) for value in values]


def options_given(options: Options) -> dict[str, Any]:
    """The options that are not at their defaults; what run.json keeps."""
    defaults = Options()
    given = {name: getattr(options, name) for name in _OPTIONS if getattr(options, name) != getattr(defaults, name)}
    return {**given, "settings": dict(options.settings)} if options.settings else given


def find(name: str) -> Path:
    """The file that a user means: a path, or the name of one in data/plans. Raises UserError."""
    path = Path(name).expanduser()
    if path.is_file():
        return path
    named = PLANS / (name if name.endswith(".toml") else f"{name}.toml")
    if "/" not in name and named.is_file():
        return named
    existing = sorted(one.stem for one in PLANS.glob("*.toml"))
    if "/" in name or name.endswith(".toml"):
        raise UserError(f"{name} does not exist; a plan is a TOML file, or one of {', '.join(existing)}")
    raise unknown("plan", name, existing)


def read(file: Path) -> PlanFile:
    """Raises UserError with line and key for everything that a plan cannot say; values that no run can take, see bench/planned.py."""
    try:
        content = file.read_bytes()
        text = content.decode() if len(content) <= MOST_BYTES else ""
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}") from error
    if not text and content:
        raise UserError(f"{file} has more than {MOST_BYTES} bytes, which is no plan")
    try:
        parsed = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        lines = text.count("\n") + (not text.endswith("\n"))
        why = str(error).replace("at end of document", f"at its end, line {lines}")
        raise UserError(f"{file.name} is no TOML: {why}") from error
    return _Reader(file, hashlib.sha256(content).hexdigest()[:12], parsed, lines_of(text)).plan()


@dataclass
class _Reader:
    file: Path
    hash: str
    parsed: dict[str, Any]
    lines: dict[KeyPath, int]

    def plan(self) -> PlanFile:
        top = {name: value for name, value in self.parsed.items() if name not in _WORDS}
        self.check_names(self.parsed, (), [*_WORDS, RUN_FOR_EACH, *_OPTIONS])
        for word in ("name", "description"):
            if not isinstance(self.parsed.get(word, ""), str):
                raise self.complaint((word,), f"{_shown(self.parsed[word])} is no text")
        settings = self.settings_of(self.parsed.get("settings", {}), ("settings",))
        tables = self.parsed.get("sweep", [{}])
        if not isinstance(tables, list) or not all(isinstance(table, dict) for table in tables):
            raise self.complaint(("sweep",), "a sweep's heading is [[sweep]], in two pairs of brackets")
        sweeps: list[Sweep] = []
        for index, table in enumerate(tables):
            place = ("sweep", index) if "sweep" in self.parsed else ()
            sweeps += self.sweeps_of(top, table, settings, place)
        return PlanFile(
            self.file,
            self.parsed.get("name") or self.file.stem,
            self.hash,
            tuple(sweeps),
            self.parsed.get("description", "").strip(),
        )

    def sweeps_of(
        self, top: Mapping[str, Any], table: Mapping[str, Any], settings: Mapping[str, Any], place: KeyPath
    ) -> list[Sweep]:
        if place:
            self.check_names(table, place, ["settings", RUN_FOR_EACH, *_OPTIONS])
        places = {**{name: (name,) for name in top}, **{name: (*place, name) for name in table if name != "settings"}}
        values = {**top, **table}
        own = self.settings_of(table.get("settings", {}), (*place, "settings")) if place else {}
        splits = self.splits_of(values, places)
        words = {name: self.words_of(name, values[name], places[name]) for name in places if name != RUN_FOR_EACH}
        lines = {name: self.line(places[name]) for name in words}
        axes = [[(name, word) for word in words[name]] for name in splits if name in words]
        single = {name: ",".join(given) for name, given in words.items() if name not in splits}
        made = []
        for chosen in itertools.product(*axes):
            options = Options(
                **{name: self.typed(name, text, places[name]) for name, text in {**single, **dict(chosen)}.items()},
                settings={**settings, **own},
            )
            made.append(Sweep(options, self.line(place) if place else 0, lines))
        return made

    def splits_of(self, values: Mapping[str, Any], places: Mapping[str, KeyPath]) -> list[str]:
        """Options of which each value has a run of its own."""
        given = values.get(RUN_FOR_EACH, [])
        place = places.get(RUN_FOR_EACH, ())
        if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
            raise self.complaint(place, f"{_shown(given)} is no list of options, such as ['framework']")
        for name in given:
            if name not in _LISTS:
                raise self.complaint(place, str(unknown("option", name, _LISTS)))
            if name not in values:
                raise self.complaint(place, f"{name} is not given, so that there is nothing to have a run for each of")
        return list(dict.fromkeys(["model", *given]))

    def words_of(self, name: str, value: Any, place: KeyPath) -> list[str]:
        """The values of an option as words, as they are typed."""
        if not isinstance(value, list):
            text = self.word(name, value, place)
            return split_list(text) if name in _LISTS and name not in ("model", "shape") else [text]
        if name not in (*_LISTS, "input_range"):
            raise self.complaint(place, f"{_shown(value)} is a list, and there can be one value alone")
        if not value:
            raise self.complaint(place, "the list is empty; leave the key out for the default")
        return [self.word(name, one, place) for one in value]

    def word(self, name: str, value: Any, place: KeyPath) -> str:
        if isinstance(value, bool) and _OPTIONS[name].type != "bool":
            raise self.complaint(place, f"{_shown(value)} is not {_kind(name)}")
        if isinstance(value, (bool, int)) or (isinstance(value, float) and math.isfinite(value)):
            return format(value, "g") if isinstance(value, float) and float(format(value, "g")) == value else str(value)
        if not isinstance(value, str) or "\0" in value:
            raise self.complaint(place, f"{_shown(value)} is not {_kind(name)}")
        beside = self.file.parent / value
        return str(beside) if name in _FILES and value and beside.is_file() else value

    def typed(self, name: str, text: str, place: KeyPath) -> Any:
        """The word as the option's type."""
        kinds: dict[str, Callable[[str], Any]] = {"str": str, "int": int, "float": float, "bool": _truth}
        kind = kinds[str(_OPTIONS[name].type)]
        try:
            return kind(text)
        except ValueError:
            raise self.complaint(place, f"{text!r} is not {_kind(name)}") from None

    def settings_of(self, table: Any, place: KeyPath) -> dict[str, Any]:
        if not isinstance(table, dict):
            raise self.complaint(place, "settings are a table, [settings]")
        for name, value in table.items():
            if name in OF_OPTION:
                raise self.complaint(
                    (*place, name), f"the option {OF_OPTION[name]} says this; write it outside of [settings]"
                )
            if name not in _SETTINGS:
                raise self.complaint((*place, name), str(unknown("setting", name, _SETTINGS)))
            whole = _SETTINGS[name] is int
            if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)) or not 0 <= value < 1e9:
                raise self.complaint(
                    (*place, name), f"{_shown(value)} is not a {'whole ' if whole else ''}number from 0"
                )
        return {name: value if _SETTINGS[name] is int else float(value) for name, value in table.items()}

    def check_names(self, table: Mapping[str, Any], place: KeyPath, existing: Sequence[str]) -> None:
        for name in table:
            if name not in existing:
                raise self.complaint((*place, name), str(unknown("key", name, existing)))

    def line(self, place: KeyPath) -> int:
        return self.lines.get(place, 0)

    def complaint(self, place: KeyPath, text: str) -> UserError:
        named = PlanFile(self.file, "", "", ())
        return named.complaint(self.line(place), ".".join(str(part) for part in place if isinstance(part, str)), text)


def _truth(text: str) -> bool:
    if text not in ("True", "False"):
        raise ValueError(text)
    return text == "True"


def _kind(name: str) -> str:
    """What an option's value must be, in words."""
    return {"str": "text", "int": "a whole number", "float": "a number", "bool": "true or false"}[
        str(_OPTIONS[name].type)
    ]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def render(options: Options, head: Sequence[str] = ()) -> str:
    """A plan of one sweep that asks for these options. head: lines of its comment. Raises UserError for what is no UTF-8."""
    given = options_given(options)
    settings = given.pop("settings", {})
    for name, option in OF_OPTION.items():
        if settings.get(name) is not None:
            given[option] = settings[name]
    lines = [f"# {visible(line, keep='')}".rstrip() for line in head]
    lines += [f"{name} = {_toml(name, given[name])}" for name in _OPTIONS if name in given]
    rest = {name: value for name, value in settings.items() if name not in OF_OPTION}
    if rest:
        lines += ["", "[settings]", *(f"{name} = {_scalar(value)}" for name, value in rest.items())]
    return "\n".join(lines) + "\n"


def _toml(name: str, value: Any) -> str:
    if name not in _LISTS or name in ("model", "shape"):
        return _scalar(value)
    words = [_number(word) if name in _NUMBERS else word for word in split_list(value)]
    return f"[{', '.join(map(_scalar, words))}]"


def _number(word: str) -> str | int | float:
    """The number that a word is, where it would be written the same again."""
    for kind in (int, float):
        try:
            number = kind(word)
        except ValueError:
            continue
        if str(number) == word or format(number, "g") == word:
            return number
    return word


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):  # JSON's escapes are TOML's but for DEL
        if storable(value) != value:
            raise UserError(
                f"{visible(value, keep='')} holds bytes that are no text in UTF-8, and a plan takes no other"
            )
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    return repr(value)


def read_plan(name: str, typed: Mapping[str, Any], console: Console) -> PlanFile:
    """The plan with what was typed beside it, which is said. Raises UserError with line and key."""
    plan = read(find(name))
    for option, value in typed.items():
        if all(getattr(one.options, option) == value for one in plan.sweeps):
            continue
        in_plan = " and ".join(plan.values_of(option))
        console.print(
            escape(
                f"--{option.replace('_', '-')} {value} overrides {plan.file.name}"
                + (f", which says {in_plan}" if in_plan else "")
            ),
            highlight=False,
            soft_wrap=True,
        )
    return plan.beside(typed)


def title_of(options: Options) -> str:
    """What tells a sweep from the others of a plan: all that it asks for but how long a window is."""
    given = options_given(replace(options, settings={}))
    words = [f"{name} {value}" for name, value in given.items() if name not in OF_OPTION.values()]
    return visible("; ".join(words), keep="") or "everything at its default"
