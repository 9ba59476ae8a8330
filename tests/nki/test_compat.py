# SPDX-License-Identifier: Apache-2.0
"""One file depends on which NKI is installed, so that a port to the newer package is mechanical."""

import ast
from pathlib import Path

import pytest

import optimum_gemma4.nki


FOLDER = Path(optimum_gemma4.nki.__file__).parent
FILES = sorted(FOLDER.rglob("*.py"))
KERNELS = [path for path in FILES if path.parent.name == "tiles" or path.stem in ("flash_prefill", "decode_attention")]
# What kernels may take from the language as it is: all of it exists in both packages under these names.
LANGUAGE = {
    "affine_range", "arange", "bfloat16", "ds", "float16", "float32", "full", "ndarray", "psum", "sbuf",
    "sequential_range", "shared_hbm", "static_range", "zeros",
}  # fmt: skip
# Operators by the names of SDK 2.26 `nki.api.shared.rst`, which the newer package has too.
OPERATORS = {
    "add", "greater", "greater_equal", "less", "less_equal", "max", "maximum", "minimum", "multiply", "subtract",
}  # fmt: skip


def attributes(path: Path, module: str) -> set[str]:
    """Names that a file takes from `module.`."""
    nodes = ast.walk(ast.parse(path.read_text()))
    return {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == module
    }


def test_only_the_adapter_imports_nki():
    assert len(KERNELS) == 9
    importers = [path.name for path in FILES if "neuronxcc" in path.read_text().replace("`neuronxcc", "")]
    assert importers == ["compat.py"]


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_kernels_use_one_instruction_and_a_few_words_of_the_language(path):
    assert attributes(path, "nisa") <= {"nc_matmul"}
    assert attributes(path, "nl") <= LANGUAGE | OPERATORS


@pytest.mark.parametrize("path", KERNELS, ids=lambda path: path.stem)
def test_kernels_have_no_keyword_masks_and_no_block_dimensions(path):
    tree = ast.parse(path.read_text())
    keywords = {keyword.arg for node in ast.walk(tree) if isinstance(node, ast.Call) for keyword in node.keywords}
    assert "mask" not in keywords and not attributes(path, "nl") & {"par_dim", "mgrid"}
