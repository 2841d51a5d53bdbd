# `make repro` runs the main study, `make test` passes the tests; each sets up what it needs, in .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Packages are compiled at first import, which takes a minute less than compiling all of them at installation; but
# then the compiled files must be kept, whatever the shell's settings.
unexport PYTHONDONTWRITEBYTECODE
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true

.PHONY: repro test suite lint demo browser peers ray chaos coverage screenshots bench gpu gpu-tests lock clean

repro: .venv/.installed
	dvc repro report@depth features@depth
	harness report studies/depth.yaml --step summary

test: .venv/.test-installed
	@$(MAKE) --no-print-directory -j 2 lint suite

suite: .venv/.test-installed
	python -m pytest

lint: .venv/.test-installed
	ruff check .
	ruff format --check .
	mypy

# The README's demo, from nothing to its report page.
demo: .venv/.test-installed
	python -m pytest -n 0 -m demo

# Opens both dashboards in a real browser and takes screenshots; needs Chromium.
browser: .venv/.browser-installed
	python -m pytest -n 0 -m browser

# Compares with the peers' packages, in separate environments: .venv stays as locked.
peers: .venv-peers/.installed .venv-sparsify/.installed
	.venv-peers/bin/python -m pytest -n 0 -m peers tests/peers

# Runs a sweep on a Ray cluster of two nodes on this machine, and kills one node.
ray: .venv/.ray-installed
	python -m pytest -n 0 -m ray

# Kills workers and controllers of a sweep dozens of times, and takes its servers, memory and disk away; some minutes.
chaos: .venv/.test-installed
	python -m pytest -n 0 -m chaos

# Simulates studies whose effects are known: how often intervals and verdicts are right; ten to twenty minutes.
# `make coverage STUDIES=200` for a first look.
coverage: STUDIES := 2000
coverage: .venv/.test-installed
	python -m benchmarks.coverage --studies $(STUDIES) --out docs/statistics.md

# Times a step, a grid and the overhead of the harness, and the peers' packages; half an hour on an idle machine.
bench: .venv/.test-installed .venv-peers/.installed .venv-sparsify/.installed .venv-dictionary-learning/.installed
	python -m benchmarks --peers --out docs/benchmarks.md
	python -m benchmarks.capture --peers

# Checks and times steps, cohorts and a stream on a GPU; some five minutes. Needs only torch, Triton and what a cell imports.
gpu:
	$(PYTHON) -m benchmarks.gpu --out docs/gpu.md

# Runs whole sweeps, captures and exports on a GPU; two minutes. `make gpu-tests ON=cpu` runs the same tests on a CPU.
gpu-tests: ON := cuda
gpu-tests: .venv/.test-installed
	GPU_TESTS_ON=$(ON) python -m pytest -n 8 -m gpu tests/gpu --ignore tests/gpu/test_cells.py
	GPU_TESTS_ON=$(ON) python -m pytest -n 8 --dist load -m gpu tests/gpu/test_cells.py

# The pictures in the README, of the study that `make repro` ran.
screenshots: .venv/.browser-installed
	python -m tests.browser.screens . depth docs/img

.venv/.created:
	@$(PYTHON) -c 'import sys; sys.exit("harness needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.installed: .venv/.created pyproject.toml constraints.txt
	@echo "installing the pinned dependencies into .venv (one to three minutes)"
	@$(PIP) -e .
	@touch $@

.venv/.test-installed: .venv/.created pyproject.toml constraints.txt
	@echo "installing the pinned dependencies into .venv (one to three minutes)"
	@$(PIP) -e '.[test]'
	@touch $@ .venv/.installed

.venv/.browser-installed: .venv/.test-installed
	@$(PIP) -e '.[test,browser]'
	@touch $@

.venv/.ray-installed: .venv/.test-installed
	@$(PIP) -e '.[test,ray]'
	@touch $@

.venv-peers/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-peers
	@echo "installing the peers' packages into .venv-peers (two to four minutes)"
	@.venv-peers/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -c constraints.txt -e '.[peers]'
	@touch $@

# torch as pinned, since unpinned ones come with CUDA; torchvision is a build that does not fit it.
.venv-sparsify/.installed: PACKAGE := eai-sparsify==1.3.3
.venv-dictionary-learning/.installed: PACKAGE := dictionary-learning==0.1.0
.venv-sparsify/.installed .venv-dictionary-learning/.installed: constraints.txt
	$(PYTHON) -m venv $(@D)
	grep '^torch==' constraints.txt > $(@D)/constraints.txt
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c $(@D)/constraints.txt torch numpy
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c $(@D)/constraints.txt $(PACKAGE)
	@$(@D)/bin/python -m pip uninstall --quiet --yes torchvision
	@touch $@

# Writes constraints.txt again: the newest versions that pyproject.toml allows, from a fresh environment.
lock:
	rm -rf .venv && $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test,dev,browser,ray]'
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+cpu$$//' > constraints.txt

clean:
	rm -rf .venv .venv-* data runs
