# Two commands: `make demo` runs the main job on the samples, `make test` installs what it needs and tests all.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT := build-demo

.PHONY: demo test lint check real system clean

demo: $(VENV)/.installed
	@rm -rf $(OUT)
	$(BIN)/mbtool inspect samples/multiboot1/*.elf samples/multiboot2/*.elf samples/pv-dom0/*.elf samples/initrd/*.img
	$(BIN)/mbtool build-dom0 --kernel samples/pv-dom0/pv-dom0.elf --initrd samples/initrd/initrd.img -o $(OUT)

test: system $(VENV)/.installed-dev real check

check: $(VENV)/.installed-dev lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Debian packages that the tests use as independent readers, and the machine to boot on.
system:
	sh tests/system-packages

# Real images, fetched once into .cache/.
real: $(VENV)/.installed-dev
	$(BIN)/python -m tests.debian
	$(BIN)/python -m tests.npm

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable .
	$(BIN)/python -m compileall -q mbtool
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/pip install --quiet --disable-pip-version-check --config-settings editable_mode=compat --editable '.[dev]'
	@touch $@

clean:
	rm -rf $(VENV) $(OUT) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
