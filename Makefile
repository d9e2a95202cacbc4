# Attune: `make demo` shows it, `make test` tests it; each brings what it needs. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TRAIN := .venv-train
TORCH ?= 2.13.0
AUDIT := .venv-audit
# Files of tests that run side by side: most of them wait for real time most of the time.
JOBS ?= 2

.PHONY: help setup demo test test-tools test-train lint audit bench soak clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 14

setup: $(VENV)/.installed ## the virtual environment and the models
	@echo "== models: fetching and converting what is not here yet"
	@$(BIN)/python launch.py models fetch

demo: setup ## the bundled session through the whole system; ARGS=--once ends with it
	@echo "== demo: ctrl-c ends it"
	@$(BIN)/python launch.py demo $(ARGS)

test: setup $(VENV)/.installed-dev test-tools ## all tests; ARGS goes to pytest
	@$(BIN)/python -m tests.driver.build $(VENV)/driver
	@echo "== tests"
	@$(BIN)/python -m pytest -m "not gpu" -n $(JOBS) --dist loadfile $(ARGS)

test-train: setup test-tools $(TRAIN)/.installed ## the tests of the training side, with the CPU build of torch in a venv of its own
	@echo "== tests of the training side"
	@$(TRAIN)/bin/python -m pytest -m "not gpu" tests/train $(ARGS)

lint: $(VENV)/.installed-dev ## style, types and the arrows between the rooms
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy agent engines sensors tests launch.py
	@$(BIN)/lint-imports

audit: $(VENV)/.installed-dev ## known vulnerabilities of what is installed, by pip-audit
	@echo "== audit"
	@[ -x $(AUDIT)/bin/pip-audit ] || { $(PYTHON) -m venv $(AUDIT) && \
	  $(AUDIT)/bin/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.9'; } || \
	  echo "pip-audit could not be installed"
	@$(BIN)/python .ci/audit.py $(AUDIT)/bin/pip-audit --path $(VENV)/lib/python3*/site-packages \
	  --skip-editable --progress-spinner off --format json

bench: setup $(VENV)/.installed-dev ## the figures of the README
	@$(BIN)/python -m tests.bench

soak: setup $(VENV)/.installed-dev test-tools ## hours on the virtual clock, minutes live, 1,000 reconnects, long fuzzing: most of an hour
	@echo "== 8 virtual hours"
	@$(BIN)/python -m tests.soak virtual --hours 8
	@echo "== 1,000 reconnects"
	@$(BIN)/python -m tests.soak reconnects --times 1000 2>/dev/null
	@echo "== 10 minutes of the demo, after its first 7"
	@$(BIN)/python -m tests.soak live
	@echo "== the faults, with 2,000 damaged files and messages a test"
	@FUZZ_EXAMPLES=2000 $(BIN)/python -m pytest tests/faults --timeout 3600 $(ARGS)

test-tools: # the programs that the tests run for real: broker, sound server, video server, speech, browser, compiler
	@missing=""; \
	for tool in mosquitto:mosquitto mosquitto_sub:mosquitto-clients pulseaudio:pulseaudio pacat:pulseaudio-utils \
	            ffmpeg:ffmpeg espeak-ng:espeak-ng faketime:faketime chromium:chromium \
	            strace:strace gcc:gcc g++:g++; do \
	  PATH="$$PATH:/usr/sbin:/usr/local/sbin" command -v $${tool%%:*} >/dev/null || missing="$$missing $${tool##*:}"; \
	done; \
	ldconfig -p 2>/dev/null | grep -q libportaudio || missing="$$missing libportaudio2"; \
	for part in girepository-1.0/GstRtspServer-1.0.typelib:gir1.2-gst-rtsp-server-1.0 \
	            gstreamer-1.0/libgstrtp.so:gstreamer1.0-plugins-good gstreamer-1.0/libgstx264.so:gstreamer1.0-plugins-ugly; do \
	  ls /usr/lib/*/$${part%%:*} >/dev/null 2>&1 || missing="$$missing $${part##*:}"; \
	done; \
	$(PYTHON) -c 'import os, sysconfig; os.stat(os.path.join(sysconfig.get_path("include"), "Python.h"))' 2>/dev/null || \
	  missing="$$missing python3-dev"; \
	/usr/bin/python3 -c 'import gi' 2>/dev/null || missing="$$missing python3-gi"; \
	ls /usr/lib/*/alsa-lib/libasound_module_pcm_pulse.so >/dev/null 2>&1 || missing="$$missing libasound2-plugins"; \
	if [ -n "$$missing" ]; then \
	  echo "== test tools: installing$$missing"; \
	  sudo=""; [ "$$(id -u)" = 0 ] || sudo="sudo -n"; \
	  if ! command -v apt-get >/dev/null || ! { $$sudo apt-get update -qq && \
	       DEBIAN_FRONTEND=noninteractive $$sudo apt-get install -y -qq --no-install-recommends $$missing >/dev/null; }; then \
	    echo "the tests need these programs, and they could not be installed:$$missing"; \
	    echo "on Debian or Ubuntu: sudo apt-get install$$missing"; exit 1; \
	  fi; \
	fi

$(VENV)/bin/python:
	@echo "== python: making the virtual environment $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Attune needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo "the module venv is missing; on Debian or Ubuntu: sudo apt-get install python3-venv"; exit 1; }

$(VENV)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "== python: installing what Attune needs"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[models]'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml | $(VENV)/.installed
	@echo "== python: installing what the tests need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# Torch first and by its exact version: where a CPU build of it can be had, nothing asks for another afterwards. The
# compiled part of torchaudio fits one CUDA build of torch alone; without its files torchaudio does without, and all that
# is used of it is written in Python.
$(TRAIN)/.installed: pyproject.toml | $(VENV)/bin/python
	@echo "== python: installing what training needs, torch among it"
	@$(PYTHON) -m venv $(TRAIN)
	@$(TRAIN)/bin/python -m pip install --quiet --disable-pip-version-check torch==$(TORCH)
	@$(TRAIN)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]' 'matplotlib>=3.9'
	@if $(TRAIN)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps 'torchaudio>=2.9'; then \
	  rm -f $(TRAIN)/lib/python3*/site-packages/torchaudio/lib/*.so; \
	else echo "torchaudio could not be installed: what needs it is left out"; fi
	@touch $@

clean: ## remove the virtual environments and caches of the tools
	rm -rf $(VENV) $(TRAIN) $(AUDIT) .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
