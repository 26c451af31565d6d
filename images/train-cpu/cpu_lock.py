"""Split a lock for an image without CUDA: what keeps its hashes, and torch, whose CPU wheels have others.

python3 cpu_lock.py LOCK FOLDER writes FOLDER/hashed.txt and FOLDER/torch.txt. Needs the standard library alone.
"""

import re
import sys
from pathlib import Path

# With CPU wheels nothing imports these; torch names them as requirements of its CUDA build only.
_CUDA = re.compile(r"(nvidia-|cuda-|triton)")
_TORCH = ("torch", "torchvision")


def split_lock(text: str) -> tuple[str, str]:
    """Return the lock without CUDA and torch, and torch's pins without hashes.

    Args:
        text: Of a lock as uv writes it: a line a package, its hashes indented below.

    Raises:
        ValueError: Torch is not in the lock.
    """
    entries = re.findall(r"^([a-z0-9][\w.-]*)(==[^\n]*(?:\n[ ]+[^\n]*)*)", text, flags=re.MULTILINE)
    torch = [f"{name}{rest.split()[0]}" for name, rest in entries if name in _TORCH]
    if len(torch) != len(_TORCH):
        raise ValueError(f"expected {', '.join(_TORCH)} in the lock, found {torch or 'none'}")
    hashed = [name + rest for name, rest in entries if name not in _TORCH and not _CUDA.match(name)]
    return "\n".join(hashed) + "\n", "\n".join(torch) + "\n"


if __name__ == "__main__":
    lock, folder = Path(sys.argv[1]), Path(sys.argv[2])
    for name, part in zip(("hashed.txt", "torch.txt"), split_lock(lock.read_text()), strict=True):
        (folder / name).write_text(part)
