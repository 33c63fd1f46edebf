#!/usr/bin/env python3
"""The project's commands, for a machine with nothing but Python 3.11 and pip: demo, test, lint.

Uses the standard library alone: it makes `.venv`, installs what `requirements.txt` pins, and goes on in there.
"""

import os
import sys

if sys.version_info < (3, 11):
    sys.exit(f"Python 3.11 or later is needed; this is {sys.version.split()[0]}. Try: python3.11 run.py")

from project.runner import arguments, venv

if __name__ == "__main__":
    arguments.parse()  # wrong arguments are answered before anything is installed
    try:
        python = venv.ensure()
    except venv.InstallFailed as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    os.execv(python, [str(python), "-m", "project.runner", *sys.argv[1:]])
