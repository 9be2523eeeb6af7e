"""Options in the sections of a long help: what belongs together stands together."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

SECTIONS = ("Sources", "Recording", "Background", "Output", "Where it runs", "Plan", "Messages")
"""Their order; an option without a section is one of the last."""

LONG = 12
"""Fewest options of a help that has sections."""

NAMES_WIDTH = 30
"""Most columns of an option's names; what they mean begins below longer ones."""


class SectionedOption(click.Option):
    """An option that knows its section."""

    def __init__(self, *names: Any, section: str = SECTIONS[-1], **settings: Any) -> None:
        super().__init__(*names, **settings)
        self.section = section

    def get_help_extra(self, ctx: click.Context) -> click.types.OptionHelpExtra:
        """Return what stands in brackets; limits such as x>=0 do not: an error says them."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


F = TypeVar("F", bound=Callable[..., Any])


def sectioned(section: str, *names: str, **settings: Any) -> Callable[[F], F]:
    """Declare an option of a section, as `click.option` does."""
    return click.option(*names, cls=SectionedOption, section=section, **settings)


def write_options(
    command: click.Command, ctx: click.Context, formatter: click.HelpFormatter
) -> None:
    """Write the options of a command: of a long one in sections, else in one."""
    params = [param for param in command.get_params(ctx) if isinstance(param, click.Option)]
    records = [(param, record) for param in params if (record := param.get_help_record(ctx))]
    found: dict[str, list[tuple[str, str]]] = {name: [] for name in SECTIONS}
    for param, record in records:
        found[getattr(param, "section", SECTIONS[-1])].append(record)
    if len(records) < LONG:
        found = {"Options": [record for _, record in records]}
    widest = min(NAMES_WIDTH, max((len(names) for _, (names, _) in records), default=0))
    for title, rows in found.items():
        if rows:
            (names, text), *others = rows
            with formatter.section(title):  # the texts of all sections begin in one column
                formatter.write_dl([(names.ljust(widest), text), *others], NAMES_WIDTH)
