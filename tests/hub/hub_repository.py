# SPDX-License-Identifier: Apache-2.0
"""What the small Hub keeps of a repository: files by commit, and the names of commits."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field


# Files of these names go through the LFS protocol, as the Hub's default .gitattributes has it.
LFS_SUFFIXES = (".safetensors", ".pt", ".bin", ".tokenizer")


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
