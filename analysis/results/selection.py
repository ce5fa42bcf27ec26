"""`--where`, `--pivot` and `--sort` over named columns of the view `comparison`.

Text of a user becomes column names from a closed list and parameters; it is never part of a statement.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from analysis.database.connection import Database
from analysis.results.metrics import METRICS
from common.errors import UserError, unknown

#: What tells one configuration from another, in the order in which tables and headings name it.
DIMENSIONS = (
    "run", "model", "device_name", "device", "io", "scenario", "streams", "target_rate_per_s", "frontend",
    "input", "variant", "precision", "tuning", "version", "batch_size",
)  # fmt: skip
#: Never mixed in one table: figures of different ones do not answer the same question.
APART = ("model", "io", "input", "scenario", "streams", "target_rate_per_s")
#: Other words for a column.
WORDS = {"framework": "variant", "batch": "batch_size", "gpu": "device_name", "batch_sizes": "batch_size"}

_TEXT = (
    "run", "model", "device_name", "device", "io", "scenario", "frontend", "input", "variant", "precision", "tuning",
    "version", "status", "origin",
    "weights", "device_uuid", "framework_version", "model_hash",
)  # fmt: skip
_NUMBERS = ("batch_size", "streams", "target_rate_per_s", "replicates", "samples")
#: A column that conditions compare in another form: `version=1.31.1` means cells that were asked for it, and those that had it.
_EXPRESSIONS = {"version": "coalesce(version, framework_version)"}
_TERM = re.compile(r"\s*([A-Za-z_0-9]+)\s*(!=|<=|>=|==|=|<|>|~)\s*(.*?)\s*", re.DOTALL)


@dataclass(frozen=True)
class Selection:
    """condition: SQL with $1, $2, ... for parameters, true for the rows that are meant."""

    condition: str = "true"
    parameters: tuple[str | float, ...] = ()


@dataclass(frozen=True)
class Pivot:
    """What stands in the rows and in the columns of a table; everything else that differs makes another table."""

    rows: tuple[str, ...] = ("variant", "precision", "tuning", "version")
    column: str = "batch_size"


@dataclass(frozen=True)
class Sort:
    column: str
    falling: bool


def _column(name: str) -> str:
    """A column of `comparison` from what a user typed: its name, another word for it, or a metric."""
    name = WORDS.get(name, name)
    if name in _TEXT or name in _NUMBERS:
        return name
    if name in METRICS:
        return METRICS[name].column
    by_column = {metric.column for metric in METRICS.values()}
    if name in by_column:
        return name
    raise unknown("column", name, [*_TEXT, *_NUMBERS, *WORDS, *METRICS])


def parse_where(text: str | Sequence[str] | None, database: Database) -> Selection:
    """`framework=onnxrt|torch, batch_size>=8, precision!=fp16, gpu~A2`: terms that must all hold.

    `~` looks for a part of the text, `|` separates alternatives after `=` and `!=`. A figure is compared in the unit that
    tables show. Raises UserError for an unknown column or value (with the nearest), and for what is no term.
    """
    terms = [text] if isinstance(text, str) else list(text or ())
    conditions: list[str] = []
    parameters: list[str | float] = []
    for term in (part for given in terms for part in re.split(r",|\s+and\s+", given) if part.strip()):
        match = _TERM.fullmatch(term)
        if match is None:
            raise UserError(f"'{term.strip()}' is no condition; write for example framework=onnxrt or batch_size>=8")
        name, operator, values = match[1], match[2].replace("==", "="), match[3]
        column = _column(name)
        if column in _TEXT:
            conditions.append(_text_condition(column, operator, values.split("|"), parameters, database))
        else:
            conditions.append(_number_condition(name, column, operator, values, parameters))
    return Selection(" AND ".join(conditions) or "true", tuple(parameters))


def named_columns(text: str) -> set[str]:
    """The columns that conditions as of `parse_where` are about. Raises UserError as that does."""
    matches = (_TERM.fullmatch(part) for part in re.split(r",|\s+and\s+", text) if part.strip())
    return {_column(match[1]) for match in matches if match is not None}


def _text_condition(
    column: str, operator: str, values: list[str], parameters: list[str | float], database: Database
) -> str:
    expression = _EXPRESSIONS.get(column, f'"{column}"')
    if operator == "~":
        parameters.append(values[0])
        return f"contains(lower({expression}), lower(${len(parameters)}))"
    if operator not in ("=", "!="):
        raise UserError(f"'{column}' is text: use =, != or ~ with it, not {operator}")
    found = database.query(
        f"SELECT DISTINCT {expression} AS value FROM comparison WHERE {expression} IS NOT NULL ORDER BY 1"
    )
    existing = {row["value"] for row in found}
    places = []
    for value in (value.strip() for value in values):
        if value not in existing:
            raise unknown(column, value, sorted(existing))
        parameters.append(value)
        places.append(f"${len(parameters)}")
    inside = f"coalesce({expression} IN ({', '.join(places)}), false)"
    return inside if operator == "=" else f"NOT {inside}"


def _number_condition(name: str, column: str, operator: str, values: str, parameters: list[str | float]) -> str:
    if operator == "~":
        raise UserError(f"'{name}' is a number: use =, !=, <, <=, > or >= with it, not ~")
    scale = METRICS[name].scale if name in METRICS else 1.0
    alternatives = []
    for value in values.split("|"):
        try:
            parameters.append(float(value) / scale)
        except ValueError:
            raise UserError(f"'{value}' is not a number; {name} is compared with one") from None
        alternatives.append(f'coalesce("{column}" {operator} ${len(parameters)}, false)')
    joined = " AND " if operator == "!=" else " OR "
    return f"({joined.join(alternatives)})"


def parse_pivot(text: str | None) -> Pivot:
    """`ROWS:COLUMN`, as in `variant,precision:batch_size` (the default), or `COLUMN` alone."""
    if not text:
        return Pivot()
    before, colon, after = text.rpartition(":")
    names = [WORDS.get(name.strip(), name.strip()) for name in before.split(",") if name.strip()] if colon else []
    column = WORDS.get(after.strip(), after.strip())
    for name in (*names, column):
        if name not in DIMENSIONS:
            raise unknown("dimension", name, [*DIMENSIONS, *WORDS])
        if name in APART:
            raise UserError(f"a table never mixes {name}: each {name} has tables of its own")
    if not names:
        names = [name for name in ("variant", "precision", "tuning", "version", "batch_size") if name != column]
    if column in names:
        raise UserError(f"'{column}' cannot be in the rows and in the columns")
    return Pivot(tuple(dict.fromkeys(names)), column)


def parse_sort(text: str | None) -> Sort | None:
    """A column or metric, `-` in front for falling; None keeps the default (fastest first)."""
    if not text:
        return None
    return Sort(_column(text.strip().removeprefix("-")), text.strip().startswith("-"))
