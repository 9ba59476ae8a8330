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

.PHONY: help setup test test-slow test-images test-fuzz test-vision-31b test-big test-memory test-nki demo lint goldens \
	reference-env clean

help:  ## this list
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '%-18s %s\n' "$$name" "$$text"; done

setup: $(VENV)/.ready  ## the package and what its tests need, in .venv

$(VENV)/.ready: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) "$(TORCH)"
	$(PIP) --editable ".[simulator,test]"
	touch $@

reference-env: $(REFERENCE_VENV)/.ready  ## transformers with its own Gemma 4, in .venv-reference

$(REFERENCE_VENV)/.ready: Makefile
	test -x $(REFERENCE_VENV)/bin/python || $(PYTHON) -m venv $(REFERENCE_VENV)
	$(REFERENCE_PIP) "$(TORCH)"
	$(REFERENCE_PIP) "$(TRANSFORMERS_REFERENCE)" accelerate pillow jinja2 pytest psutil
	touch $@

test: setup  ## what CI runs: everything that is not marked slow
	$(BIN)/python -m pytest tests

test-slow: setup reference-env  ## everything that is marked slow: gigabytes and hours
	$(BIN)/python -m pytest -m slow tests

test-images: setup  ## every prompt with pictures at every size, and a hundred fresh pictures
	$(BIN)/python -m pytest -m slow tests/parity/test_multimodal_models.py tests/parity/test_tiny_pictures.py

test-fuzz: setup reference-env  ## random models, exports and prompts beside transformers; FUZZ_SEEDS=0-39
	$(BIN)/python -m pytest -m slow tests/parity/test_fuzz.py

test-vision-31b: setup reference-env  ## the 31B's vision encoder at full width and depth, beside transformers
	$(BIN)/python -m pytest -m slow tests/modeling/vision/test_full_size.py

test-big: setup reference-env  ## a model of the 31B's widths, from export to logits, beside transformers in bf16
	$(BIN)/python -m pytest -m slow tests/parity/test_big_random.py --log-cli-level=INFO

test-memory: setup  ## the memory that converting a large checkpoint takes
	$(BIN)/python -m pytest -m slow tests/exporters/test_conversion_memory.py -s

test-nki: setup  ## the longest runs of the kernels in the NKI simulator
	$(BIN)/python -m pytest -m slow tests/nki

demo: setup  ## export the tiny checkpoint, ask it, show it a picture
	$(BIN)/python tools/demo.py

lint: setup  ## ruff
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

goldens: reference-env  ## expected values of the tests, from transformers' own Gemma 4
	$(REFERENCE_VENV)/bin/python -m tools.make_reference
	$(REFERENCE_VENV)/bin/python -m tools.make_greedy_reference
	$(REFERENCE_VENV)/bin/python -m tools.make_picture_reference
	$(REFERENCE_VENV)/bin/python -m tools.make_multimodal_reference
	$(REFERENCE_VENV)/bin/python -m tools.make_text_reference
	$(REFERENCE_VENV)/bin/python -m tools.make_processing_reference
	$(REFERENCE_VENV)/bin/python -m tools.make_vision_reference golden

clean:  ## what builds and demos leave
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache out
