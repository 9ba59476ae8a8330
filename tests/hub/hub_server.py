# SPDX-License-Identifier: Apache-2.0
"""A small Hugging Face Hub on the loopback interface, for tests of push and pull over the wire.

It speaks the part of the Hub's HTTP API that `huggingface_hub` uses to create a repository, upload a folder (regular
and LFS files), look a repository up and download its files: the real client runs against it unchanged
(`HF_ENDPOINT=server.url`). Every commit keeps its own list of files, so that a revision (branch, tag or commit) can
be asked for later. Faults can be switched on: see `HubServer.cut_downloads_after`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


# Files of these names go through the LFS protocol, as the Hub's default .gitattributes has it.
LFS_SUFFIXES = (".safetensors", ".pt", ".bin", ".tokenizer")
TOKEN = "hf_local_test_token"


@dataclass
class Repository:
    """Files by commit: `commits[oid][path]` is the SHA-256 of the file's content; `refs` names commits."""

    private: bool = False
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, str]] = field(default_factory=dict)
    lfs: set[str] = field(default_factory=set)

    def commit(self, files: dict[str, str], branch: str) -> str:
        oid = hashlib.sha1(json.dumps([len(self.commits), branch, files], sort_keys=True).encode()).hexdigest()
        self.commits[oid] = files
        self.refs[branch] = oid
        return oid

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch or a commit id stands for, or None."""
        return self.refs.get(revision, revision if revision in self.commits else None)


class HubServer:
    """`with HubServer() as hub:` serves on a free loopback port until the block ends.

    Attributes:
        url: what `HF_ENDPOINT` must be.
        repositories: what is stored, by "organisation/name".
        requests: (method, path) of every request so far.
        cut_downloads_after: if set, every download of an LFS file ends after so many bytes, with the connection closed.
        cut_uploads: how many of the next LFS uploads end in the middle, with the connection closed.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.cut_downloads_after: int | None = None
        self.cut_uploads = 0
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> HubServer:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def store(self, content: bytes) -> str:
        oid = hashlib.sha256(content).hexdigest()
        self.blobs[oid] = content
        return oid

    def files(self, repo_id: str, revision: str = "main") -> dict[str, bytes]:
        """The content of every file of a revision, by path."""
        repository = self.repositories[repo_id]
        return {path: self.blobs[oid] for path, oid in repository.commits[repository.resolve(revision)].items()}

    def add(self, repo_id: str, files: dict[str, bytes], private: bool = False) -> str:
        """Puts a repository with these files on the server and returns its commit."""
        repository = self.repositories.setdefault(repo_id, Repository(private=private))
        stored = {path: self.store(content) for path, content in files.items()}
        repository.lfs.update(path for path in files if path.endswith(LFS_SUFFIXES))
        return repository.commit(stored, "main")


class _Refused(Exception):
    def __init__(self, status: int, code: str, message: str):
        self.status, self.code, self.message = status, code, message


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """The tests' output is not for access logs."""

    # The routes: (method, pattern) -> name of the method that answers. `repo` is "organisation/name".
    ROUTES: tuple[tuple[str, str, str], ...] = (
        ("GET", r"/api/whoami-v2", "whoami"),
        ("POST", r"/api/validate-yaml", "validate_yaml"),
        ("POST", r"/api/repos/create", "create_repo"),
        ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/preupload/(?P<revision>[^/]+)", "preupload"),
        ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/commit/(?P<revision>[^/]+)", "commit"),
        ("POST", r"/api/models/(?P<repo>[^/]+/[^/]+)/branch/(?P<revision>[^/]+)", "create_branch"),
        ("POST", r"/(?P<repo>[^/]+/[^/]+)\.git/info/lfs/objects/batch", "lfs_batch"),
        ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", "lfs_upload"),
        ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)(/(?P<path>.*))?", "tree"),
        ("GET", r"/api/models/(?P<repo>[^/]+/[^/]+)(/revision/(?P<revision>[^/]+))?", "model_info"),
        ("HEAD", r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
        ("GET", r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
    )

    def _dispatch(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        length = int(self.headers.get("Content-Length") or 0)
        try:
            for method, pattern, name in self.ROUTES:
                match = re.fullmatch(pattern, path)
                if match and method == self.command:
                    answer: Callable[..., None] = getattr(self, name)
                    if name == "lfs_upload":
                        return answer(length, **match.groupdict())
                    return answer(self.rfile.read(length), **match.groupdict())
            raise _Refused(404, "", f"no such route: {self.command} {path}")
        except _Refused as refused:
            self._json({"error": refused.message}, refused.status, code=refused.code, message=refused.message)

    do_GET = do_POST = do_PUT = do_HEAD = _dispatch

    def _json(self, value: object, status: int = 200, code: str = "", message: str = "") -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if code:
            self.send_header("X-Error-Code", code)
        if message:
            self.send_header("X-Error-Message", message)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _check_token(self, required: bool) -> bool:
        header = self.headers.get("Authorization")
        if header is not None and header != f"Bearer {TOKEN}":
            raise _Refused(401, "", "Invalid credentials in Authorization header")
        if required and header is None:
            raise _Refused(401, "", "Invalid username or password.")
        return header is not None

    def _repository(self, repo: str, write: bool = False) -> Repository:
        signed_in = self._check_token(required=write)
        repository = self.hub.repositories.get(repo)
        if repository is None or (repository.private and not signed_in):
            raise _Refused(404 if signed_in else 401, "RepoNotFound", "Repository not found")
        return repository

    def _commit_of(self, repository: Repository, revision: str) -> str:
        commit = repository.resolve(revision)
        if commit is None:
            raise _Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def whoami(self, body: bytes) -> None:
        self._check_token(required=True)
        self._json({"name": "org", "type": "user", "auth": {"accessToken": {"role": "write"}}})

    def validate_yaml(self, body: bytes) -> None:
        self._json({"errors": [], "warnings": []})

    def create_repo(self, body: bytes) -> None:
        self._check_token(required=True)
        request = json.loads(body)
        repo = f"{request.get('organization') or 'org'}/{request['name']}"
        answer = {"url": f"{self.hub.url}/{repo}", "name": repo, "id": repo}
        if repo in self.hub.repositories:
            return self._json(answer | {"error": "You already created this model repo"}, 409)
        repository = self.hub.repositories[repo] = Repository(private=bool(request.get("private")))
        repository.commit({}, "main")
        self._json(answer)

    def create_branch(self, body: bytes, repo: str, revision: str) -> None:
        repository = self._repository(repo, write=True)
        start = (json.loads(body or b"{}") or {}).get("startingPoint") or "main"
        if revision in repository.refs:
            raise _Refused(409, "", f"Reference already exists: refs/heads/{revision}")
        repository.refs[revision] = self._commit_of(repository, start)
        self._json({})

    def preupload(self, body: bytes, repo: str, revision: str) -> None:
        self._commit_of(self._repository(repo, write=True), revision)
        modes = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LFS_SUFFIXES) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(body)["files"]
        ]
        self._json({"files": modes})

    def lfs_batch(self, body: bytes, repo: str) -> None:
        self._repository(repo, write=True)
        objects = []
        for item in json.loads(body)["objects"]:
            answer = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.hub.blobs:
                answer["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{item['oid']}"}}
            objects.append(answer)
        self._json({"transfer": "basic", "objects": objects})

    def lfs_upload(self, length: int, oid: str) -> None:
        if self.hub.cut_uploads > 0:
            self.hub.cut_uploads -= 1
            self.rfile.read(length // 2)
            self.close_connection = True
            self.connection.close()
            return
        content = self.rfile.read(length)
        if self.hub.store(content) != oid:
            raise _Refused(422, "", "The content does not have the announced SHA-256")
        self._json({})

    def commit(self, body: bytes, repo: str, revision: str) -> None:
        repository = self._repository(repo, write=True)
        files = dict(repository.commits[self._commit_of(repository, revision)])
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = self.hub.store(base64.b64decode(value["content"]))
            elif entry["key"] == "lfsFile":
                if value["oid"] not in self.hub.blobs:
                    raise _Refused(400, "", f"{value['path']}: LFS object {value['oid']} was not uploaded")
                files[value["path"]] = value["oid"]
                repository.lfs.add(value["path"])
            elif entry["key"] == "deletedFile":
                files.pop(value["path"], None)
        oid = repository.commit(files, revision)
        self._json({"success": True, "commitOid": oid, "commitUrl": f"{self.hub.url}/{repo}/commit/{oid}"})

    def model_info(self, body: bytes, repo: str, revision: str | None) -> None:
        repository = self._repository(repo)
        commit = self._commit_of(repository, revision or "main")
        siblings = [{"rfilename": path} for path in sorted(repository.commits[commit])]
        info = {"id": repo, "modelId": repo, "sha": commit, "private": repository.private, "tags": []}
        self._json(info | {"siblings": siblings, "library_name": "transformers"})

    def tree(self, body: bytes, repo: str, revision: str, path: str | None) -> None:
        repository = self._repository(repo)
        files = repository.commits[self._commit_of(repository, revision)]
        prefix = f"{path.rstrip('/')}/" if path else ""
        recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["False"])[0].lower() == "true"
        entries, folders = [], set()
        for name, oid in sorted(files.items()):
            if not name.startswith(prefix):
                continue
            if "/" in name[len(prefix) :] and not recursive:
                folders.add(prefix + name[len(prefix) :].split("/")[0])
            else:
                entries.append({"type": "file", "path": name, "size": len(self.hub.blobs[oid]), "oid": oid[:40]})
        if path and not entries and not folders:
            raise _Refused(404, "EntryNotFound", f"{path} does not exist on {revision}")
        self._json(entries + [{"type": "directory", "path": folder, "oid": "0" * 40} for folder in sorted(folders)])

    def resolve(self, body: bytes, repo: str, revision: str, path: str) -> None:
        repository = self._repository(repo)
        commit = self._commit_of(repository, revision)
        oid = repository.commits[commit].get(path)
        if oid is None:
            raise _Refused(404, "EntryNotFound", f"Entry not found: {path}")
        content = self.hub.blobs[oid]
        total, start = len(content), 0
        requested = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if requested:
            start = int(requested.group(1))
            content = content[start : int(requested.group(2)) + 1 if requested.group(2) else None]
        self.send_response(206 if requested else 200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{oid}"')
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(len(content)))
        if requested:
            self.send_header("Content-Range", f"bytes {start}-{start + len(content) - 1}/{total}")
        self.end_headers()
        if self.command == "HEAD":
            return
        limit = self.hub.cut_downloads_after
        if limit is not None and path in repository.lfs:
            self.wfile.write(content[: max(0, limit - start)])
            self.wfile.flush()
            self.close_connection = True
            self.connection.close()
            return
        self.wfile.write(content)
