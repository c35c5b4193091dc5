"""An independent training engine with the module paths, gin names and checkpoints of T5X. Not Google's T5X."""

import os
import signal
import sys

__version__ = "0.1.0"

# Python runs ``python -m t5x.train``, or the script t5x_train, and imports this first: until the libraries are loaded
# and t5x/configuration/command_line.py takes over, Ctrl-C ends the process without a traceback of their innards.
if (
    sys.argv
    and (sys.argv[0] == "-m" or os.path.basename(sys.argv[0]).startswith("t5x"))
    and signal.getsignal(signal.SIGINT) is signal.default_int_handler
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)
