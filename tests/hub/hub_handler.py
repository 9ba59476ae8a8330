# SPDX-License-Identifier: Apache-2.0
"""Requests of the small Hub: which method answers, refusals in the Hub's form, tokens, repositories and commits."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from hub_repository import Repository


if TYPE_CHECKING:
    from hub_server import HubServer

TOKEN = "hf_local_test_token"


class Refused(Exception):
    """An answer that is an error, with the code that the client looks at."""

    def __init__(self, status: int, code: str, message: str):
        self.status, self.code, self.message = status, code, message


class HubHandler(BaseHTTPRequestHandler):
    """Finds the method that answers a request, and what its answers have in common.

    Attributes:
        hub: the server's state, see `hub_server.HubServer`.
        ROUTES: (method, pattern of the path, name of the method that answers); its groups are the arguments.
    """

    hub: HubServer
    ROUTES: tuple[tuple[str, str, str], ...] = ()
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        """The tests' output is not for access logs."""

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
            raise Refused(404, "", f"no such route: {self.command} {path}")
        except Refused as refused:
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
            raise Refused(401, "", "Invalid credentials in Authorization header")
        if required and header is None:
            raise Refused(401, "", "Invalid username or password.")
        return header is not None

    def _repository(self, repo: str, write: bool = False) -> Repository:
        signed_in = self._check_token(required=write)
        repository = self.hub.repositories.get(repo)
        if repository is None or (repository.private and not signed_in):
            raise Refused(404 if signed_in else 401, "RepoNotFound", "Repository not found")
        return repository

    def _commit_of(self, repository: Repository, revision: str) -> str:
        commit = repository.resolve(revision)
        if commit is None:
            raise Refused(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit
