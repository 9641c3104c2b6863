"""`python -m grain_molmo` is `grain-molmo`."""

import sys

from grain_molmo.tools.cli import main

sys.exit(main())
