"""`python examples/renderer`, or `python -m examples.renderer`."""

import sys
from pathlib import Path

if __package__:
    from .program import main
else:
    # A folder that is run has no package to import from.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from renderer.program import main

if __name__ == "__main__":
    main()
