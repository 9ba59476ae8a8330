# SPDX-License-Identifier: Apache-2.0
# Every target sets itself up in .venv (the reference in .venv-reference) and is quick the second time.

PYTHON ?= $(shell command -v python3.11 || command -v python3.10 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
REFERENCE_VENV := .venv-reference
REFERENCE_PIP := $(REFERENCE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check
TRANSFORMERS_REFERENCE := transformers==5.23.0

# First and pinned: in another order a dependency brings a newer build, of several GB
TORCH := torch==2.13.0

export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM := false
export PYTHONHASHSEED := 0

.PHONY: setup test test-slow test-memory test-big test-vision-31b demo lint goldens reference-env clean

setup: $(VENV)/.ready

$(VENV)/.ready: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) "$(TORCH)"
	$(PIP) --editable ".[simulator,test]"
	touch $@

reference-env: $(REFERENCE_VENV)/.ready

$(REFERENCE_VENV)/.ready: Makefile
	test -x $(REFERENCE_VENV)/bin/python || $(PYTHON) -m venv $(REFERENCE_VENV)
	$(REFERENCE_PIP) "$(TORCH)"
	$(REFERENCE_PIP) "$(TRANSFORMERS_REFERENCE)" accelerate pillow jinja2 pytest psutil
	touch $@

# What CI runs: everything that is not marked slow
test: setup
	$(BIN)/python -m pytest tests

# Each of these needs gigabytes of memory or disk, or many minutes
test-slow: setup
	$(BIN)/python -m pytest -m slow tests

test-memory: setup
	$(BIN)/python -m pytest -m slow tests/exporters/test_conversion_memory.py -s

# A model of the 31B's widths, from export to logits, beside transformers in bf16
test-big: setup reference-env
	$(BIN)/python -m pytest -m slow tests/parity/test_big_random.py --log-cli-level=INFO

# The 31B's vision tower at full width and depth in bf16, beside transformers
test-vision-31b: setup reference-env
	$(BIN)/python -m pytest -m slow tests/modeling/vision/test_full_size.py

demo: setup
	$(BIN)/python tools/demo.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Expected values of the tests, from transformers' own Gemma 4
goldens: reference-env
	$(REFERENCE_VENV)/bin/python tools/make_reference.py
	$(REFERENCE_VENV)/bin/python tools/make_picture_reference.py
	$(REFERENCE_VENV)/bin/python tools/make_greedy_reference.py
	$(REFERENCE_VENV)/bin/python -m tools.make_multimodal_reference
	$(REFERENCE_VENV)/bin/python -m tools.make_text_reference
	$(REFERENCE_VENV)/bin/python -m tools.make_processing_reference
	$(REFERENCE_VENV)/bin/python -m tools.make_vision_reference golden

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache out
