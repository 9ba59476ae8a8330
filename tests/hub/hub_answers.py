# SPDX-License-Identifier: Apache-2.0
"""What the small Hub answers, a method for each route of the HTTP API that `huggingface_hub` uses."""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import parse_qs, urlsplit

from hub_handler import HubHandler, Refused
from hub_repository import LFS_SUFFIXES, Repository


class HubAnswers(HubHandler):
    """The routes: `repo` is "organisation/name"."""

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
            raise Refused(409, "", f"Reference already exists: refs/heads/{revision}")
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
            raise Refused(422, "", "The content does not have the announced SHA-256")
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
                    raise Refused(400, "", f"{value['path']}: LFS object {value['oid']} was not uploaded")
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
            raise Refused(404, "EntryNotFound", f"{path} does not exist on {revision}")
        self._json(entries + [{"type": "directory", "path": folder, "oid": "0" * 40} for folder in sorted(folders)])

    def resolve(self, body: bytes, repo: str, revision: str, path: str) -> None:
        repository = self._repository(repo)
        commit = self._commit_of(repository, revision)
        oid = repository.commits[commit].get(path)
        if oid is None:
            raise Refused(404, "EntryNotFound", f"Entry not found: {path}")
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
