"""Reading every image file once before training: is it sound, and what are its bytes?"""

import io
import os
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from thawlab.data.decoding import decode
from thawlab.data.images import bytes_hash
from thawlab.data.workers import available_cores

_SILENT_SECONDS = 2.0  # a check shorter than this shows no bar


@dataclass(frozen=True)
class Checked:
    """What one file turned out to be."""

    hash: str  # `bytes_hash` of the file; "" if it cannot be read
    problem: str  # why it is no usable image; "" if it is one


def check_files(paths: Sequence[str]) -> list[Checked]:
    """Hash and decode every file, in parallel; a progress bar on standard error appears when that takes long.

    Threads are enough: reading, hashing and decoding all happen outside Python's lock. 3,409 photographs of
    400 × 533 pixels take 1.6 s on 2 cores.
    """
    done: list[Checked] = []
    began = time.monotonic()
    progress = _progress_bar()
    task = progress.add_task("", total=len(paths))
    with warnings.catch_warnings(), ThreadPoolExecutor(available_cores()) as pool:
        warnings.simplefilter("ignore")  # Pillow warns of large images and odd metadata, which are no problem here
        try:
            for checked in pool.map(check_file, paths):
                done.append(checked)
                progress.update(task, completed=len(done))
                if time.monotonic() - began > _SILENT_SECONDS and not progress.disable:
                    progress.start()
        finally:
            if progress.live.is_started:
                progress.stop()
    return done


def check_file(path: str) -> Checked:
    """Hash one file and decode it completely."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        dangling = isinstance(error, FileNotFoundError) and Path(path).is_symlink()
        return Checked("", "a link to nowhere" if dangling else (error.strerror or str(error)).lower())
    return Checked(bytes_hash(data), _problem(data))


def _problem(data: bytes) -> str:
    if not data:
        return "an empty file"
    try:
        decode(io.BytesIO(data), coarse=True)
    except UnidentifiedImageError:
        return "not an image"
    except Image.DecompressionBombError as error:
        return f"absurdly large: {error}".split(", could be")[0]
    except Exception as error:  # decoders raise nearly anything on damaged data: OSError, SyntaxError, struct.error …
        return f"damaged: {error}"
    return ""


def _progress_bar() -> Progress:
    console = Console(stderr=True)
    first = os.environ.get("LOCAL_RANK", "0") == "0"  # one bar, not one for each process of a distributed run
    columns = (TextColumn("checking images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not (first and console.is_terminal))
