"""How a module may be run, by level of tuning: what the adapter chooses from for each shape."""

from __future__ import annotations

from typing import List, NamedTuple

#: as the first tutorial has it
PLAIN = "plain call"
LAYOUTS = ("channels-last", "channels-first")


class Run(NamedTuple):
    """How it is run. layout: "" as imported. graph: fixed buffers and a CUDA graph. frozen: of the compiler, weights as constants.
    own_convolutions: each in the fastest of the algorithms of convolutions.py, which are not PyTorch's."""

    layout: str = ""
    graph: bool = False
    frozen: bool = False
    own_convolutions: bool = False

    @property
    def plain(self) -> bool:
        return self == Run()

    @property
    def name(self) -> str:
        words = [
            self.layout,
            "CUDA graph" if self.graph else "",
            "frozen" if self.frozen else "",
            "own convolutions" if self.own_convolutions else "",
        ]
        return ", ".join(word for word in words if word) or PLAIN


def possible(variant: str, level: str, on_gpu: bool, single: bool) -> List[Run]:
    """What is tried at a level of tuning, the ways of the level below included, the most promising first.

    single: whether the module computes in float32 (or TensorFloat-32): half precision wants channels-last.
    """
    if level == "stock":
        return [Run()]
    if variant == "torchcompile":
        return [Run("channels-last", graph=on_gpu, frozen=True), Run()]
    if variant == "keras-torch":  # the layout is Keras' own affair
        return [Run(graph=True), Run()] if on_gpu else [Run("as Keras has it"), Run()]
    layouts = LAYOUTS if on_gpu and single else LAYOUTS[:1]
    tuned = [Run(layout, graph=on_gpu) for layout in layouts] + [Run()]
    if level == "tuned":
        return tuned
    return [one._replace(own_convolutions=True) for one in tuned[:-1]] + tuned
