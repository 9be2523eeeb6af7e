"""What is printed of a store: its channels, how it was made, and whether it is whole."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from smlmlp_dask.filters.chains import recorded_chains
from smlmlp_dask.filters.wording import in_words, mean_alone
from smlmlp_dask.messages import counted, printable
from smlmlp_dask.movies.formats.zarr_movie import repair_command
from smlmlp_dask.pictures.origins import origins
from smlmlp_dask.pipeline.outputs import Outputs, clipping
from smlmlp_dask.pipeline.verify import VerifyReport
from smlmlp_dask.store.checking import clipped_pixels, glance
from smlmlp_dask.store.codecs import Storage, holds_raw
from smlmlp_dask.store.metadata import recorded_acquisitions
from smlmlp_dask.store.read import progress, read_attributes, refusing_damage

from .documents import CAMERA, recorded, refuse_without_arrays
from .errors import printing
from .tables import Fact, console, recorded_words, say, table_of, times

LISTED = 8
"""Most sources or channels in a list; a store of a file for each frame has very many."""


def print_store(path: Path) -> None:
    """Print what `info` says of a store, finished or not."""
    attributes = read_attributes(path)
    finished, state = attributes.get("finished"), progress(path, attributes)
    problems: list[str] = []
    if finished:
        refuse_without_arrays(path, attributes)
        problems = glance(path)
    with refusing_damage(path):
        shown: Any = (
            channels_table(attributes)
            if finished
            else f"unfinished: {state.done:,} of {counted(state.total, 'block')} "
            f"({state.done / max(1, state.total):.0%}); run it again with --resume"
        )
        whole = bool(finished and not problems)
        lines = [f"{name}: {text}" for name, text in _facts(path, attributes, whole=whole)]
    with printing():
        out = console()
        out.print(shown)
        for line in lines:
            say(out, line)
        for problem in problems:
            say(out, problem, "red")
        if problems:
            out.print(f"damaged: repair it by {repair_command(path)}", style="bold red")
        elif finished:
            out.print(f"finished; smlmlp-dask verify {path} checks every byte")


def print_finished(path: Path) -> None:
    """Print what a job has stored."""
    out, attributes = console(), read_attributes(path)
    out.print(channels_table(attributes))
    say(out, f"stored: {outputs_text(path, attributes, whole=True)}")
    out.print(f"finished: {path}")


def print_report(out: Console, report: VerifyReport) -> None:
    """Print what `verify` checked, found and repaired."""
    for problem in report.repaired:
        say(out, f"repaired: {problem.partition(';')[0]}")
    for problem in (*report.problems, *report.not_compared):
        say(out, problem)
    again = f", {counted(report.recomputed, 'block')} computed again" if report.recomputed else ""
    problems = counted(len(report.problems), "problem") if report.problems else "no problems"
    out.print(f"{counted(report.chunks, 'chunk')} checked{again}: {problems}")
    if report.not_compared and not report.problems:
        out.print("the store is whole; it was not compared with all of its movie")


def channels_table(attributes: Mapping[str, Any]) -> Table:
    """Tabulate the channels of a store, by its attributes."""
    plans = attributes["plan"]
    columns = {
        "channel": [str(i) for i in range(len(plans))],
        "frames×y×x": [times(plan["shape"]) for plan in plans],
    }
    chunks = {"chunks": [times(plan["chunks"]) for plan in plans]}
    if holds_raw(attributes):
        return table_of({**columns, "dtype": attributes["dtypes"], **chunks})
    chains = recorded_chains(attributes)
    head = "radius (y, x)" if all(map(mean_alone, chains)) else "steps"
    steps = [in_words(chain).replace(", then ", "\n") for chain in chains]
    factors = [f"{factor:.6f}" for factor in attributes["noise_corrections"]]
    return table_of({**columns, **chunks, head: steps, "noise correction": factors})


def outputs_text(path: Path, attributes: Mapping[str, Any], *, whole: bool) -> str:
    """Say what a store holds, and how much of a signal was clipped."""
    if holds_raw(attributes):
        return f"raw frames ({', '.join(dict.fromkeys(attributes['dtypes']))})"
    outputs = Outputs.recorded(attributes)
    texts = [f"{n} ({d})" for n, d in zip(outputs.names, outputs.dtypes, strict=True)]
    if attributes.get("photons"):
        texts.append("in photons")
    if outputs.pedestal is None:
        return ", ".join(texts)
    text = f"{', '.join(texts)}, pedestal {outputs.pedestal}"
    if not whole:
        return text
    clipped = sum(clipped_pixels(path, attributes) or ())
    told = clipping(clipped, outputs.pedestal) if clipped else "no pixel of the signal was clipped"
    return f"{text}; {told}"


def _facts(path: Path, attributes: Mapping[str, Any], *, whole: bool) -> Iterator[Fact]:
    yield "stored", outputs_text(path, attributes, whole=whole)
    for name in CAMERA if "photons" in attributes else ():
        values = dict.fromkeys(map(str, attributes[name]))
        yield name, printable(", ".join(values))
    yield "codec", _codec(Storage.recorded(attributes))
    yield from _numbered("source", [printable(source) for source in attributes["sources"]])
    yield from _numbered("channel", _channels(attributes))
    if not holds_raw(attributes):
        device = " on a GPU" if attributes["cuda"] else ""
        yield "engine", f"{attributes['engine']} {attributes['engine_version']}{device}"
    yield "versions", ", ".join(f"{k} {v}" for k, v in attributes["versions"].items())


def _codec(storage: Storage) -> str:
    if storage.keep_bits is None:
        return f"{storage.codec}, without loss"
    error = storage.relative_error or 0.0
    return (
        f"{storage.codec}, after rounding to {storage.keep_bits} of 23 mantissa bits (a relative "
        f"error of at most {100 * error:.2g} %)"
    )


def _channels(attributes: Mapping[str, Any]) -> list[str]:
    """Say how each channel was recorded, and of what it is a part; nothing if neither is known."""
    known = recorded_acquisitions(attributes, len(attributes["plan"]))
    parts = origins(attributes)
    if set(parts) <= {printable(Path(source).name) for source in attributes["sources"]}:
        parts = [""] * len(parts)  # each is all of its source
    words = (recorded_words(recorded(one)) for one in known)
    return [", ".join(filter(None, both)) for both in zip(words, parts, strict=True)]


def _numbered(what: str, texts: Sequence[str]) -> Iterator[Fact]:
    for i, text in enumerate(texts[:LISTED]):
        if text:
            yield what if len(texts) == 1 else f"{what} {i}", text
    if len(texts) > LISTED:
        yield "more", f"{counted(len(texts) - LISTED, what)} (--json lists them)"
