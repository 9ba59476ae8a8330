# SPDX-License-Identifier: Apache-2.0
"""The import finder that maps the SDK's five top-level names to the folders beside this file.

It is the first entry of `sys.meta_path`, so that it wins for every module alike: over a placeholder distribution, and
over a folder of the same name in the working directory (a namespace package). It also answers
`importlib.metadata.version("torch_neuronx")`, without which optimum-neuron takes the SDK for absent, and hands the two
modules of optimum-neuron that read the Neuron driver's files to `platform.py`.
"""

import importlib.metadata
import re
from collections.abc import Iterator
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from .not_simulated import NOT_SIMULATED_MODULES, NotSimulatedLoader
from .platform import PLATFORM_MODULES, PlatformLoader
from .policy import SDK_MODULES
from .versions import DISTRIBUTIONS


ROOT = Path(__file__).parent


class SimulatedDistribution(importlib.metadata.Distribution):
    """Distribution metadata of one simulated SDK package: a name and a version."""

    def __init__(self, name: str, version: str):
        self._metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nSummary: CPU simulator\n"

    def read_text(self, filename: str) -> str | None:
        return self._metadata if filename in ("METADATA", "PKG-INFO") else None

    def locate_file(self, path: str) -> Path:
        return ROOT / path


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


class SimulatorFinder(MetaPathFinder):
    """Finds the simulated SDK, its metadata, and the platform modules of optimum-neuron."""

    def find_spec(self, fullname: str, path=None, target=None) -> ModuleSpec | None:
        if fullname in SDK_MODULES:
            return PathFinder.find_spec(fullname, [str(ROOT)], target)
        if fullname in NOT_SIMULATED_MODULES:
            return ModuleSpec(fullname, NotSimulatedLoader(), is_package=NOT_SIMULATED_MODULES[fullname])
        if fullname in PLATFORM_MODULES:
            spec = PathFinder.find_spec(fullname, path, target)
            if spec is not None and spec.loader is not None:
                spec.loader = PlatformLoader(spec.loader, PLATFORM_MODULES[fullname])
            return spec
        return None  # submodules are found through the package's own __path__

    def find_distributions(
        self, context: importlib.metadata.DistributionFinder.Context | None = None
    ) -> Iterator[importlib.metadata.Distribution]:
        wanted = None if context is None or context.name is None else _normalized(context.name)
        for name, version in DISTRIBUTIONS.items():
            if wanted is None or wanted == _normalized(name):
                yield SimulatedDistribution(name, version)
