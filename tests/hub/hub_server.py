# SPDX-License-Identifier: Apache-2.0
"""A small Hugging Face Hub on the loopback interface, for tests of push and pull over the wire.

It speaks the part of the Hub's HTTP API that `huggingface_hub` uses to create a repository, upload a folder (regular
and LFS files), look a repository up and download its files: the real client runs against it unchanged
(`HF_ENDPOINT=server.url`). Every commit keeps its own list of files, so that a revision (branch, tag or commit) can
be asked for later. Faults can be switched on: see `HubServer.cut_downloads_after`.
"""

from __future__ import annotations

import hashlib
import threading
from http.server import ThreadingHTTPServer

from hub_answers import HubAnswers
from hub_repository import LFS_SUFFIXES, Repository


class HubServer:
    """`with HubServer() as hub:` serves on a free loopback port until the block ends.

    Attributes:
        url: what `HF_ENDPOINT` must be.
        repositories: what is stored, by "organisation/name".
        requests: (method, path) of every request so far.
        cut_downloads_after: if set, every download of an LFS file ends after so many bytes, the connection closed.
        cut_uploads: how many of the next LFS uploads end in the middle, with the connection closed.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.blobs: dict[str, bytes] = {}
        self.requests: list[tuple[str, str]] = []
        self.cut_downloads_after: int | None = None
        self.cut_uploads = 0
        handler = type("Handler", (HubAnswers,), {"hub": self})
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
