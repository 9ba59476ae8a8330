# SPDX-License-Identifier: Apache-2.0
"""Which backend a process gets, in processes of their own: all of the SDK or all of the simulator."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]
# The simulator alone, without the registration that importing the whole package does.
ALONE = """
import sys, types
package = types.ModuleType("optimum_gemma4")
package.__path__ = [{path!r}]
sys.modules["optimum_gemma4"] = package
from optimum_gemma4.simulator import activate, backend_name
"""


def python(code: str, cwd: Path, backend: str | None = None) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if key != "OPTIMUM_GEMMA4_BACKEND"}
    environment.pop("NEURON_PLATFORM_TARGET_OVERRIDE", None)
    if backend is not None:
        environment["OPTIMUM_GEMMA4_BACKEND"] = backend
    source = ALONE.format(path=str(ROOT / "optimum_gemma4")) + code
    return subprocess.run([sys.executable, "-c", source], cwd=cwd, env=environment, capture_output=True, text=True)


def install(folder: Path, *names: str, metadata: bool = True) -> None:
    """Puts packages of these names into a folder, which is the working directory and so on the path."""
    for name in names:
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text("REAL = True\n")
        if metadata:
            info = folder / f"{name}-1.0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")


def test_without_an_sdk_it_simulates_and_says_so_once_in_one_line(tmp_path):
    result = python("print(activate(), activate(), backend_name())", tmp_path)
    assert result.stdout.split() == ["simulator"] * 3
    (line,) = result.stderr.splitlines()
    assert "Simulating the Neuron SDK on the CPU: no Neuron SDK is installed" in line


def test_an_installed_sdk_is_used_and_left_alone(tmp_path):
    install(tmp_path, "torch_neuronx", "neuronx_distributed")
    before = "import sys; finders = list(sys.meta_path)\n"
    check = "print(activate(), finders == sys.meta_path); import torch_neuronx; print(torch_neuronx.REAL)"
    result = python(before + check, tmp_path)
    assert (result.stdout.split(), result.stderr) == (["neuron", "True", "True"], "")


@pytest.mark.parametrize(
    "installed",
    [
        {"names": ["libneuronxla"]},
        {"names": ["torch_neuronx"]},
        {"names": ["torch_neuronx", "neuronx_distributed"], "metadata": False},
    ],
    ids=["placeholder", "half", "no-metadata"],
)
def test_less_than_an_sdk_does_not_count_and_is_replaced_as_a_whole(tmp_path, installed):
    install(tmp_path, *installed["names"], metadata=installed.get("metadata", True))
    code = """
print(activate())
from importlib.metadata import version
from importlib.util import find_spec
for name in ("torch_neuronx", "neuronx_distributed", "neuronxcc", "libneuronxla", "torch_xla"):
    print("simulator" in find_spec(name).origin)
for name in ("torch_neuronx", "neuronx-distributed", "neuronx-cc", "libneuronxla", "torch_xla"):
    print("simulated" in version(name))
"""
    assert python(code, tmp_path).stdout.split() == ["simulator"] + ["True"] * 10


def test_a_folder_of_the_same_name_in_the_working_directory_does_not_shadow(tmp_path):
    for name in ("neuronx_distributed", "libneuronxla"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "utils.py").write_text("raise ImportError('shadowed')")
    result = python("print(activate()); import libneuronxla; print(libneuronxla.__version__)", tmp_path)
    assert result.stdout.split()[0] == "simulator" and "+simulated" in result.stdout


def test_the_simulator_on_request_replaces_a_whole_sdk(tmp_path):
    install(tmp_path, "torch_neuronx", "neuronx_distributed", "libneuronxla")
    code = "print(activate()); import libneuronxla, torch_xla; print(hasattr(libneuronxla, 'REAL'))"
    result = python(code, tmp_path, backend="simulator")
    assert result.stdout.split() == ["simulator", "False"] and "as asked" in result.stderr


def test_what_was_imported_before_is_not_half_replaced(tmp_path):
    install(tmp_path, "libneuronxla")
    result = python("import libneuronxla; activate()", tmp_path)
    assert result.returncode != 0
    assert "RuntimeError: Cannot simulate the Neuron SDK: 'libneuronxla' is already imported from" in result.stderr


def test_asking_for_an_sdk_that_is_not_there_is_an_error(tmp_path):
    install(tmp_path, "torch_neuronx")
    result = python("activate()", tmp_path, backend="neuron")
    assert "RuntimeError: OPTIMUM_GEMMA4_BACKEND=neuron" in result.stderr and "no neuronx_distributed" in result.stderr


def test_an_unknown_backend_is_an_error(tmp_path):
    result = python("activate()", tmp_path, backend="gpu")
    assert "ValueError: OPTIMUM_GEMMA4_BACKEND='gpu' is not a backend" in result.stderr
    assert "auto, neuron, simulator" in result.stderr


def test_activation_is_safe_between_threads(tmp_path):
    code = """
import sys, threading
threads = [threading.Thread(target=activate) for _ in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
print(sum(type(finder).__name__ == "SimulatorFinder" for finder in sys.meta_path))
"""
    result = python(code, tmp_path)
    assert result.stdout.strip() == "1" and len(result.stderr.splitlines()) == 1


def test_the_simulated_instance_is_the_target_s(tmp_path):
    """In a process for each target, since optimum-neuron asks once; importing it takes the time, so they are forks."""
    code = """
import os
activate()
from optimum.neuron.utils import system
from optimum.neuron.utils.instance import current_instance_type
for target in (None, "trn1", "inf2"):
    if os.fork():
        os.wait()
        continue
    if target:
        os.environ["NEURON_PLATFORM_TARGET_OVERRIDE"] = target
    print(system.get_instance_name(), system.get_available_cores(), current_instance_type(), flush=True)
    os._exit(0)
"""
    found = python(code, tmp_path).stdout.splitlines()
    assert found == ["trn2.48xlarge 64 trn2", "trn1.32xlarge 32 trn1", "inf2.48xlarge 24 trn1"]
