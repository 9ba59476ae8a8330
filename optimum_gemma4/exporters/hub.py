# SPDX-License-Identifier: Apache-2.0
"""Artifacts to the Hub: a push in one commit, with a model card, that leaves out what the Hub has already.

The weights of a checkpoint that is on the Hub are not uploaded again: `from_pretrained` fetches them from there, at
the commit that was exported.
"""

from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import Timeout

from .artifact import CHECKPOINT_FOLDER
from .model_card import model_card, recorded_config
from .wording import one_line


__all__ = ["push_artifact"]

CARD = "README.md"
_REFUSED_TOKEN = (401, 403)


def push_artifact(
    folder: str | Path,
    repo_id: str,
    private: bool | None = None,
    revision: str | None = None,
    token: bool | str | None = None,
    endpoint: str | None = None,
) -> str:
    """Uploads an artifact in one commit, with a model card unless it has one.

    Args:
        folder: The artifact.
        repo_id: "organisation/name"; made when it does not exist.
        private: Whether a repository that is made is private.
        revision: Branch to commit to; made when it does not exist.
        token: Of the Hub; the one that was stored at login by default.
        endpoint: Another Hub than huggingface.co.

    Returns:
        The commit's hash, which `from_pretrained(repo_id, revision=...)` takes.

    Raises:
        ValueError: the folder is not an export, or the Hub refuses the token or the repository.
        ConnectionError: the Hub cannot be reached, or the connection was cut; nothing was committed.
    """
    folder = Path(folder)
    on_the_hub = recorded_config(folder).get("checkpoint_id") is not None
    operations = [
        CommitOperationAdd(path.relative_to(folder).as_posix(), str(path))
        for path in _files(folder)
        if not (on_the_hub and path.is_relative_to(folder / CHECKPOINT_FOLDER))
    ]
    if not (folder / CARD).exists():
        operations.append(CommitOperationAdd(CARD, model_card(folder, repo_id).encode()))
    api = HfApi(endpoint=endpoint, token=token)
    try:
        api.create_repo(repo_id, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repo_id, branch=revision, exist_ok=True)
        commit = api.create_commit(
            repo_id, operations, commit_message="Upload an optimum_gemma4 export", revision=revision
        )
    except (RequestsConnectionError, Timeout, RuntimeError) as error:
        # A RuntimeError is the client's word for a large file whose upload ended early
        raise ConnectionError(f"{repo_id} was not pushed, nothing was committed: {one_line(error)}") from error
    except LocalTokenNotFoundError as error:
        raise ValueError(f"{repo_id} was not pushed: log in with `hf auth login`, or give token=") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        advice = "check the token and its right to write there" if status in _REFUSED_TOKEN else "check repository_id"
        raise ValueError(f"{repo_id} was not pushed, {advice}: {one_line(error)}") from error
    return commit.oid


def _files(folder: Path) -> list[Path]:
    """Files of the artifact; hidden folders (a client's cache, version control) are not part of it."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts)]
