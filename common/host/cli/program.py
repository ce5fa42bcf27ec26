"""The real `invoke`, with what its command line lacks: tasks that take several names or are two words, exit code 2 for a typo,
and help by subject.

`invoke analyze RUN RUN` cannot be said to invoke itself: a positional argument of a task is exactly one word. Here the
bare words after a task that has a `--run` option become `--run=WORD`, which invoke understands; where such a task has
positional arguments (the query of `invoke sql`), the first bare words are theirs.

`invoke fleet sweep` is a task whose name is "fleet sweep": the shell splits it, here it is put together again. (invoke's own
way, a collection, would make it `fleet.sweep`.)
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection
from itertools import pairwise

from invoke.exceptions import Exit, ParseError
from invoke.parser import Parser
from invoke.parser.context import ParserContext
from invoke.program import Program
from invoke.util import helpline

from common.errors import UserError, unknown
from common.host import signals
from common.host.cli.command_line import refuse_not_given, typed
from common.host.cli.help_page import task_list, task_page
from common.host.paths import ROOT
from common.text import visible

#: the option that takes the bare words of a task
NAMES_OPTION = "run"


def with_joined_names(words: list[str], names: Collection[str]) -> list[str]:
    """The command line with the two words of a task's name made one. names: of all tasks."""
    result: list[str] = []
    for word in words:
        if result and f"{result[-1]} {word}" in names:
            result[-1] = f"{result[-1]} {word}"
        else:
            result.append(word)
    return result


def with_named_words(words: list[str], contexts: dict[str, ParserContext]) -> list[str]:
    """The command line after the core options, bare words of tasks that have a `--run` option turned into `--run=WORD`.

    contexts: task name -> its parser context (flags and whether they take a value).
    """
    result: list[str] = []
    current: ParserContext | None = None
    takes_value = False
    positional = 0
    for word in words:
        if takes_value:
            takes_value = False
            result.append(word)
        elif word.startswith("-"):
            flag = current.flags.get(word) if current is not None else None
            takes_value = flag is not None and flag.takes_value
            result.append(word)
        elif positional and current is not None:
            positional -= 1
            result.append(word)
        elif word in contexts:
            current = contexts[word]
            positional = sum(argument.name != NAMES_OPTION for argument in current.positional_args)
            if f"--{NAMES_OPTION}" not in current.flags:
                positional = 0  # invoke itself knows what to do with them
            result.append(word)
        elif current is not None and f"--{NAMES_OPTION}" in current.flags:
            result.append(f"--{NAMES_OPTION}={word}")
        else:
            result.append(word)
    return result


def not_a_number(words: list[str], contexts: dict[str, ParserContext]) -> str | None:
    """What is wrong with the first value that ought to be a number, None when all are: invoke itself ends in a traceback."""
    current: ParserContext | None = None
    for index, word in enumerate(words):
        name, equals, value = word.partition("=")
        flag = current.flags.get(name) if current is not None else None
        if flag is None:
            current = contexts.get(word, current)
            continue
        if not equals:
            value = words[index + 1] if index + 1 < len(words) else "0"
        if flag.kind in (int, float):
            try:
                flag.kind(value)
            except ValueError:
                return f"{name} '{value}' is not a {'whole ' if flag.kind is int else ''}number"
    return None


class FramewattProgram(Program):
    _parser: Parser | None = None

    def _make_parser(self) -> Parser:
        # Once: making a context takes the help texts out of the tasks, so that a second parser would have none.
        if self._parser is None:
            self._parser = super()._make_parser()
        return self._parser

    def parse_tasks(self) -> None:
        contexts: dict[str, ParserContext] = {
            name: context
            for context in self._make_parser().contexts.values()
            for name in (str(context.name), *context.aliases)
        }
        self._join_names(contexts)
        words = self.core.unparsed
        for name, word in pairwise(words):
            if name in contexts and word in ("--help", "-h") and contexts[name].positional_args:
                self.args.help.set_value(name, cast=False)  # invoke would take it for the task's first word
                words = []
        self.core.unparsed = with_named_words(words, contexts)
        wrong = not_a_number(self.core.unparsed, contexts)
        if wrong is not None:
            raise Exit(f"error: {wrong}", code=2)
        try:
            super().parse_tasks()
        except ParseError as error:
            raise Exit(f"error: {_explain(error, contexts)}", code=2) from error
        for context in self.tasks:
            given = {str(argument.name): argument for argument in context.args.values() if argument.got_value}
            typed.update(given)
            try:
                refuse_not_given(
                    {name: one.value for name, one in given.items()}, {name: one.default for name, one in given.items()}
                )
            except UserError as error:
                raise Exit(f"error: {visible(str(error))}", code=2) from error

    def parse_cleanup(self) -> None:
        names = [str(name) for name in self.collection.tasks]
        for value in (self.args.help.value, self.args.list.value):
            if isinstance(value, str) and value not in names:
                raise Exit(f"error: {unknown('task', value, names)}", code=2)
        super().parse_cleanup()

    def print_help(self) -> None:
        self.load_collection()  # a bare --help comes before it
        self.list_tasks()

    def print_task_help(self, name: str) -> None:
        print(task_page(name, self.collection[name], self.parser.contexts[name].args.values()))

    def list_tasks(self) -> None:
        print(task_list({name: helpline(task) or "" for name, task in self.collection.tasks.items()}))

    def _join_names(self, contexts: Collection[str]) -> None:
        """Also `invoke --help fleet sweep`, of which invoke has taken the first word for its own."""
        help_of = self.args.help
        if isinstance(help_of.value, str):
            words = with_joined_names([help_of.value, *self.core.unparsed], contexts)
            if words[0] != help_of.value:
                help_of.set_value(words[0], cast=False)
                self.core.unparsed = words[1:]
        self.core.unparsed = with_joined_names(self.core.unparsed, contexts)


def _explain(error: ParseError, contexts: dict[str, ParserContext]) -> str:
    """invoke's own sentence, with what exists and the nearest name."""
    text = " ".join(str(error).split())
    lacking = re.fullmatch(r"Flag <Argument: ([\w-]+).*> needed value and was not given one!", text)
    if lacking:
        return f"--{lacking.group(1)} needs a value"
    absent = re.fullmatch(r"'([\w ]+)' did not receive required positional arguments: (.+)", text)
    if absent:
        task, words = absent[1], absent[2].replace("'", "")
        return f"invoke {task} needs its {words}; invoke --help {task} has examples"
    if "No idea what" not in text:
        return text
    word = text.split("'")[1] if "'" in text else ""
    task = error.context.name if error.context is not None else None
    if not task and word in ("help", "list"):
        return "invoke --list shows the tasks, invoke --help TASK the options of one"
    if task and not word.startswith("-") and not any(name.startswith(f"{word} ") for name in contexts):
        told = f"invoke {task} takes no word '{word}'; its options begin with --, and invoke --help {task} tells them"
        return told + _hint(word, error.context)
    others = sorted(
        {str(context.name) for context in contexts.values() if word.startswith("--") and word in context.flags}
    )
    if task and others:
        return f"invoke {task} has no {word}; {', '.join(others)} {'has' if len(others) == 1 else 'have'} it"
    if others:
        return f"{word} comes after a task's name, such as invoke {'bench' if 'bench' in others else others[0]} {word}"
    options = [flag for flag in (error.context.flags if error.context is not None else {}) if flag.startswith("--")]
    existing = options if word.startswith("-") else sorted({str(context.name) for context in contexts.values()})
    family = [name for name in existing if name.startswith(f"{word} ")]
    if family:
        return f"{word} what? there is {', '.join(family)}"
    return str(unknown("option" if word.startswith("-") else "task", word, existing))


def _hint(word: str, task: ParserContext | None) -> str:
    """That several values are one comma list, where a word follows the value of an option that takes such; "" else."""
    words = sys.argv[1:]
    for place in (place for place, one in enumerate(words) if one == word):
        earlier = words[place - 2 : place] if place > 1 else words[:place]
        option, equals, value = earlier[-1].partition("=") if earlier else ("", "", "")
        if not equals and len(earlier) == 2:
            option, value = earlier
        flag = task.flags.get(option) if task is not None else None
        if flag is not None and flag.takes_value and "comma list" in (flag.help or ""):
            return f". {option} takes several as a comma list: {option} {value},{word}"
    return ""


def main() -> None:
    from importlib.metadata import version

    program = FramewattProgram(
        name="invoke", binary="invoke", binary_names=["invoke", "inv"], version=version("invoke")
    )
    signals.install()
    # The caller's folder is where paths on the command line begin; the tasks are those of this checkout all the same.
    try:
        program.run([sys.argv[0], "--search-root", str(ROOT), *sys.argv[1:]])
        sys.stdout.flush()
    except BrokenPipeError:  # invoke --list | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


if __name__ == "__main__":
    main()
