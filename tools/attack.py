"""Runs the programs of `tests/attacks` for any time: `tools/attack.py --help`."""

import faulthandler
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from attacks.__main__ import main

faulthandler.enable()
sys.exit(main())
