"""A server that stands in for the Hugging Face Hub, with enough of its protocol for the real client.

It keeps all commits in memory. Private repositories are visible only with the token. Files of weights are uploaded and
downloaded in the way of Git LFS, all others inside the commit, as on the Hub.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml

TOKEN = "hf_the-token-of-the-tests"
_LARGE = (".safetensors", ".bin")
_TREE = re.compile(r"/api/(models|datasets)/([\w.-]+/[\w.-]+)/tree/([^/]+)")
_INFO = re.compile(r"/api/(models|datasets)/([\w.-]+/[\w.-]+)/revision/([^/]+)")
_FILE = re.compile(r"/(datasets/)?([\w.-]+/[\w.-]+)/resolve/([^/]+)/(.+)")
_WRITE = re.compile(r"/api/(models|datasets)/([\w.-]+/[\w.-]+)/(preupload|commit)/([^/]+)")
_BATCH = re.compile(r"/(?:datasets/)?([\w.-]+/[\w.-]+)\.git/info/lfs/objects/batch")


@dataclass
class Repository:
    """Files by name for every commit; the branch ``main`` is the last one."""

    private: bool = True
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def find(self, revision: str) -> str | None:
        """The commit of a revision."""
        if revision == "main" and self.commits:
            return list(self.commits)[-1]
        return revision if revision in self.commits else None

    def add(self, files: dict[str, bytes], message: str) -> str:
        """Adds a commit."""
        content = repr((len(self.commits), sorted(files.items()))).encode()
        commit = hashlib.sha1(content).hexdigest()
        self.commits[commit] = files
        self.messages.append(message)
        return commit

    @property
    def files(self) -> dict[str, bytes]:
        """The files of the last commit."""
        return list(self.commits.values())[-1]


class StandInHub(ThreadingHTTPServer):
    """The server. ``repositories`` are by kind and name, as in ``models/me/student``."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[str] = []
        self.refused: set[str] = set()
        """Kinds of requests that the server refuses: ``create``, ``commit``, ``validate-yaml``."""

    @property
    def url(self) -> str:
        """The server's address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def stand_in_hub() -> Iterator[StandInHub]:
    """Runs the server in a thread."""
    with StandInHub() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def connected_hub(cache: Path, token: str | None = TOKEN) -> Iterator[StandInHub]:
    """Runs the server, and makes the Hub's client in this process use it, with an own cache and login."""
    from huggingface_hub import constants

    with stand_in_hub() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", server.url)
        template = "/{repo_id}/resolve/{revision}/{filename}"
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + template)
        patch.setattr(constants, "HF_HUB_CACHE", str(cache))
        patch.setattr(constants, "HF_TOKEN_PATH", str(cache / "no-login"))
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.delenv("HF_TOKEN", raising=False)
        if token:
            patch.setenv("HF_TOKEN", token)
        yield server


class _Handler(BaseHTTPRequestHandler):
    server: StandInHub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        self.server.requests.append(f"{self.command} {self.path}")

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if match := _INFO.fullmatch(path):
            found = self._repository(match[1], match[2], match[3])
            if found:
                repository, commit = found
                files = [{"rfilename": name} for name in repository.commits[commit]]
                self._json({"id": match[2], "sha": commit, "private": repository.private, "siblings": files})
        elif match := _TREE.fullmatch(path):
            found = self._repository(match[1], match[2], match[3])
            if found:
                repository, commit = found
                self._json([_entry(name, content) for name, content in repository.commits[commit].items()])
        elif match := _FILE.fullmatch(path):
            found = self._repository("datasets" if match[1] else "models", match[2], match[3])
            if found:
                repository, commit = found
                self._file(repository.commits[commit], match[4], commit)
        else:
            self._error(404, "EntryNotFound")

    def do_POST(self) -> None:
        path, body = unquote(urlsplit(self.path).path), self._body()
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._error(401, "", "Invalid username or password.")
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._validate(json.loads(body)["content"])
        elif match := _BATCH.fullmatch(path):
            objects = json.loads(body)["objects"]
            upload = [
                {**one, "actions": {"upload": {"href": f"{self.server.url}/lfs/{one['oid']}"}}} for one in objects
            ]
            self._json({"transfer": "basic", "objects": upload})
        elif (match := _WRITE.fullmatch(path)) and match[3] == "preupload":
            files = [file["path"] for file in json.loads(body)["files"]]
            modes = {name: "lfs" if name.endswith(_LARGE) else "regular" for name in files}
            self._json(
                {"files": [{"path": name, "uploadMode": mode, "shouldIgnore": False} for name, mode in modes.items()]}
            )
        elif match:
            self._commit(f"{match[1]}/{match[2]}", [json.loads(line) for line in body.splitlines()])
        else:
            self._error(404, "EntryNotFound")

    def do_PUT(self) -> None:
        self.server.objects[self.path.rpartition("/")[2]] = self._body()
        self._send(200, b"")

    def _create(self, wanted: dict[str, Any]) -> None:
        owner = wanted.get("organization") or "me"
        name = f"{wanted.get('type') or 'model'}s/{owner}/{wanted['name']}"
        if "create" in self.server.refused:
            return self._error(403, "", "You don't have the rights to create a model under this namespace")
        known = name in self.server.repositories
        self.server.repositories.setdefault(name, Repository(wanted.get("visibility") == "private"))
        self._json({"url": f"{self.server.url}/{name.removeprefix('models/')}"}, 409 if known else 200)

    def _validate(self, content: str) -> None:
        front = yaml.safe_load(content.split("---")[1])
        if "validate-yaml" in self.server.refused or not isinstance(front, dict):
            return self._json({"errors": [{"message": '"license" must be one of […]'}], "warnings": []}, 400)
        self._json({"errors": [], "warnings": []})

    def _commit(self, name: str, lines: list[dict[str, Any]]) -> None:
        if "commit" in self.server.refused:
            return self._error(403, "", "Forbidden: pass a token with write access")
        repository = self.server.repositories[name]
        files = dict(repository.files) if repository.commits else {".gitattributes": b""}
        for line in lines:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.server.objects[value["oid"]]
            elif line["key"] == "deletedFile":
                del files[value["path"]]
        commit = repository.add(files, lines[0]["value"]["summary"])
        url = f"{self.server.url}/{name.removeprefix('models/')}/commit/{commit}"
        self._json({"commitOid": commit, "commitUrl": url, "success": True})

    def _repository(self, kind: str, name: str, revision: str) -> tuple[Repository, str] | None:
        repository = self.server.repositories.get(f"{kind}/{name}")
        allowed = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if repository is None or (repository.private and not allowed):
            self._error(404 if allowed else 401, "RepoNotFound", "Repository not found")
            return None
        commit = repository.find(revision)
        if commit is None and repository.commits:
            self._error(404, "RevisionNotFound", "Invalid rev id")
            return None
        if commit is None:
            self._json([])
            return None
        return repository, commit

    def _file(self, files: dict[str, bytes], name: str, commit: str) -> None:
        if name not in files:
            return self._error(404, "EntryNotFound")
        etag = _entry(name, files[name])["oid"]
        self._send(200, files[name], {"ETag": f'"{etag}"', "X-Repo-Commit": commit})

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _json(self, content: Any, status: int = 200) -> None:
        self._send(status, json.dumps(content).encode(), {"Content-Type": "application/json"})

    def _error(self, status: int, code: str, message: str = "") -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message}
        self._send(
            status, json.dumps({"error": message}).encode(), {key: text for key, text in headers.items() if text}
        )

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _entry(name: str, content: bytes) -> dict[str, Any]:
    digest = hashlib.sha256(content).hexdigest()
    if name.endswith(_LARGE):
        lfs = {"oid": digest, "size": len(content), "pointerSize": 134}
        return {"type": "file", "path": name, "size": len(content), "oid": digest, "lfs": lfs}
    return {"type": "file", "path": name, "size": len(content), "oid": digest[:40]}
