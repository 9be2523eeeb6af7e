"""The command line in this process."""

import shlex

import numpy as np
from click.testing import CliRunner

from smlmlp_dask.cli import smlmlp

MOVIE = np.random.default_rng(5).poisson(200, (11, 20, 24)).astype(np.uint16)
"""What is in movie.tif of tests of commands."""


def call(*arguments):
    """Run a command; each argument may be of any type that is typed as its text."""
    return CliRunner().invoke(smlmlp, [str(argument) for argument in arguments])


def call_line(line):
    """Run a command as a shell would."""
    return call(*shlex.split(line))


class Called(Exception):
    """What a function was called with, instead of working."""


def called(monkeypatch, module, name, *command):
    """Return the arguments and keywords that a command passes on to a function."""

    def job(*arguments, **keywords):
        raise Called(arguments, keywords)

    monkeypatch.setattr(module, name, job)
    result = call(*command)
    assert isinstance(result.exception, Called), result.output
    return result.exception.args
