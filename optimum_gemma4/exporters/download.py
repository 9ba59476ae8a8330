# SPDX-License-Identifier: Apache-2.0
"""Downloads from the Hub whose failure says what was being fetched, and that nothing is lost.

`snapshot_download` keeps every complete file in the cache and goes on from there, but a connection that is cut ends in
the HTTP library's own words, without the repository's name.
"""

from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from requests.exceptions import ChunkedEncodingError, Timeout
from requests.exceptions import ConnectionError as RequestsConnectionError

from .wording import one_line


__all__ = ["download"]


def download(repo_id: str, **options: Any) -> Path:
    """Fetches a repository into the cache.

    Args:
        repo_id: "organisation/name".
        **options: Of `snapshot_download` (revision, token, cache_dir, allow_patterns, ...).

    Returns:
        The folder in the cache.

    Raises:
        ConnectionError: the connection was cut.
        OSError, HfHubHTTPError: the client's own errors, which name the repository.
    """
    try:
        return Path(snapshot_download(repo_id, **options))
    except (RequestsConnectionError, ChunkedEncodingError, Timeout) as error:
        raise ConnectionError(
            f"{repo_id} was not downloaded whole: {one_line(error)}. The files that are complete stay in "
            "the cache: try again to fetch the others."
        ) from error
