"""In what type pictures are fed: what was asked for, unless the model takes bytes itself. Whoever plans or names cells asks here."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape

from common.export.values import Given, image_layout
from common.model_files import ModelFiles

AS_BYTES = "uint8"


def takes_bytes(model: ModelFiles) -> bool:
    """Whether its own input is a picture of bytes, so that it can be fed nothing else."""
    return bool(model.layout) and model.inputs[0].dtype == AS_BYTES


def types_fed(asked: tuple[str, ...], bytes_alone: bool) -> tuple[str, ...]:
    """bytes_alone: see takes_bytes."""
    return (AS_BYTES,) if bytes_alone else asked


def inputs_of(asked: tuple[str, ...], model: ModelFiles, console: Console) -> tuple[str, ...]:
    """Types in which this model's pictures are fed, so that its rows say what it was; what is not fed as asked is said."""
    fed = types_fed(asked, takes_bytes(model))
    if fed != asked:
        console.print(
            escape(f"{model.name} takes pictures of bytes: it is fed {AS_BYTES}"), highlight=False, soft_wrap=True
        )
    if takes_bytes(model):
        return fed
    pictures = [one for one in model.inputs if image_layout(Given(one.name, one.dtype, one.shape, one.batch_axis))]
    others = [f"'{one.name}'" for one in pictures if one.name != model.inputs[0].name and one.dtype != AS_BYTES]
    if AS_BYTES in asked and model.layout and others:
        text = f"--input {AS_BYTES} feeds '{model.inputs[0].name}' as bytes; {', '.join(others)} as the numbers that the model takes"
        console.print(escape(text), style="yellow", highlight=False, soft_wrap=True)
    return fed
