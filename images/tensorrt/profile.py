"""Which shapes an engine is built for, and what may be set from outside. Pure: no TensorRT, no GPU.

An engine holds one optimization profile, a range of batch sizes with the one that its kernels are tuned for.
Builds take minutes. One engine can serve all batch sizes of a job, tuned for the largest; small ones may be faster with their own.

Environment:
  FRAMEWATT_BATCH_SIZES         all batch sizes of the run ("1,8,512"); the host sets it from the plan, the same for
                                every worker of a run, finished cells included, or a resumed run would build again
  FRAMEWATT_TRT_PROFILES        best (default): for each batch size the faster one of an engine of range and one of each;
                                range: one engine from the smallest to the largest batch size;
                                each: one engine per batch size, of static shape; or bands, MIN-MAX, MIN-MAX@OPT or one size:
                                "1-16@8,17-511,512" (a batch size outside all bands gets its own engine)
  FRAMEWATT_TRT_TACTIC_SOURCES  names of trt.TacticSource ("EDGE_MASK_CONVOLUTIONS,JIT_CONVOLUTIONS");
                                unset leaves TensorRT's own choice
  FRAMEWATT_TRT_BUILDER_LEVEL   builder optimization level, 0 to 5; unset leaves TensorRT's own (3)
  FRAMEWATT_TRT_WORKSPACE_MIB   scratch memory that a tactic may use; default half of the device's memory, 16 GiB at most
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Mapping, Optional, Sequence, Tuple

from common.harness.adapter import Unsupported
from common.model_files import Tensor

_GIB = 1 << 30


@dataclass(frozen=True)
class Profile:
    """Smallest, tuned-for and largest batch size of one engine."""

    minimum: int
    optimum: int
    maximum: int

    def __post_init__(self) -> None:
        if not 1 <= self.minimum <= self.optimum <= self.maximum:
            raise Unsupported(f"batch size profile {self.minimum}-{self.maximum}@{self.optimum} is not in order")

    def __str__(self) -> str:
        if self.minimum == self.maximum:
            return f"b{self.minimum}"
        return f"b{self.minimum}-{self.maximum}@{self.optimum}"

    def covers(self, batch_size: int) -> bool:
        return self.minimum <= batch_size <= self.maximum


@dataclass(frozen=True)
class Options:
    """The environment, read once."""

    batch_sizes: Tuple[int, ...] = ()
    profiles: str = "best"
    tactic_sources: Tuple[str, ...] = ()
    builder_level: Optional[int] = None
    workspace_bytes: Optional[int] = None

    @classmethod
    def read(cls, environment: Mapping[str, str]) -> Options:
        """Raises Unsupported, naming the variable, for a value that is not one."""
        level = _number(environment, "FRAMEWATT_TRT_BUILDER_LEVEL")
        if level is not None and level > 5:
            raise Unsupported(f"FRAMEWATT_TRT_BUILDER_LEVEL is {level}; TensorRT has 0 to 5")
        workspace = _number(environment, "FRAMEWATT_TRT_WORKSPACE_MIB")
        sizes = [_positive("FRAMEWATT_BATCH_SIZES", word) for word in _words(environment, "FRAMEWATT_BATCH_SIZES")]
        options = cls(
            batch_sizes=tuple(sorted(set(sizes))),
            profiles=environment.get("FRAMEWATT_TRT_PROFILES", "").strip() or "best",
            tactic_sources=tuple(_words(environment, "FRAMEWATT_TRT_TACTIC_SOURCES")),
            builder_level=level,
            workspace_bytes=None if workspace is None else workspace << 20,
        )
        if options.profiles not in ("best", "range", "each"):
            parse_bands(options.profiles)
        return options


def choose_profile(batch_size: int, options: Options, fixed_batch: Optional[int] = None) -> Profile:
    """The profile of the engine that serves this batch size (best: of the one for many).

    fixed_batch: the only one that the model takes, if it is so.
    """
    alone = Profile(batch_size, batch_size, batch_size)
    if fixed_batch is not None:
        return alone
    if options.profiles == "each":
        return alone
    if options.profiles in ("best", "range"):
        if batch_size not in options.batch_sizes:
            return alone
        return Profile(options.batch_sizes[0], options.batch_sizes[-1], options.batch_sizes[-1])
    for band in parse_bands(options.profiles):
        if band.covers(batch_size):
            return band
    return alone


def shapes_of(shape: Sequence[int], profile: Profile, tensor: Optional[Tensor] = None) -> List[Tuple[int, ...]]:
    """Shapes of an input at the smallest, the tuned-for and the largest batch size, no wider than the cells need.

    shape: as the network has it, -1 for an open axis. tensor: the same input in the model's description: where its batch
    is, and the size of every other axis, which all cells share, so that open ones have no range at all. Without it the
    batch is axis 0. Raises Unsupported for a batch that is fixed at another size, for one on an axis that the network's input
    has not, and for an open axis of unknown size.
    """
    axis = tensor.batch_axis if tensor is not None else 0 if len(shape) else None
    if axis is not None and axis >= len(shape):
        raise Unsupported(f"the model's input shape {tuple(shape)} has no axis {axis}, which should be the batch")
    known = tensor.shape if tensor is not None and len(tensor.shape) == len(shape) else tuple(shape)
    sizes = [of_model if size == -1 else size for size, of_model in zip(shape, known)]
    if any(size < 0 for number, size in enumerate(sizes) if number != axis):
        raise Unsupported(f"the model's input shape {tuple(shape)} is dynamic beyond the batch axis")
    if axis is None:
        return [tuple(sizes)] * 3
    if shape[axis] != -1 and not profile.minimum == profile.maximum == shape[axis]:
        raise Unsupported(f"the model's batch size is fixed at {shape[axis]}")
    return [(*sizes[:axis], size, *sizes[axis + 1 :]) for size in (profile.minimum, profile.optimum, profile.maximum)]


def parse_bands(text: str) -> List[Profile]:
    """`1-16@8,17-511,512` as profiles; a band without `@` is tuned for its largest batch size, a single size is a band."""
    name = "FRAMEWATT_TRT_PROFILES"
    bands = []
    for word in text.split(","):
        limits, at, tuned = word.strip().partition("@")
        low, dash, high = limits.partition("-")
        high = high if dash else low
        if not low.strip().isdecimal():
            raise Unsupported(f"{name} has '{word}'; it takes best, range, each, or bands like 1-16@8,17-511,512")
        try:
            bands.append(Profile(*(_positive(name, part) for part in (low, tuned if at else high, high))))
        except Unsupported as error:
            raise Unsupported(f"{name} has '{word}': {str(error).replace(f'{name} has ', '')}") from error
    return bands


def tactic_mask(names: Sequence[str], members: Mapping[str, int]) -> Optional[int]:
    """Bit mask for IBuilderConfig.set_tactic_sources; None (leave TensorRT's own) for no names.

    members: name -> value of trt.TacticSource in this version.
    """
    if not names:
        return None
    mask = 0
    for name in names:
        if name not in members:
            raise Unsupported(
                f"FRAMEWATT_TRT_TACTIC_SOURCES has '{name}'; this TensorRT has {', '.join(sorted(members))}"
            )
        mask |= 1 << members[name]
    return mask


def workspace_limit(options: Options, device_memory_bytes: int) -> int:
    """Bytes for MemoryPoolType.WORKSPACE. A share of the whole device, not of what is free: it is part of the cache key."""
    if options.workspace_bytes is not None:
        return options.workspace_bytes
    return min(16 * _GIB, device_memory_bytes // 2)


def _words(environment: Mapping[str, str], name: str) -> List[str]:
    return [word.strip() for word in environment.get(name, "").split(",") if word.strip()]


def _positive(name: str, text: str) -> int:
    if not text.strip().isdecimal() or int(text) < 1:
        raise Unsupported(f"{name} has '{text.strip()}'; it takes positive whole numbers")
    return int(text)


def _number(environment: Mapping[str, str], name: str) -> Optional[int]:
    text = environment.get(name, "").strip()
    if not text:
        return None
    if not text.isdecimal():
        raise Unsupported(f"{name} is '{text}'; it takes a whole number")
    return int(text)
