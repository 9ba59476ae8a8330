# SPDX-License-Identifier: Apache-2.0
"""The package as it is installed: what a wheel holds, and that wheel and editable install both extend optimum-cli.

Each is installed without network into an interpreter of its own that sees the dependencies of this one.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from random_models import write_random_checkpoint


ROOT = Path(__file__).parents[2]
PLUGIN = "optimum/commands/register/register_gemma4.py"
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
OFFLINE = ["--quiet", "--no-deps", "--no-index", "--no-build-isolation"]


def _sources(package: str) -> set[str]:
    return {path.relative_to(ROOT).as_posix() for path in (ROOT / package).rglob("*.py")}


def _run(*command: object, cwd: Path) -> subprocess.CompletedProcess:
    inherited = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "OPTIMUM_GEMMA4_BACKEND")
    }
    finished = subprocess.run([str(word) for word in command], cwd=cwd, capture_output=True, text=True, env=inherited)
    assert finished.returncode == 0, finished.stderr
    return finished


@pytest.fixture(scope="module")
def source_tree(tmp_path_factory) -> Path:
    """A copy of what the build reads: building leaves files beside it."""
    tree = tmp_path_factory.mktemp("tree")
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for name in ("optimum", "optimum_gemma4"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "tests").mkdir()
    (tree / "tests" / "stray.py").write_text("")
    return tree


@pytest.fixture(scope="module")
def wheel(source_tree, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _run(*PIP, "wheel", *OFFLINE, "--wheel-dir", folder, source_tree, cwd=folder)
    (file,) = folder.glob("*.whl")
    return file


def _interpreter(folder: Path) -> Path:
    """An interpreter without this package; a .pth line lends it the dependencies, no editable install of theirs."""
    _run(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    (site_packages,) = (folder / "lib").glob("python*/site-packages")
    (site_packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    return folder / "bin" / "python"


def _install(python: Path, what: list[object]) -> None:
    _run(*PIP, "--python", python, "install", *OFFLINE, "--ignore-installed", *what, cwd=python.parent)


def _file_of_package(python: Path, cwd: Path) -> Path:
    """Found, not imported: the dependencies would be, too."""
    code = "import importlib.util, sys; sys.stdout.write(importlib.util.find_spec('optimum_gemma4').origin)"
    return Path(_run(python, "-c", code, cwd=cwd).stdout)


def test_a_wheel_holds_the_package_and_the_plugin_and_nothing_else(wheel):
    names = [name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name]
    assert {name for name in names if name.endswith(".py")} == _sources("optimum_gemma4") | {PLUGIN}
    assert all(name.startswith("optimum_gemma4/") or name == PLUGIN for name in names)


def test_the_plugins_folders_are_a_namespace():
    """An `__init__.py` anywhere there would hide optimum's own files (PEP 420)."""
    assert _sources("optimum") == {PLUGIN}


def test_a_wheel_says_what_it_needs(wheel):
    archive = zipfile.ZipFile(wheel)
    (metadata,) = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    text = archive.read(metadata).decode()
    required = [line.removeprefix("Requires-Dist: ") for line in text.splitlines() if line.startswith("Requires-Dist")]
    always = [requirement for requirement in required if "extra ==" not in requirement]
    assert "torch>=2.8" in always and not any("torch==" in requirement for requirement in always)
    assert any(requirement.startswith("optimum-neuron") for requirement in always)
    assert "Requires-Python: <3.12,>=3.10" in text and "License" in text and "Apache-2.0" in text


def test_an_installed_wheel_exports(wheel, tmp_path):
    python = _interpreter(tmp_path / "venv")
    _install(python, [wheel])
    assert tmp_path in _file_of_package(python, tmp_path).parents
    checkpoint = write_random_checkpoint(tmp_path / "checkpoint")
    shapes = ("--instance_type", "trn2", "--batch_size", 1, "--sequence_length", 32, "--tensor_parallel_size", 2)
    cli = (python, "-m", "optimum.commands.optimum_cli")
    _run(*cli, "export", "neuron", "--model", checkpoint, *shapes, tmp_path / "out", cwd=tmp_path)
    assert (tmp_path / "out" / "model.pt").is_file()


def test_an_editable_install_extends_the_command(source_tree, tmp_path):
    """The help shows the options of both packages, and no notice of the simulator."""
    python = _interpreter(tmp_path / "venv")
    _install(python, ["--editable", source_tree])
    assert _file_of_package(python, tmp_path) == source_tree / "optimum_gemma4" / "__init__.py"
    helped = _run(python, "-m", "optimum.commands.optimum_cli", "export", "neuron", "--help", cwd=tmp_path)
    assert "Simulating" not in helped.stderr
    for flag in ("--prefill_buckets", "--no_on_device_sampling", "--no_nki", "--tensor_parallel_size", "--auto_cast"):
        assert flag in helped.stdout
