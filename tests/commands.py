"""The command line in this process."""

import shlex

from click.testing import CliRunner

from smlmlp_dask.cli import smlmlp


def call(*arguments):
    """Run a command; each argument may be of any type that is typed as its text."""
    return CliRunner().invoke(smlmlp, [str(argument) for argument in arguments])


def typed(line):
    """Run a command as it is typed in a shell."""
    return call(*shlex.split(line))
