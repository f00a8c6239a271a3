"""The program that the jobs run: `program.py INPUT OUTPUT_DIR TALLY FAILS SECONDS BYTES`.

What it writes follows from its input, but for one file, which holds the attempt's own name: outputs of two attempts
that were mixed are seen. TALLY is a file outside the job's folder, with a line for every start and every end.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import sys
import time
import uuid
from pathlib import Path

NONCE_FILE = "attempt.txt"
LARGE_FILE = "a folder/gro\u00df.bin"


def outputs(source: bytes, size: int) -> dict[str, bytes]:
    """What a job whose input is `source` must write: name and content; the attempt's own file is not among them."""
    digest = hashlib.sha256(source).hexdigest()
    return {
        "digest.txt": f"{digest}\n".encode(),
        "reversed.bin": source[::-1],
        LARGE_FILE: random.Random(digest).randbytes(size),
    }


def main(source: Path, folder: Path, tally: Path, fails: int, seconds: float, size: int) -> int:
    nonce = uuid.uuid4().hex
    attempt = _note(tally, "start", nonce)
    print(nonce, flush=True)  # the log tells the attempt, too
    if attempt <= fails:
        return _fail(folder, attempt)
    for name, body in outputs(source.read_bytes(), size).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    time.sleep(seconds)
    (folder / NONCE_FILE).write_text(nonce)
    _note(tally, "end", nonce)
    return 0


def _note(tally: Path, what: str, nonce: str) -> int:
    """Adds a line; how many starts the file tells by then."""
    with tally.open("ab") as file:
        file.write(f"{what} {nonce} {time.time():.3f}\n".encode())
    return tally.read_text().count("start")


def _fail(folder: Path, attempt: int) -> int:
    """Ends badly, in one of three ways, with an output that nobody must see."""
    (folder / "partial.bin").write_bytes(b"of a failed attempt")
    if attempt % 3 == 1:
        return 3
    if attempt % 3 == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0  # success, it says, but its files are missing


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(main(Path(words[0]), Path(words[1]), Path(words[2]), int(words[3]), float(words[4]), int(words[5])))
