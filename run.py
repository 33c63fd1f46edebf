#!/usr/bin/env python3
"""The project's commands, for a machine with nothing but Python 3.11 and pip; `run.py --help` lists them.

Uses the standard library only: it creates `.venv`, installs `requirements.txt` there, and continues in it.
"""

import sys

if sys.version_info < (3, 11):
    sys.exit(f"Python 3.11 or later is needed; this is {sys.version.split()[0]}. Try: python3.11 run.py")

from tools.runner import arguments, stop_signals, venv

if __name__ == "__main__":
    arguments.parse()  # report wrong arguments before anything is installed
    stop_signals.listen()
    try:
        venv.ensure()
        venv.go_on(sys.argv[1:])
    except venv.InstallFailed as error:
        sys.exit(f"error: {error}")
    except stop_signals.Stopped:
        sys.exit(130)
