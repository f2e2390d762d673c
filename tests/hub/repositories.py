"""The content of the Hub: repositories with their commits, references and large files, all in memory."""

import base64
import codecs
import hashlib
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from tests.hub.cards import Json

LARGE_SUFFIXES = (".safetensors", ".bin", ".pt", ".png")
LARGEST_REGULAR = 1_000_000


class HubError(Exception):
    """A refusal of the Hub, with the HTTP status and the code by which clients tell the reasons apart."""

    def __init__(self, status: int, message: str, code: str | None = None, commit: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        headers = {"X-Error-Message": message, "X-Error-Code": code, "X-Repo-Commit": commit}
        self.headers = {name: value for name, value in headers.items() if value is not None}


def blob_oid(data: bytes) -> str:
    """The id that git gives to a file."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass(frozen=True)
class File:
    """A file of a commit. A large one is kept beside git, which holds a pointer to it."""

    data: bytes
    large: bool = False
    xet_hash: str | None = None

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def pointer(self) -> bytes:
        lines = ("version https://git-lfs.github.com/spec/v1", f"oid sha256:{self.sha256}", f"size {len(self.data)}")
        return "".join(f"{line}\n" for line in lines).encode()

    @cached_property
    def git_oid(self) -> str:
        return blob_oid(self.pointer if self.large else self.data)

    @property
    def etag(self) -> str:
        """The id by which a client knows the content, and sees that it need not be uploaded again."""
        return self.sha256 if self.large else self.git_oid


@dataclass(frozen=True)
class Commit:
    """A state of a repository: `files` holds all of it, not only the changes."""

    oid: str
    title: str
    description: str
    author: str
    date: str
    parent: str | None
    entries: dict[str, File] = field(repr=False)

    @property
    def files(self) -> dict[str, bytes]:
        return {path: file.data for path, file in self.entries.items()}

    def file(self, path: str) -> File:
        if path not in self.entries:
            raise HubError(404, "Entry not found", "EntryNotFound", commit=self.oid)
        return self.entries[path]

    def info(self, path: str) -> dict[str, Json] | None:
        """A file or a directory as the tree shows it; `None` where there is neither."""
        if file := self.entries.get(path):
            info = {"type": "file", "path": path, "size": len(file.data), "oid": file.git_oid}
            if file.large:
                info["lfs"] = {"oid": file.sha256, "size": len(file.data), "pointerSize": len(file.pointer)}
            return info | ({"xetHash": file.xet_hash} if file.xet_hash else {})
        inside = [f"{name}\0{file.git_oid}\n" for name, file in sorted(self.entries.items()) if is_inside(name, path)]
        if not inside:
            return None
        return {
            "type": "directory",
            "path": path,
            "size": 0,
            "oid": hashlib.sha1("".join(inside).encode()).hexdigest(),
        }

    def tree(self, folder: str, recursive: bool) -> list[dict[str, Json] | None]:
        """The content of a folder, the folders in it too."""
        paths = set()
        for path in self.entries:
            if is_inside(path, folder):
                parts = path.removeprefix(f"{folder}/" if folder else "").split("/")
                for depth in range(1, len(parts) + 1 if recursive else 2):
                    paths.add("/".join([*filter(None, [folder]), *parts[:depth]]))
        if folder and not paths:
            raise HubError(404, f"{folder} does not exist on this revision", "EntryNotFound", commit=self.oid)
        return [self.info(path) for path in sorted(paths)]


def is_inside(path: str, folder: str) -> bool:
    return not folder or path.startswith(f"{folder}/")


def upload_mode(path: str, size: int, sample: bytes) -> str:
    """How a client is to send a file. An empty one is always regular: there is nothing to store beside git."""
    if size == 0:
        return "regular"
    try:
        # The sample may end within a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        return "lfs"
    return "lfs" if path.endswith(LARGE_SUFFIXES) or size > LARGEST_REGULAR or "\0" in text else "regular"


class XetStore:
    """
    The store that hf_xet keeps in a directory when it is given `local://` for a server.

    Clients write to it directly. The Hub learns only the SHA-256 of what a commit names, so the store's shards are
    read for the file that has it. One process at a time can have the store open: hf_xet locks it.
    """

    READ = (
        "import sys, hf_xet; "
        "group = hf_xet.XetSession().new_download_stream_group("
        "endpoint=sys.argv[1], token='-', token_expiry_unix_secs=2**40); "
        "info = hf_xet.XetFileInfo(sys.argv[2], int(sys.argv[3])); "
        "sys.stdout.buffer.writelines(group.download_stream(info))"
    )

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="xet_"))
        self.hashes: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"local://{self.folder.as_posix()}"

    def close(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)

    def read(self, sha256: str) -> bytes | None:
        """
        The content with this SHA-256, `None` if no client stored it.

        Reads a copy, as the client may still hold the lock, and in another process, as hf_xet starts threads.
        """
        for shard in self.folder.rglob("shards/*.mdb"):
            for found, xet_hash, size in shard_files(shard.read_bytes()):
                if found == sha256:
                    self.hashes[sha256] = xet_hash
                    with tempfile.TemporaryDirectory(prefix="xet_") as copy:
                        ignored = shutil.ignore_patterns("shard-session", "shard-cache")
                        shutil.copytree(self.folder, f"{copy}/store", ignore=ignored)
                        command = [sys.executable, "-c", self.READ, f"local://{copy}/store", xet_hash, str(size)]
                        environment = {**os.environ, "HF_HOME": f"{copy}/logs"}
                        return subprocess.run(command, check=True, capture_output=True, env=environment).stdout
        return None


def shard_files(shard: bytes) -> Iterator[tuple[str, str, int]]:
    """
    The files of a shard: SHA-256, Xet hash and size.

    After a header come blocks of 48 bytes: for each file its hash, flags and number of segments, then the segments,
    then as many verification entries if bit 31 is set and the SHA-256 if bit 30 is. A hash of ones ends the list.
    """

    def text(position: int) -> str:
        return "".join(f"{word:016x}" for word in struct.unpack_from("<4Q", shard, position))

    position = 48
    while shard[position : position + 32] != b"\xff" * 32:
        flags, segments = struct.unpack_from("<II", shard, position + 32)
        size = sum(struct.unpack_from("<I", shard, position + 48 * (n + 1) + 36)[0] for n in range(segments))
        end = position + 48 * (1 + segments * (2 if flags >> 31 else 1))
        if flags >> 30 & 1:
            yield text(end), text(position), size
            end += 48
        position = end


class Repository:
    """
    A repository. It starts as on the Hub with one commit that holds only .gitattributes.

    Args:
        kind: "models", "datasets" or "spaces".
        name: the id, "owner/name".
        xet: where large files may be that were not uploaded here.
    """

    def __init__(self, kind: str, name: str, private: bool, xet: XetStore | None = None) -> None:
        self.kind, self.name, self.private, self.xet = kind, name, private, xet
        self.owner = name.partition("/")[0]
        self.large: dict[str, bytes] = {}
        self.commits: dict[str, Commit] = {}
        self.branches: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        attributes = "".join(f"*{suffix} filter=lfs diff=lfs merge=lfs -text\n" for suffix in LARGE_SUFFIXES)
        self._record("main", "initial commit", "", self.owner, None, {".gitattributes": File(attributes.encode())})

    def resolve(self, revision: str) -> Commit:
        """The commit that a branch, a tag, "HEAD" or an id names, which may be cut to seven characters."""
        name = "main" if revision == "HEAD" else revision
        oid = self.branches.get(name) or self.tags.get(name)
        if oid is None and re.fullmatch("[0-9a-f]{7,40}", name):
            found = [commit for commit in self.commits if commit.startswith(name)]
            oid = found[0] if len(found) == 1 else None
        if oid is None:
            raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return self.commits[oid]

    def history(self, revision: str) -> list[Commit]:
        """The commits up to a revision, oldest first."""
        commits = [self.resolve(revision)]
        while (parent := commits[-1].parent) is not None:
            commits.append(self.commits[parent])
        return commits[::-1]

    def store(self, sha256: str, size: int, data: bytes) -> None:
        """Keep a large file, if it is the one that was announced."""
        if len(data) != size or hashlib.sha256(data).hexdigest() != sha256:
            raise HubError(400, f"The content is not that of {sha256} with {size} bytes")
        self.large[sha256] = data

    def commit(self, branch: str, lines: Iterable[dict[str, Json]], author: str) -> Commit:
        """Add one commit to a branch: all of its changes or, if any of them is refused, none."""
        if branch not in self.branches:
            raise HubError(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        head = self.resolve(branch)
        entries = dict(head.entries)
        header: dict[str, str] | None = None
        for line in lines:
            key, value = line["key"], line["value"]
            if key == "header":
                header = value
            else:
                self._change(entries, key, value)
        if header is None or not header.get("summary"):
            raise HubError(400, "A commit needs a header with a summary")
        if not head.oid.startswith(header.get("parentCommit", "")):
            raise HubError(412, f"The parent commit is {head.oid} by now: a commit has happened since")
        return self._record(branch, header["summary"], header.get("description", ""), author, head.oid, entries)

    def _change(self, entries: dict[str, File], key: str, value: dict[str, Json]) -> None:
        path = value["path"].rstrip("/")
        if any(part in ("", ".", "..", ".git") for part in path.split("/")):
            raise HubError(400, f"Invalid path: {path}")
        if key == "file":
            entries[path] = File(base64.b64decode(value["content"], validate=True))
        elif key == "lfsFile":
            entries[path] = self._large_file(value["oid"], value.get("size"))
        elif key == "deletedFile":
            if entries.pop(path, None) is None:
                raise HubError(404, f"A file with this name doesn't exist: {path}", "EntryNotFound")
        elif key == "deletedFolder":
            inside = [name for name in entries if is_inside(name, path)]
            if not inside:
                raise HubError(404, f"A folder with this name doesn't exist: {path}", "EntryNotFound")
            for name in inside:
                del entries[name]
        else:
            raise HubError(400, f"Unknown operation: {key}")

    def _large_file(self, sha256: str, size: int | None) -> File:
        """A large file that was uploaded before. A copy within the repository does not tell its size."""
        if sha256 not in self.large and self.xet and (data := self.xet.read(sha256)) is not None:
            self.store(sha256, len(data), data)
        data = self.large.get(sha256)
        if data is None or size not in (None, len(data)):
            raise HubError(400, f"There is no large file {sha256} of {size} bytes: upload it before the commit")
        return File(data, large=True, xet_hash=self.xet.hashes.get(sha256) if self.xet else None)

    def _record(
        self, branch: str, title: str, description: str, author: str, parent: str | None, entries: dict[str, File]
    ) -> Commit:
        date = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        identity = (self.kind, self.name, len(self.commits), parent, title, author, date)
        oid = hashlib.sha1(repr(identity).encode()).hexdigest()
        self.commits[oid] = Commit(oid, title, description, author, date, parent, entries)
        self.branches[branch] = oid
        return self.commits[oid]
