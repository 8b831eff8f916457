"""Byte code of what many processes import, kept where Python is told to write none.

To compile vLLM takes longer than all else in its import. Import this before it.
"""

import os
import sys
from pathlib import Path

if sys.dont_write_bytecode:
    # Apart from the sources, which are to stay as they are.
    sys.pycache_prefix = str(Path(__file__).parents[1] / ".pytest_cache" / "bytecode")
    sys.dont_write_bytecode = False
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
