"""How a module may be run, by level of tuning: what the adapter chooses from for each shape."""

from __future__ import annotations

from typing import List, NamedTuple

#: as the first tutorial has it
PLAIN = "plain call"
#: of a row at the level rewritten whose convolutions are all PyTorch's own: whether there was a choice for each of them
NOT_REWRITTEN = {
    False: "the way of tuned won, nothing is rewritten",
    True: "PyTorch's own convolutions won, nothing is rewritten",
}
LAYOUTS = ("channels-last", "channels-first")


class Run(NamedTuple):
    """How it is run. layout: "" as imported. graph: fixed buffers and a CUDA graph. frozen: of the compiler, weights as constants.
    own_convolutions: each in the fastest of the algorithms of convolutions.py, which are not PyTorch's. folded: with scales, shifts
    and batch normalisations in the weights of the convolutions before them, of a model that has such."""

    layout: str = ""
    graph: bool = False
    frozen: bool = False
    own_convolutions: bool = False
    folded: bool = False

    @property
    def plain(self) -> bool:
        """Whether the module is called as a tutorial calls it, whatever was done to it."""
        return self._replace(folded=False) == Run()

    @property
    def name(self) -> str:
        words = [
            self.layout,
            "CUDA graph" if self.graph else "",
            "frozen" if self.frozen else "",
            "own convolutions" if self.own_convolutions else "",
            PLAIN if self.plain else "",
            "folded" if self.folded else "",
        ]
        return ", ".join(word for word in words if word)


def possible(variant: str, level: str, on_gpu: bool, single: bool, folds: bool = False) -> List[Run]:
    """What is tried at a level of tuning, the ways of the level below included, the most promising first.

    single: whether the module computes in float32 (or TensorFloat-32): half precision wants channels-last. folds: whether the
    model has what can be folded into convolutions, which `stock` leaves alone.
    """
    if level == "stock":
        return [Run()]
    tuned = _tuned(variant, on_gpu, single)
    own = [one._replace(own_convolutions=True, folded=folds) for one in tuned] if level == "rewritten" else []
    if folds:
        tuned = [one._replace(folded=True) for one in tuned]
        tuned += [] if on_gpu else [Run(folded=True)]  # a CUDA graph gains on any GPU
    return [*own, *tuned, Run()]


def _tuned(variant: str, on_gpu: bool, single: bool) -> List[Run]:
    """What `tuned` adds to the plain call."""
    if variant == "torchcompile":
        return [Run("channels-last", graph=on_gpu, frozen=True)]
    if variant == "keras-torch":  # the layout is Keras' own affair
        return [Run(graph=True) if on_gpu else Run("as Keras has it")]
    return [Run(layout, graph=on_gpu) for layout in (LAYOUTS if on_gpu and single else LAYOUTS[:1])]
