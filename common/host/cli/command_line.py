"""How tasks meet people: options from one dataclass, errors as one line."""

from __future__ import annotations

import errno
import functools
import inspect
import sys
import traceback
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import Field, fields
from typing import Any

from common.errors import UserError
from common.host import signals
from common.text import brief, visible

DEBUG_HELP = "print Python's traceback when something fails; default: one line"

#: whatever option it was typed for: no file can have such a name
_OF_NAMES = (errno.ENAMETOOLONG, errno.ELOOP)

Body = Callable[..., Any]

#: names of the options that stand on this process's command line, whatever their values (program.py fills it)
typed: set[str] = set()


def complain(text: str) -> None:
    """A line on standard error, lost where that cannot be written: the exit code still tells."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def for_people(body: Body) -> Body:
    """Errors of a task as one line: exit code 2 for what a user can mend, 130 for Ctrl-C, 143 for SIGTERM, 1 for a fault of ours."""

    @functools.wraps(body)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return body(*args, **kwargs)
        except UserError as error:
            if kwargs.get("debug"):
                traceback.print_exc()
            complain(f"error: {visible(str(error))}")
            sys.exit(2)
        except KeyboardInterrupt:
            complain("interrupted")
            sys.exit(signals.exit_code())
        except BrokenPipeError:
            sys.stderr.close()
            sys.exit(141)
        except Exception as error:
            if kwargs.get("debug"):
                raise
            if isinstance(error, OSError) and error.errno in _OF_NAMES:
                complain(f"error: {brief(str(error.filename))}: {error.strerror}")
                sys.exit(2)
            text = visible(str(error))
            complain(f"error: {type(error).__name__}: {text} (this is a fault of framewatt; --debug shows where)")
            sys.exit(1)

    return wrapper


def _chosen(options: type, only: Collection[str], leave_out: Collection[str]) -> list[Field[Any]]:
    return [
        field
        for field in fields(options)
        if "help" in field.metadata and field.name not in leave_out and (not only or field.name in only)
    ]


def typed_options(options: type) -> set[str]:
    """Those fields of the dataclass that were typed, be it with the value that they have by default."""
    return {field.name for field in _chosen(options, (), ()) if field.name in typed}


def refuse_not_given(given: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raises UserError for what was typed as if it had not been: empty text, and a default of 0 or below, which means that an
    option was left out (common/host/plan/options.py). given: what was typed for one task."""
    empty = [
        f"--{name.replace('_', '-')}" for name in given if given[name] == "" and isinstance(defaults.get(name), str)
    ]
    if empty:
        raise UserError(f"{', '.join(empty)} {'is' if len(empty) == 1 else 'are'} empty: give a value, or leave it out")
    for name, value in given.items():
        default = defaults.get(name)
        if isinstance(default, bool) or not isinstance(default, (int, float)) or default > 0 or value != default:
            continue
        option = f"--{name.replace('_', '-')}"
        if default < 0:
            raise UserError(f"{option} must not be negative, and {value} is")
        raise UserError(
            f"{option} must be {'at least 1' if isinstance(default, int) else 'more than zero'}, not {value:g}"
        )


def help_of(
    options: type, *, only: Collection[str] = (), leave_out: Collection[str] = (), **more: str
) -> dict[str, str]:
    """Option -> help text, as invoke's `help=` wants it: of the dataclass's fields, of `more` (name -> text), of --debug.

    only: the fields to take, empty for all; leave_out: fields to leave out. A text in `more` replaces a field's own.
    """
    texts = {field.name: field.metadata["help"] for field in _chosen(options, only, leave_out)}
    return {name.replace("_", "-"): text for name, text in {**texts, **more, "debug": DEBUG_HELP}.items()}


def takes(
    options: type, *, only: Collection[str] = (), leave_out: Collection[str] = (), **more: Any
) -> Callable[[Body], Body]:
    """Gives a task the fields of a dataclass as its options, so that they stand in one place for all tasks that take them.

    The body is called with invoke's context and `given`, a dict of all options. more: further options, name -> default;
    one that a field has too replaces the field's default.
    """

    def decorate(body: Body) -> Body:
        kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
        defaults = {field.name: field.default for field in _chosen(options, only, leave_out)}
        parameters = [inspect.Parameter("context", kind)]
        every = {**defaults, **more, "debug": False}
        for name, default in every.items():
            parameters.append(inspect.Parameter(name, kind, default=default))

        @functools.wraps(body)
        def wrapper(context: Any, **given: Any) -> Any:
            return body(context, every | given)

        wrapper.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        chosen = _chosen(options, only, leave_out)
        wrapper.option_groups = {  # type: ignore[attr-defined]
            field.name.replace("_", "-"): field.metadata["group"] for field in chosen
        }
        return wrapper

    return decorate
