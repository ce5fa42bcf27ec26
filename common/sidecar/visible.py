"""Which of the machine's GPUs a process may use: what Slurm, a container runtime or a person said in CUDA_VISIBLE_DEVICES.

The rules are those of the CUDA programming guide (environment variables): a comma list of indices or of UUIDs that may be
shortened as long as they are unique; at the first word that names no GPU the list ends; without the variable all of them.
NVML, which this project asks, does not look at the variable.
"""

from __future__ import annotations

from typing import List, Mapping, Optional, Sequence, Tuple

VARIABLE = "CUDA_VISIBLE_DEVICES"
ORDER = "CUDA_DEVICE_ORDER"


def visible(gpus: Sequence[Tuple[int, str, str]], environment: Mapping[str, str]) -> Optional[List[int]]:
    """NVML's indices of the GPUs that may be used, in the variable's order; None where the variable is not set.

    gpus: (index, UUID, product) of all of them. Raises LookupError, in one line, for a slice of a GPU (MIG), whose power
    nobody can tell, and for indices that mean different GPUs to CUDA and to NVML.
    """
    text = environment.get(VARIABLE)
    if text is None:
        return None
    chosen: List[int] = []
    by_index = False
    for word in (part.strip() for part in text.split(",")):
        if word.startswith("MIG-"):
            raise LookupError(
                f"{VARIABLE}={text} names a slice of a GPU (MIG); power is known of whole GPUs only, so framewatt measures "
                "whole ones: take another, or leave MIG mode"
            )
        found = _named(word, gpus)
        if found is None:
            break
        by_index = by_index or not word.startswith("GPU-")
        if found not in chosen:
            chosen.append(found)
    if by_index and 0 < len(chosen) < len(gpus) and _order_unknown(gpus, environment):
        raise LookupError(
            f"{VARIABLE}={text} gives indices, which CUDA counts from the fastest GPU on while NVML counts by PCI bus, and "
            f"the GPUs differ: set {ORDER}=PCI_BUS_ID, or name them by UUID"
        )
    return chosen


def _named(word: str, gpus: Sequence[Tuple[int, str, str]]) -> Optional[int]:
    """The index of the one GPU that the word names, else None: also for "", -1 and NoDevFiles."""
    if word.startswith("GPU-"):
        found = [index for index, uuid, _ in gpus if uuid.startswith(word)]
    elif word.isascii() and word.isdigit():
        found = [index for index, _, _ in gpus if index == int(word)]
    else:
        found = []
    return found[0] if len(found) == 1 else None


def _order_unknown(gpus: Sequence[Tuple[int, str, str]], environment: Mapping[str, str]) -> bool:
    return environment.get(ORDER) != "PCI_BUS_ID" and len({product for _, _, product in gpus}) > 1
