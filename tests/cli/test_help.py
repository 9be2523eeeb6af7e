"""The help of long commands: sections, aligned, in any terminal."""

import re

import click
import pytest
from click.testing import CliRunner

from smlmlp_dask.cli import smlmlp
from smlmlp_dask.cli.options import LONG, SECTIONS, SectionedOption

COMMANDS = sorted(smlmlp.commands)


@pytest.fixture
def shown(monkeypatch):
    """Return the lines of a command's help in a terminal of so many columns."""

    def lines(name, columns=80):
        monkeypatch.setenv("COLUMNS", str(columns))
        above = click.Context(smlmlp, info_name="smlmlp-dask", **smlmlp.context_settings)
        context = click.Context(smlmlp.commands[name], above, info_name=name)
        return context.get_help().splitlines()

    return lines


def titles(lines):
    return [line[:-1] for line in lines if re.fullmatch(r"[A-Z][A-Za-z ]+:", line)]


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_fits_the_terminal(shown, command, columns):
    lines = shown(command, columns)
    options = lines[next(i for i, line in enumerate(lines) if line.endswith(":")) :]
    assert max(map(len, options)) <= columns
    assert max(map(len, lines)) <= columns, "nor is an example broken within a word"
    if columns == 120 and command == "run":
        assert max(map(len, options)) > 80  # it uses the room


def test_the_list_of_all_commands_fits_80_columns():
    lines = CliRunner().invoke(smlmlp, ["--help"]).stdout.splitlines()
    assert max(map(len, lines)) <= 80


def test_what_belongs_together_stands_together(shown):
    lines = shown("run")
    assert titles(lines) == list(SECTIONS)
    text = "\n".join(lines)
    for before, option in [
        ("Sources", "--bbox"),
        ("Recording", "--pixel-size"),
        ("Background", "-r, --radius"),
        ("Output", "--overwrite"),
        ("Output", "--save-job"),
        ("Where it runs", "--slurm"),
        ("Plan", "--dry-run"),
        ("Messages", "-h, --help"),
    ]:
        section = text.partition(f"\n{before}:\n")[2].partition("\n\n")[0]
        assert f"\n  {option} " in f"\n{section}", option


def test_the_texts_of_all_sections_begin_in_one_column(shown):
    begins = set()
    for line in shown("run"):
        if match := re.match(r"  (-\S.{1,28}?)  +\S", line):
            begins.add(match.end() - 1)
    assert len(begins) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_only_long_helps_have_sections(shown, command):
    n_options = sum(isinstance(p, click.Option) for p in smlmlp.commands[command].params) + 1
    found = titles(shown(command))
    assert (found == ["Options"]) == (n_options < LONG)


def test_an_option_of_a_long_help_names_a_section():
    for name in ("run", "convert"):
        for param in smlmlp.commands[name].params:
            if isinstance(param, click.Option):
                assert isinstance(param, SectionedOption), param.name
                assert param.section in SECTIONS, param.name


def test_limits_are_said_by_errors_alone(shown):
    assert "x>=" not in "\n".join(shown("run"))
    refused = CliRunner().invoke(smlmlp, ["run", "a.tif", "-o", "b.zarr", "--workers", "0"])
    assert "0 is not in the range x>=1" in refused.stderr
