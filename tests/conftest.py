"""Let the tests import the program, from whichever folder pytest is started."""

import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import command
import numpy as np
import pytest

import config

# The programs that the tests start inherit it, unless it is ignored, as in a background job.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def digits(tmp_path_factory):
    """Return the path of a file with the first 500 and 100 digits of MNIST."""
    path = tmp_path_factory.mktemp("data") / "digits.npz"
    np.savez(path, **command.first_digits())
    return path


@pytest.fixture
def constants(tmp_path, monkeypatch, digits):
    """Set config's constants for quick runs on a few digits; return a function that sets others."""

    def set_constants(**values):
        for name, value in values.items():
            monkeypatch.setattr(config, name, value, raising=False)

    set_constants(**command.SUPPLIED)
    set_constants(DATA_PATH=digits, RESULTS_DIR=tmp_path / "results", NB_EPOCH=2, VERBOSE=0)
    return set_constants


@pytest.fixture
def program(tmp_path, digits):
    """Return the folder of a copy of the program, for quick runs of the command."""
    return command.copy_program(tmp_path / "program", DATA_PATH=str(digits), NB_EPOCH=2, VERBOSE=0)
