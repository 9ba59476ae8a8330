# SPDX-License-Identifier: Apache-2.0
"""Stand-in for libneuronxla.neuron_cc_cache: the local compile cache.

The simulator compiles nothing that is worth caching; optimum-neuron writes the registry of what was exported through
this API, at the same place as with the SDK (NEURON_COMPILE_CACHE_URL, or /var/tmp/neuron-compile-cache).
"""

import os
import shutil
from pathlib import Path
from urllib.parse import urlparse

from optimum_gemma4.simulator.versions import NEURONX_CC


DEFAULT_CACHE = "/var/tmp/neuron-compile-cache"


class CacheUrl:
    """Where the cache is: a folder, or an S3 location."""

    def __init__(self, url: str, url_type: str):
        self.url = url
        self.url_type = url_type

    @classmethod
    def get_cache_url(cls, cache_dir: str | None = None) -> "CacheUrl":
        """The cache that is asked for, or that the environment names, or the default one."""
        url = cache_dir or os.environ.get("NEURON_COMPILE_CACHE_URL") or DEFAULT_CACHE
        scheme = urlparse(url).scheme
        return cls(url.removeprefix("file://"), "s3" if scheme == "s3" else "fs")

    def is_s3(self) -> bool:
        """Whether it is on S3."""
        return self.url_type == "s3"


class CompileCache:
    """A cache at `cache_url`; the entries of one compiler version live in one folder."""

    def __init__(self, cache_url: CacheUrl):
        self.cache_url = cache_url
        self.cache_path = os.path.join(cache_url.url, f"neuronxcc-{NEURONX_CC}")


class CompileCacheFs(CompileCache):
    """A cache in a folder."""

    def get_cache_dir_with_cache_key(self, key: str) -> str:
        """Folder of an entry."""
        return os.path.join(self.cache_path, key)

    def exists(self, path: str) -> bool:
        """Whether a file or folder of the cache exists."""
        return os.path.exists(path)

    def upload_string_to_file(self, cache_path: str, data: str) -> None:
        """Writes a file of the cache."""
        Path(cache_path).parent.mkdir(parents=True, exist_ok=True)
        Path(cache_path).write_text(data)

    def download_file_to_string(self, filename: str, limit: int | None = None) -> str:
        """Reads a file of the cache."""
        return Path(filename).read_text()[:limit]

    def upload_file(self, cache_path: str, src_path: str) -> None:
        """Copies a file into the cache."""
        Path(cache_path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(src_path, cache_path)

    def download_file(self, filename: str, dst_path: str) -> None:
        """Copies a file out of the cache."""
        shutil.copyfile(filename, dst_path)


class CompileCacheS3(CompileCache):
    """A cache on S3, which the simulator does not reach."""

    def __init__(self, cache_url: CacheUrl):
        raise NotImplementedError(
            f"the simulator has no S3 compile cache: set NEURON_COMPILE_CACHE_URL to a folder (it is {cache_url.url})"
        )


def create_compile_cache(cache_url: CacheUrl) -> CompileCache:
    """The cache at `cache_url`."""
    return CompileCacheS3(cache_url) if cache_url.is_s3() else CompileCacheFs(cache_url)
