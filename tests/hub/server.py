"""
A Hugging Face Hub on this machine, for tests: the part of its interface that transformers and huggingface_hub use.

    with HubServer() as hub:
        ...  # a process with HF_ENDPOINT=hub.url and HF_TOKEN=hf_alice pushes to "alice/model"
        assert hub.commits("alice/model")[-1].files["config.json"] == ...

Clients must run in another process: huggingface_hub reads HF_ENDPOINT when it is imported. Without `xet=True` they
need HF_HUB_DISABLE_XET=1, as huggingface_hub uploads large files to Xet without asking whether the Hub has it.
`HubServer.environment` has all of that.
"""

import base64
import contextlib
import json
import os
import re
import secrets
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Literal, Self
from urllib.parse import parse_qs, unquote

from tests.hub.cards import Json, card_data, card_tags, check_card
from tests.hub.repositories import Commit, File, HubError, Repository, XetStore, upload_mode

Fault = Literal["drop"] | int | None


class HubServer:
    """
    A Hub on 127.0.0.1. It answers one request at a time, in memory, and forgets everything at the end.

    Args:
        users: the user of each token. Everyone writes in the own namespace only.
        read_only: tokens that cannot write.
        xet: whether there is Xet, beside the LFS protocol.

    Attributes:
        url: what clients need as HF_ENDPOINT.
        requests: method and path, without the query, of every request so far, in order.
        repositories: by kind and id, such as "models/alice/model".
    """

    def __init__(
        self, users: dict[str, str] | None = None, read_only: Collection[str] = (), xet: bool = False
    ) -> None:
        self.users = {"hf_alice": "alice", "hf_bob": "bob"} if users is None else users
        self.read_only = read_only
        self.xet = XetStore() if xet else None
        self.requests: list[tuple[str, str]] = []
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, tuple[Repository, str, int]] = {}
        self.lock = threading.RLock()
        self._faults: list[Callable[[str, str, int], Fault]] = []
        self._delays: list[tuple[float, Callable[[str, str, int], bool]]] = []
        self._closing = threading.Event()

    def __enter__(self) -> Self:
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        if self.xet:
            self.xet.close()

    def environment(self, hf_home: Path, token: str | None = "hf_alice", **settings: str) -> dict[str, str]:
        """The environment of a process that has this Hub and nothing else on the network."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        return {
            **environment,
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(hf_home),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            # Whatever does not go to this machine fails.
            **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9"),
            "NO_PROXY": "127.0.0.1,localhost",
            **({} if self.xet else {"HF_HUB_DISABLE_XET": "1"}),
            **({"HF_TOKEN": token} if token else {}),
            **settings,
        }

    def commits(self, name: str, revision: str = "main", kind: str = "models") -> list[Commit]:
        """The commits of a repository, oldest first. The first one is the Hub's own, with .gitattributes only."""
        with self.lock:
            return self.repositories[f"{kind}/{name}"].history(revision)

    def fail(self, predicate: Callable[[str, str, int], Fault]) -> None:
        """
        Let requests fail that would succeed, before they have any effect.

        The predicate gets method, path and the number of requests before this one, and returns a status to answer,
        "drop" to close the connection without an answer, or `None` for no fault.
        """
        self._faults.append(predicate)

    def delay(self, seconds: float, predicate: Callable[[str, str, int], bool]) -> None:
        """Let requests take longer, counted from when they were received."""
        self._delays.append((seconds, predicate))

    def clear(self) -> None:
        """Forget the requests, the faults and the delays, not the repositories."""
        with self.lock:
            self.requests.clear()
            self._faults.clear()
            self._delays.clear()

    def receive(self, method: str, path: str) -> Fault:
        """Log a request, hold it up and say how it is to fail."""
        with self.lock:
            index = len(self.requests)
            self.requests.append((method, path))
            seconds = sum(seconds for seconds, predicate in self._delays if predicate(method, path, index))
            faults = [predicate(method, path, index) for predicate in self._faults]
        if seconds and self._closing.wait(seconds):
            return "drop"
        return next((fault for fault in faults if fault is not None), None)


class _Server(ThreadingHTTPServer):
    request_queue_size = 64

    def __init__(self, hub: HubServer) -> None:
        self.hub = hub
        self.connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), _Handler)

    def process_request(self, request: socket.socket, client_address: tuple[str, int]) -> None:
        self.connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: socket.socket) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        """End the connections too that clients keep open: they could still reach the Hub by them."""
        super().server_close()
        for connection in list(self.connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: socket.socket, client_address: tuple[str, int]) -> None:
        """Print nothing when it is the client that went away."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@dataclass
class Reply:
    """Bytes are sent as they are, anything else as JSON."""

    body: bytes | Json
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    # Headers and body go in one packet; two would wait for each other.
    wbufsize = -1

    @property
    def hub(self) -> HubServer:
        return self.server.hub

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: `HubServer.requests` is the log."""

    def answer(self) -> None:
        """Receive a request as a whole, as a broken one must have no effect, and answer it."""
        self.body = self.read_body()
        path, _, query = self.path.partition("?")
        self.query = parse_qs(query)
        try:
            fault = self.hub.receive(self.command, path)
            if fault == "drop":
                self.close_connection = True
                return
            if fault is not None:
                raise HubError(fault, "The test lets this request fail")
            with self.hub.lock:
                reply = self.route(path)
        except HubError as error:
            reply = Reply({"error": str(error)}, error.status, error.headers)
        except Exception:
            reply = Reply({"error": traceback.format_exc()}, 500)
        is_file = isinstance(reply.body, bytes)
        data = reply.body if is_file else json.dumps(reply.body, default=str).encode()
        self.send_response(reply.status)
        self.send_header("Content-Type", "application/octet-stream" if is_file else "application/json")
        self.send_header("Content-Length", str(len(data)))
        for name, value in reply.headers.items():
            self.send_header(name, value.encode("ascii", "replace").decode().replace("\n", " "))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            length = int(self.headers.get("Content-Length", 0))
            data = self.rfile.read(length)
            if len(data) < length:
                raise ConnectionResetError
            return data
        chunks = []
        while line := self.rfile.readline():
            size = int(line.partition(b";")[0], 16)
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
            if size == 0:
                return b"".join(chunks)
        raise ConnectionResetError

    def route(self, path: str) -> Reply:
        method = "GET" if self.command == "HEAD" else self.command
        for route_method, pattern, access, action in ROUTES:
            if route_method == method and (match := pattern.fullmatch(path)):
                groups = {name: unquote(text) for name, text in match.groupdict().items() if text is not None}
                self.user = None if access == "any" else self.find_user(access in ("user", "write"))
                if "name" not in groups:
                    return action(self, **groups)
                repo = self.find_repository(groups.pop("kind", "models"), groups.pop("name"))
                if access == "write":
                    self.check_writer(repo.owner)
                return action(self, repo=repo, **groups)
        raise HubError(404, f"This Hub does not have {method} {path}")

    # Who asks, and what for.

    @property
    def token(self) -> str:
        return self.headers.get("Authorization", "").removeprefix("Bearer ")

    def find_user(self, required: bool) -> str | None:
        """Whom the token belongs to. An unknown token is refused even where none is needed, as on the Hub."""
        if self.token and self.token not in self.hub.users:
            raise HubError(401, "Invalid credentials in Authorization header")
        if required and not self.token:
            raise HubError(401, "Invalid username or password.")
        return self.hub.users.get(self.token)

    def find_repository(self, kind: str, name: str) -> Repository:
        """A private repository of someone else is not there at all."""
        repo = self.hub.repositories.get(f"{kind}/{name}")
        if repo is None or (repo.private and self.user != repo.owner):
            raise HubError(404, "Repository not found", "RepoNotFound")
        return repo

    def check_writer(self, owner: str) -> None:
        if self.user != owner:
            raise HubError(403, f'You don\'t have the rights to write under the namespace "{owner}"')
        if self.token in self.hub.read_only:
            raise HubError(403, "This token can only read: it needs the role write")

    def payload(self) -> dict[str, Json]:
        try:
            return json.loads(self.body)
        except ValueError as error:
            raise HubError(400, f"The body is not JSON: {error}") from error

    # Users and repositories.

    def whoami(self) -> Reply:
        role = "read" if self.token in self.hub.read_only else "write"
        auth = {"type": "access_token", "accessToken": {"displayName": "test", "role": role}}
        return Reply(
            {"type": "user", "id": self.user, "name": self.user, "fullname": self.user, "orgs": [], "auth": auth}
        )

    def create(self) -> Reply:
        kind, name = self.requested_repository()
        self.check_writer(name.partition("/")[0])
        url = self.page(kind, name)
        if f"{kind}/{name}" in self.hub.repositories:
            return Reply({"error": f"You already created {name}", "url": url}, 409)
        payload = self.payload()
        private = payload.get("visibility") == "private" or bool(payload.get("private"))
        self.hub.repositories[f"{kind}/{name}"] = Repository(kind, name, private, self.hub.xet)
        return Reply({"url": url, "name": name, "id": name})

    def delete(self) -> Reply:
        kind, name = self.requested_repository()
        self.check_writer(self.find_repository(kind, name).owner)
        del self.hub.repositories[f"{kind}/{name}"]
        return Reply({})

    def requested_repository(self) -> tuple[str, str]:
        payload = self.payload()
        return f"{payload.get('type') or 'model'}s", f"{payload.get('organization') or self.user}/{payload['name']}"

    def page(self, kind: str, name: str) -> str:
        return f"{self.hub.url}/{'' if kind == 'models' else f'{kind}/'}{name}"

    def validate_yaml(self) -> Reply:
        errors, warnings = check_card(self.payload()["content"])
        body = {"errors": [{"message": text} for text in errors], "warnings": [{"message": text} for text in warnings]}
        return Reply(body, 400 if errors else 200)

    # Uploads.

    def preupload(self, repo: Repository, revision: str) -> Reply:
        entries = repo.resolve(revision).entries
        files = [
            {
                "path": (path := file["path"]),
                "uploadMode": upload_mode(path, file["size"], base64.b64decode(file["sample"])),
                "shouldIgnore": False,
                "oid": entries[path].etag if path in entries else None,
            }
            for file in self.payload()["files"]
        ]
        return Reply({"files": files})

    def lfs_batch(self, repo: Repository) -> Reply:
        """Where to put large files. Clients put them without a token, so the address itself is the permission."""
        objects = []
        for wanted in self.payload()["objects"]:
            oid, size = wanted["oid"], wanted["size"]
            answer: dict[str, Json] = {"oid": oid, "size": size}
            if oid not in repo.large:
                key = secrets.token_urlsafe()
                self.hub.uploads[key] = (repo, oid, size)
                verify = f"{self.hub.url}/{repo.kind}/{repo.name}.git/info/lfs/verify"
                upload = f"{self.hub.url}/uploads/{key}"
                answer["actions"] = {"upload": {"href": upload}, "verify": {"href": verify}}
            objects.append(answer)
        return Reply({"transfer": "basic", "objects": objects})

    def lfs_put(self, key: str) -> Reply:
        if key not in self.hub.uploads:
            raise HubError(403, "There is no such upload")
        repo, oid, size = self.hub.uploads[key]
        repo.store(oid, size, self.body)
        return Reply({})

    def lfs_verify(self, repo: Repository) -> Reply:
        wanted = self.payload()
        if len(repo.large.get(wanted["oid"], b"")) != wanted["size"]:
            raise HubError(404, f"There is no large file {wanted['oid']} of {wanted['size']} bytes")
        return Reply({})

    def xet_token(self, repo: Repository, revision: str) -> Reply:
        if self.hub.xet is None:
            raise HubError(404, "This Hub has no Xet")
        repo.resolve(revision)
        token, expiry = secrets.token_urlsafe(), int(time.time()) + 3600
        headers = {
            "X-Xet-Cas-Url": self.hub.xet.url,
            "X-Xet-Access-Token": token,
            "X-Xet-Token-Expiration": str(expiry),
        }
        return Reply({"casUrl": self.hub.xet.url, "accessToken": token, "exp": expiry}, headers=headers)

    def commit(self, repo: Repository, revision: str) -> Reply:
        if "create_pr" in self.query:
            raise HubError(501, "This Hub has no pull requests")
        try:
            commit = repo.commit(revision, [json.loads(line) for line in self.body.splitlines()], self.user or "")
        except (ValueError, KeyError, TypeError) as error:
            raise HubError(400, f"The commit cannot be read: {error!r}") from error
        url = f"{self.page(repo.kind, repo.name)}/commit/{commit.oid}"
        return Reply({"commitOid": commit.oid, "commitUrl": url})

    # The content of a repository.

    def info(self, repo: Repository, revision: str = "main") -> Reply:
        commit = repo.resolve(revision)
        card = card_data(commit.files.get("README.md", b"").decode("utf-8", "replace"))
        info = {
            "id": repo.name,
            "modelId": repo.name,
            "author": repo.owner,
            "sha": commit.oid,
            "lastModified": commit.date,
            "createdAt": next(iter(repo.commits.values())).date,
            "private": repo.private,
            "gated": False,
            "disabled": False,
            "downloads": 0,
            "likes": 0,
            "library_name": card.get("library_name"),
            "pipeline_tag": card.get("pipeline_tag"),
            "tags": card_tags(card),
            "cardData": card,
            "model-index": card.get("model-index"),
            "siblings": [self.sibling(path, file) for path, file in sorted(commit.entries.items())],
        }
        if wanted := self.query.get("expand"):
            info = {name: value for name, value in info.items() if name in ("id", *wanted)}
        return Reply(info)

    def auth_check(self, repo: Repository) -> Reply:
        """Nothing to say: who may not has been refused by then."""
        return Reply({})

    def sibling(self, path: str, file: File) -> dict[str, Json]:
        if "blobs" not in self.query:
            return {"rfilename": path}
        size = len(file.data)
        lfs = {"lfs": {"sha256": file.sha256, "size": size, "pointerSize": len(file.pointer)}} if file.large else {}
        return {"rfilename": path, "size": size, "blobId": file.git_oid, **lfs}

    def tree(self, repo: Repository, revision: str, path: str = "") -> Reply:
        recursive = self.query.get("recursive", [""])[0].lower() == "true"
        return Reply(repo.resolve(revision).tree(path.rstrip("/"), recursive))

    def paths_info(self, repo: Repository, revision: str) -> Reply:
        commit = repo.resolve(revision)
        paths = parse_qs(self.body.decode()).get("paths", [])
        return Reply([info for path in paths if (info := commit.info(path.rstrip("/")))])

    def resolve(self, repo: Repository, revision: str, path: str) -> Reply:
        """
        A file, a large one too. The Hub redirects for those to another host; to the same host would not do, as
        huggingface_hub follows it and then misses the headers.
        """
        commit = repo.resolve(revision)
        file = commit.file(path)
        headers = {"X-Repo-Commit": commit.oid, "ETag": f'"{file.etag}"', "Accept-Ranges": "bytes"}
        if file.large:
            headers |= {"X-Linked-Etag": f'"{file.etag}"', "X-Linked-Size": str(len(file.data))}
        if file.xet_hash:
            address = f"{self.hub.url}/api/{repo.kind}/{repo.name}/xet-read-token/{commit.oid}"
            headers |= {"X-Xet-Hash": file.xet_hash, "Link": f'<{address}>; rel="xet-auth"'}
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if match is None or not any(match.groups()):
            return Reply(file.data, headers=headers)
        size = len(file.data)
        start = int(match[1]) if match[1] else max(size - int(match[2]), 0)
        end = min(int(match[2]) + 1, size) if match[1] and match[2] else size
        if start >= end:
            return Reply(b"", 416, {**headers, "Content-Range": f"bytes */{size}"})
        return Reply(file.data[start:end], 206, {**headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"})

    # References.

    def refs(self, repo: Repository) -> Reply:
        def listed(folder: str, refs: dict[str, str]) -> list[dict[str, str]]:
            return [{"name": name, "ref": f"refs/{folder}/{name}", "targetCommit": oid} for name, oid in refs.items()]

        return Reply({"branches": listed("heads", repo.branches), "tags": listed("tags", repo.tags), "converts": []})

    def list_commits(self, repo: Repository, revision: str) -> Reply:
        commits = [
            {
                "id": commit.oid,
                "title": commit.title,
                "message": commit.description,
                "authors": [{"user": commit.author}],
                "date": commit.date,
            }
            for commit in reversed(repo.history(revision))
        ]
        return Reply(commits)

    def create_branch(self, repo: Repository, branch: str) -> Reply:
        start = self.payload().get("startingPoint") or "main"
        return self.create_reference(repo.branches, branch, repo.resolve(start))

    def create_tag(self, repo: Repository, revision: str) -> Reply:
        return self.create_reference(repo.tags, self.payload()["tag"], repo.resolve(revision))

    def create_reference(self, references: dict[str, str], name: str, commit: Commit) -> Reply:
        if name in references:
            raise HubError(409, f"Reference already exists: {name}")
        references[name] = commit.oid
        return Reply({})

    def delete_branch(self, repo: Repository, branch: str) -> Reply:
        if branch == "main":
            raise HubError(403, "The branch main cannot be deleted")
        return self.delete_reference(repo.branches, branch)

    def delete_tag(self, repo: Repository, tag: str) -> Reply:
        return self.delete_reference(repo.tags, tag)

    def delete_reference(self, references: dict[str, str], name: str) -> Reply:
        if references.pop(name, None) is None:
            raise HubError(404, f"Invalid rev id: {name}", "RevisionNotFound")
        return Reply({})


API = r"/api/(?P<kind>models|datasets|spaces)/(?P<name>[^/]+/[^/]+)"
GIT = r"/(?:(?P<kind>models|datasets|spaces)/)?(?P<name>[^/]+/[^/]+)\.git/info/lfs"
FILE = r"/(?:(?P<kind>datasets|spaces)/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)"

# Method, path, who may: any client, a "user" with a token, or who can "read" or "write" the repository.
ROUTES: list[tuple[str, re.Pattern[str], str, Callable[..., Reply]]] = [
    (method, re.compile(path), access, action)
    for method, path, access, action in [
        ("GET", "/api/whoami-v2", "user", _Handler.whoami),
        ("POST", "/api/repos/create", "user", _Handler.create),
        ("DELETE", "/api/repos/delete", "user", _Handler.delete),
        ("POST", "/api/validate-yaml", "any", _Handler.validate_yaml),
        ("POST", API + "/preupload/(?P<revision>[^/]+)", "write", _Handler.preupload),
        ("POST", GIT + "/objects/batch", "write", _Handler.lfs_batch),
        ("POST", GIT + "/verify", "write", _Handler.lfs_verify),
        ("PUT", "/uploads/(?P<key>[^/]+)", "any", _Handler.lfs_put),
        ("GET", API + "/xet-write-token/(?P<revision>[^/]+)", "write", _Handler.xet_token),
        ("GET", API + "/xet-read-token/(?P<revision>[^/]+)", "read", _Handler.xet_token),
        ("POST", API + "/commit/(?P<revision>[^/]+)", "write", _Handler.commit),
        ("GET", API, "read", _Handler.info),
        ("GET", API + "/auth-check", "read", _Handler.auth_check),
        ("GET", API + "/auth-check/write", "write", _Handler.auth_check),
        ("GET", API + "/revision/(?P<revision>[^/]+)", "read", _Handler.info),
        ("GET", API + "/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", "read", _Handler.tree),
        ("POST", API + "/paths-info/(?P<revision>[^/]+)", "read", _Handler.paths_info),
        ("GET", FILE, "read", _Handler.resolve),
        ("GET", API + "/refs", "read", _Handler.refs),
        ("GET", API + "/commits/(?P<revision>[^/]+)", "read", _Handler.list_commits),
        ("POST", API + "/branch/(?P<branch>[^/]+)", "write", _Handler.create_branch),
        ("DELETE", API + "/branch/(?P<branch>[^/]+)", "write", _Handler.delete_branch),
        ("POST", API + "/tag/(?P<revision>[^/]+)", "write", _Handler.create_tag),
        ("DELETE", API + "/tag/(?P<tag>[^/]+)", "write", _Handler.delete_tag),
    ]
]
