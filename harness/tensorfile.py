"""Files of torch.save, read as tensors and plain data alone: nothing in them is ever executed."""

import re
from pathlib import Path
from typing import Any

from harness.errors import UserError


def load_tensors(path: Path) -> Any:
    """The file's content, on the CPU.

    Raises UserError where the file is missing, damaged, or holds objects that only code could make (which it names).
    """
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except Exception as error:  # torch raises many kinds for a broken file
        raise UserError(f"{path}: cannot be read as plain tensors: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """Why, in one line; torch's own text would advise to execute what the file says."""
    found = re.search(r"GLOBAL (\S+)", str(error))
    if found:
        return f"reading it would execute {found[1]}, which is refused"
    return error.strerror if isinstance(error, OSError) and error.strerror else "damaged, or not a file of torch.save"
