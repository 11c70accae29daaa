"""Runs the tests of ami/'s scripts and prints their total as cargo does, for `./devhost test`.

Beside root and Docker they need BOXGATE_BIN (a directory with the programs), BOXGATE_IMAGE (the box image) and
BOXGATE_CLOUD_INIT_SCHEMA (the file of that name of the package cloud-init); XFS and loop devices.
"""

import sys
import unittest
from pathlib import Path

here = Path(__file__).parent
result = unittest.TextTestRunner(verbosity=2).run(unittest.TestLoader().discover(str(here)))
failed = len(result.errors) + len(result.failures)
passed = result.testsRun - failed - len(result.skipped)
print(f"test result: {'FAILED' if failed else 'ok'}. {passed} passed; {failed} failed; {len(result.skipped)} ignored")
sys.exit(failed > 0 or passed == 0)
