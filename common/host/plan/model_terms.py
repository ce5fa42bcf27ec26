"""What a model decides of the cells that are planned with it: bytes where its own input is a picture of bytes, and the batch size of a
graph that takes one alone, where nobody asks for others. Whoever plans or names cells asks here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from common.export.given import Given, image_layout
from common.host.plan.options import Options
from common.host.plan.request import Request
from common.model_files import ModelFiles
from common.text import brief

AS_BYTES = "uint8"


@dataclass(frozen=True)
class ModelTerms:
    """fixed_batch: None for a model that takes any. Both fields go to other hosts as JSON."""

    takes_bytes: bool = False
    fixed_batch: int | None = None

    @classmethod
    def of(cls, model: ModelFiles) -> ModelTerms:
        return cls(bool(model.layout) and model.inputs[0].dtype == AS_BYTES, model.fixed_batch)

    @classmethod
    def of_description(cls, values: object) -> ModelTerms | None:
        """Of a model as run.json describes it; None for what describes none."""
        try:
            return cls.of(ModelFiles.of(Path(), values))
        except (KeyError, TypeError, ValueError):
            return None

    def inputs(self, asked: Sequence[str]) -> tuple[str, ...]:
        """Types in which pictures are fed, so that rows say what it was."""
        return (AS_BYTES,) if self.takes_bytes else tuple(asked)

    def batch_sizes(self, sizes: Sequence[int], options: Options) -> tuple[int, ...]:
        """sizes: those of the options, or in their place the default."""
        return tuple(sizes) if self.fixed_batch is None or options.batch_sizes else (self.fixed_batch,)

    def fit(self, request: Request, options: Options) -> Request:
        return replace(
            request, inputs=self.inputs(request.inputs), batch_sizes=self.batch_sizes(request.batch_sizes, options)
        )

    def fit_key(self, work: str, options: Options) -> str:
        """The work key that a cell of a request has in the request that fits; several may become one."""
        cell, io, *rest = work.rsplit("_", 4)
        if self.takes_bytes and not io.endswith(f"-{AS_BYTES}"):
            io = f"{io}-{AS_BYTES}"
        stem, _, _size = cell.rpartition("_b")
        for size in self.batch_sizes((), options):
            cell = f"{stem}_b{size:04d}"
        return "_".join((cell, io, *rest))


def fitted(request: Request, options: Options, model: ModelFiles, console: Console) -> Request:
    """The request as this model takes it; what differs from what was asked is said."""
    sizes = batch_sizes_of(request.batch_sizes, options, model, console)
    return replace(request, batch_sizes=sizes, inputs=inputs_of(request.inputs, model, console))


def batch_sizes_of(sizes: Sequence[int], options: Options, model: ModelFiles, console: Console) -> tuple[int, ...]:
    """sizes: those of the options, or in their place the default."""
    if model.fixed_batch is not None and not options.batch_sizes:
        console.print(f"{escape(model.name)} takes batches of {model.fixed_batch} alone", highlight=False)
    return ModelTerms.of(model).batch_sizes(sizes, options)


def inputs_of(asked: tuple[str, ...], model: ModelFiles, console: Console) -> tuple[str, ...]:
    """Types in which this model's pictures are fed."""
    terms = ModelTerms.of(model)
    fed = terms.inputs(asked)
    if fed != asked:
        text = f"{model.name} takes pictures of bytes: it is fed {AS_BYTES}"
        console.print(escape(text), highlight=False, soft_wrap=True)
    if terms.takes_bytes:
        return fed
    pictures = [one for one in model.inputs if image_layout(Given(one.name, one.dtype, one.shape, one.batch_axis))]
    others = [f"'{brief(one.name)}'" for one in pictures if one.name != model.inputs[0].name and one.dtype != AS_BYTES]
    if AS_BYTES in asked and model.layout and others:
        text = f"--input {AS_BYTES} feeds '{model.inputs[0].name}' as bytes; {', '.join(others)} as the numbers that the model takes"
        console.print(escape(text), style="yellow", highlight=False, soft_wrap=True)
    return fed


def common_terms(found: Sequence[tuple[str, ModelTerms | None]]) -> Mapping[str, ModelTerms]:
    """Of (name of a model, its terms): by name, of those whose terms are known and the same wherever they are."""
    by_name: dict[str, set[ModelTerms | None]] = {}
    for name, terms in found:
        by_name.setdefault(name, set()).add(terms)
    same = {name: several for name, several in by_name.items() if len(several) == 1}
    return {name: terms for name, several in same.items() for terms in several if terms is not None}
