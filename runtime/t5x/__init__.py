"""An independent training engine with the module paths, gin names and checkpoints of T5X. Not Google's T5X."""

import os
import signal
import sys

__version__ = "0.1.0"

# This is the first module that ``python -m t5x.train`` and the script t5x_train import. While the libraries are being
# imported, Ctrl-C ends the process without a traceback; then t5x/configuration/command_line.py installs its handler.
if (
    sys.argv
    and (sys.argv[0] == "-m" or os.path.basename(sys.argv[0]).startswith("t5x"))
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
