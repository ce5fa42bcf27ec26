"""What `--scenario`, `--streams` and `--rate` ask for, resolved: one load for each cell that they make of a configuration."""

from __future__ import annotations

from dataclasses import dataclass

from common.errors import UserError
from common.host.cli import parsing as opt
from common.schema import SCENARIOS

DEFAULT_STREAMS = "2"
#: each stream is a thread with a whole framework instance
MOST_STREAMS = 256


@dataclass(frozen=True)
class Load:
    """scenario: one of schema.SCENARIOS. streams: multi-stream's. rate: arrivals a second, for server; else None."""

    scenario: str = "single-stream"
    streams: int = 1
    rate: float | None = None


def parse_loads(scenario: str, streams: str, rate: str) -> tuple[Load, ...]:
    """Comma lists as typed; empty text means the default. Raises UserError for what no scenario can be asked to do."""
    chosen = opt.choose("scenario", scenario or "single-stream", SCENARIOS)
    if streams and "multi-stream" not in chosen:
        raise UserError("--streams is for --scenario multi-stream, which is not asked for; leave one of them out")
    if rate and "server" not in chosen:
        raise UserError("--rate is for --scenario server, which is not asked for; leave one of them out")
    if "server" in chosen and not rate:
        raise UserError(
            "--scenario server needs --rate, mean arrivals a second, such as --rate 50,100; "
            "invoke peak finds the highest that a latency bound allows"
        )
    loads: list[Load] = []
    for name in chosen:
        if name == "multi-stream":
            loads += [Load(name, streams=count) for count in parse_streams(streams or DEFAULT_STREAMS)]
        elif name == "server":
            loads += [Load(name, rate=value) for value in parse_rates(rate)]
        else:
            loads.append(Load(name))
    return tuple(loads)


def parse_streams(text: str) -> list[int]:
    """A comma list of whole numbers from 1, each once."""
    counts = list(dict.fromkeys(opt.whole("--streams", word) for word in opt.split_list(text)))
    if not counts:
        raise UserError("no number of streams given; write for example --streams 2,4")
    if max(counts) > MOST_STREAMS:
        raise UserError(f"--streams {max(counts)} is more than framewatt handles ({MOST_STREAMS})")
    return counts


def parse_rates(text: str) -> list[float]:
    """A comma list of numbers above zero, each once."""
    rates = list(dict.fromkeys(opt.positive("--rate", word) for word in opt.split_list(text)))
    if not rates:
        raise UserError("no rate given; write for example --rate 50,100")
    keys = [f"{rate:g}" for rate in rates]
    if len(set(keys)) < len(keys):
        raise UserError("two of the rates are the same in the six digits that name a cell; leave one of them out")
    return rates
