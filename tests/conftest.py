"""Let the tests import the program, from whichever folder pytest is started."""

import os
import signal
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# The programs that the tests start inherit it, unless it is ignored, as in a background job.
signal.signal(signal.SIGINT, signal.default_int_handler)
