"""The products of a large text, kept on disk for the next run and for the other processes of this one."""

import errno
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar

import datasets
import pyarrow as pa
from filelock import FileLock, Timeout

from training.log import logger
from vanilla_transformer.errors import TextError

T = TypeVar("T")

# To be raised when something else is made of the same text.
FORMAT = 1
LOCK_SECONDS = 2  # after which it is said that another run prepares the same


def cache_folder() -> Path:
    """The folder for large texts, in the cache of `datasets`."""
    return Path(datasets.config.HF_DATASETS_CACHE) / "vanilla_transformer"


def name_content(*parts: object) -> str:
    """A name for content, by bytes and by what else it follows from."""
    summary = hashlib.blake2b(str(FORMAT).encode(), digest_size=16)
    for part in parts:
        content = part if isinstance(part, bytes) else json.dumps(part, default=str).encode()
        summary.update(len(content).to_bytes(8, "little") + content)
    return summary.hexdigest()


def digest_file(path: str | Path) -> str:
    """The hash of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def digest_lines(*sides: Iterable[str]) -> str:
    """The hash of lines of text."""
    summary = hashlib.blake2b(digest_size=16)
    for side in sides:
        for line in side:
            summary.update(line.encode())
            summary.update(b"\0")
    return summary.hexdigest()


def keep(name: str, write: Callable[[Path], None], read: Callable[[Path], T]) -> T:
    """
    Return what `read` finds in a folder of the cache, which `write` fills first if it is absent or damaged.

    The folder gets its name when it is whole. One process at a time works on it, and the others find it.

    Raises:
        TextError: if the disk is full, or the cache cannot be written.
    """
    folder = cache_folder() / name
    part = folder.with_name(f"{name}.part")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = wait_for_lock(folder)
    except OSError as error:
        raise TextError(
            f"The cache {folder.parent} cannot be written: {error.strerror}. Name another folder: "
            "HF_DATASETS_CACHE=..."
        ) from error
    try:
        if folder.is_dir():
            try:
                return read(folder)
            except (pa.ArrowException, OSError, ValueError, KeyError):
                logger.info(f"{folder} is damaged, and is made anew")
                shutil.rmtree(folder)
        shutil.rmtree(part, ignore_errors=True)  # of a run that was killed
        part.mkdir()
        try:
            write(part)
            part.rename(folder)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise TextError(
                f"The cache {folder.parent} must have room for the text and its token ids, but its disk is full. Free "
                "some space, or name a folder on another disk: HF_DATASETS_CACHE=..."
            ) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)
        return read(folder)
    finally:
        lock.release()


def wait_for_lock(folder: Path) -> FileLock:
    """The lock of a folder of the cache, once no other process has it."""
    lock = FileLock(f"{folder}.lock")
    try:
        lock.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        logger.info("waiting for another run, which prepares the same text")
        lock.acquire()
    return lock
