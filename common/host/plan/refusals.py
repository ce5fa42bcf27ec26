"""Cells that cannot run whatever the machine, as labels, key and model's description tell: no worker is started for them.

Their rows are written by the host, `unsupported` with the reason. All that only a framework knows (its version, its build, what of a
model it can read) is its adapter's to say.
"""

from __future__ import annotations

from common.cell import Cell
from common.host.frameworks.registry import Variant
from common.model_files import ModelFiles


def refusal(cell: Cell, variant: Variant, model: ModelFiles) -> str | None:
    """None, or why this cell of that variant cannot run."""
    kind = "cpu" if cell.device == "cpu" else "gpu"
    precisions = variant.precisions(kind)
    if cell.precision not in precisions:
        return f"{variant.name} runs in {', '.join(precisions) or 'no precision'} on a {kind.upper()}, not in {cell.precision}"
    if cell.tuning not in variant.tunings:
        return f"{variant.name} is measured {' and '.join(variant.tunings)}, not {cell.tuning}"
    reason = variant.without.get((cell.precision, cell.tuning))
    if reason is None and not model.unmeasurable:  # of such a model each framework says itself what it stumbles over
        reason = _without_form(variant, cell.precision, model)
        reason = reason or model.unfit(cell.batch_size) or model.not_fed_as(cell.input)
    return reason


def _without_form(variant: Variant, precision: str, model: ModelFiles) -> str | None:
    form = variant.form(precision)
    if not form or form in (model.forms or {}):
        return None
    return f"{variant.name} reads the form {form}: {model.lack(form)}"
