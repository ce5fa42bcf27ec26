"""What `invoke selfbench` measures, by the options that were typed: one thing, and no option that it does not read."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from common.errors import UserError

#: option that says what is measured -> the further options that it reads; "": without any of them. The first one typed counts:
#: --order reads --gpu, which alone is a measurement of its own
MODES: Mapping[str, tuple[str, ...]] = {
    "fleet": (),
    "order": ("gpu", "framework", "precision", "batch_sizes", "rounds", "threads", "python"),
    "docker": (),
    "notebook": ("framework",),
    "gpu": ("framework", "precision", "python"),
    "": ("statistics",),
}


def mode_of(typed: Collection[str]) -> str:
    """The mode, a key of MODES. typed: names of the options on the command line. Raises UserError for two, and for idle options."""
    mode = next((name for name in MODES if name in typed), "")
    others = [name for name in MODES if name in typed and name not in (mode, *MODES[mode])]
    if others:
        raise UserError(f"--{mode} and --{others[0]} are two measurements; give one of them")
    readers = {
        option: [f"--{name}" if name else "selfbench alone" for name, reads in MODES.items() if option in reads]
        for option in sorted(typed)
    }
    for option, names in readers.items():
        if names and option not in (mode, *MODES[mode]):
            what = f"selfbench --{mode}" if mode else "selfbench alone"
            raise UserError(
                f"{what} does not read --{option.replace('_', '-')}; {' and '.join(names)} {'does' if len(names) == 1 else 'do'}"
            )
    return mode
