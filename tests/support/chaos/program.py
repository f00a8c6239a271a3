"""The program that the jobs run: `program.py INPUT OUTPUT_DIR TALLY FAILS SECONDS BYTES`.

The input determines the output files, except for one file, which contains a name that is unique to the attempt. That
file reveals whether the outputs of two attempts were mixed. TALLY is a file outside the job's folder to which the
program appends a line at every start and every end.
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
    """Return the expected outputs for an input, keyed by file name, except the file that is unique to the attempt."""
    digest = hashlib.sha256(source).hexdigest()
    return {
        "digest.txt": f"{digest}\n".encode(),
        "reversed.bin": source[::-1],
        LARGE_FILE: random.Random(digest).randbytes(size),
    }


def main(source: Path, folder: Path, tally: Path, fails: int, seconds: float, size: int) -> int:
    nonce = uuid.uuid4().hex
    attempt = _append_line(tally, "start", nonce)
    print(nonce, flush=True)  # identifies the attempt in its log
    if attempt <= fails:
        return _fail(folder, attempt)
    for name, body in outputs(source.read_bytes(), size).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(body)
    time.sleep(seconds)
    (folder / NONCE_FILE).write_text(nonce)
    _append_line(tally, "end", nonce)
    return 0


def _append_line(tally: Path, event: str, nonce: str) -> int:
    """Append a line to the tally. Return the number of starts recorded so far."""
    with tally.open("ab") as file:
        file.write(f"{event} {nonce} {time.time():.3f}\n".encode())
    return tally.read_text().count("start")


def _fail(folder: Path, attempt: int) -> int:
    """Fail in one of three ways, and write an output that must not be uploaded."""
    (folder / "partial.bin").write_bytes(b"from a failed attempt")
    if attempt % 3 == 1:
        return 3
    if attempt % 3 == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0  # reports success without the expected files


if __name__ == "__main__":
    words = sys.argv[1:]
    sys.exit(main(Path(words[0]), Path(words[1]), Path(words[2]), int(words[3]), float(words[4]), int(words[5])))
