"""Let the tests import the program, from whichever folder pytest is started."""

import os
import sys

from command import ROOT

sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
