"""``python -m benchmark``."""

import os
import sys

if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:  # noqa: PTH109 - pathlib costs start-up time
    # `python -m` has the current folder searched first: a torch.py there would be taken for torch. What
    # belongs to the suite is found beside it.
    del sys.path[0]

from benchmark.cli.main import main

sys.exit(main())
