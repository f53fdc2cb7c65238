# The same commands here and in CI. VENV names the virtual environment, PYTHON the interpreter that makes it.
VENV ?= .venv
PYTHON ?= $(shell tools/find_python)
BIN := $(VENV)/bin
# Processes that share the tests: they mostly wait for servers.
WORKERS ?= auto
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: help venv oracle cuda gui demo test lint docs soak bench wheel-test clean

help:
	@echo "make venv        the virtual environment $(VENV), for users and developers"
	@echo "make oracle      the ASTRA toolbox (GPL-3.0, 440 MB) into it, which some tests compare with"
	@echo "make cuda        CuPy and the compiler NVRTC (340 MB) into it, by which the tests compile the CUDA sources"
	@echo "make gui         the operator window into it (Qt, 100 MB); by itself with make demo where there is a display"
	@echo "make demo        servers, a replayed scan and a live table; Ctrl-C stops everything"
	@echo "make test        all tests;  make test ARGS='-k window'  some of them"
	@echo "make lint        ruff, pyright, import-linter"
	@echo "make docs        the documentation as a site, docs/_build/index.html; broken links are errors"
	@echo "make soak        a simulated shift of half an hour: crashes, wrong values, a full disk; its log is benchmarks/results/soak.log"
	@echo "make bench       every figure of this machine, beside targets and peers;  make bench ARGS=--quick"
	@echo "make wheel-test  build the wheel, install it into an empty environment and run its scripts"

venv: $(VENV)/installed-dev

$(VENV)/installed: pyproject.toml constraints.txt
	@tools/find_python --check "$(PYTHON)"
	"$(PYTHON)" -m venv $(VENV)
	$(INSTALL) .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(INSTALL) ".[dev]"
	touch $@

oracle: $(VENV)/installed-astra

$(VENV)/installed-astra: $(VENV)/installed-dev
	$(INSTALL) ".[dev,astra]"
	touch $@

cuda: $(VENV)/installed-cuda

$(VENV)/installed-cuda: $(VENV)/installed-dev
	$(INSTALL) ".[dev,cuda]"
	touch $@

# Where there is a display the operator window comes along: Qt, 100 MB more.
demo: $(VENV)/installed$(if $(DISPLAY)$(WAYLAND_DISPLAY),-gui)
	$(BIN)/tango-jit demo $(ARGS)

gui: $(VENV)/installed-gui

$(VENV)/installed-gui: $(VENV)/installed
	$(INSTALL) ".[gui]"
	touch $@

test: venv
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(ARGS)

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PYRIGHT_PYTHON_IGNORE_WARNINGS=1 $(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

docs: venv
	$(BIN)/python -m sphinx -q -W --keep-going -n docs docs/_build $(ARGS)

soak: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks.soak --log benchmarks/results/soak.log --json benchmarks/results/soak.json $(ARGS)

bench: $(VENV)/installed-bench
	$(BIN)/tango-jit bench $(ARGS)

$(VENV)/installed-bench: $(VENV)/installed
	$(INSTALL) ".[bench]"
	touch $@

wheel-test: venv
	$(BIN)/python tools/check_wheel.py

clean:
	rm -rf $(VENV) dist docs/_build .pytest_cache .ruff_cache .import_linter_cache .hypothesis
