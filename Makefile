# Everything runs in .venv in this checkout; the first target that needs it creates it.
PYTHON ?= python3.11
BIN := .venv/bin
# Tests against goldens of upstream T5X. They take a quarter of the time of all tests, so they have a separate target.
CONFORMANCE := tests/runtime/test_conformance.py tests/runtime/test_project_files.py
# Tests of whole trainings: killed, interrupted, with a full disk, or with several processes. More than a quarter of the
# time of all tests.
SURVIVAL := $(addprefix tests/runtime/,test_resume.py test_train_full_disk.py test_interrupts.py \
  test_distributed.py test_several_processes.py test_partitioning_two_processes.py test_saves_in_flight.py \
  test_train_seeds.py)
# Number of pytest workers; CI has 2 cores.
WORKERS ?= 2
export PYTHONUNBUFFERED := 1
# Container images often set this variable. Without bytecode every start compiles all imported modules, which takes 8 s.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test conformance survival engine-alone test-teacher parity faults lint types wheels clean

demo: .venv/.installed
	$(BIN)/fsa demo $(DEMO_ARGS)

test: .venv/.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
	  $(addprefix --ignore=,$(CONFORMANCE) $(SURVIVAL)) $(TEST_ARGS)

conformance: .venv/.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --must-run $(CONFORMANCE)

# Distributed by file: on two cores, two parallel tests with several processes each would slow each other down (816 s
# instead of 525 s).
survival: .venv/.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --must-run $(SURVIVAL) \
	  $(TEST_ARGS)

# The engine's tests where the engine is installed from its wheels and fsa_jax is not; test_alone.py runs a few of them.
engine-alone: .venv/.installed
	$(BIN)/python tests/runtime/alone.py -n $(WORKERS) --dist loadfile tests/runtime $(TEST_ARGS)

# The long form of the fault tests, and kills at random moments: more than 20,000 cases, to be run by hand.
# FAULTS_SEED=1 draws other cases.
faults: .venv/.installed
	FAULTS=long $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests/faults tests/runtime/test_train_kills.py \
	  tests/benchmark/test_benchmark.py $(TEST_ARGS)

# Tests with real vLLM, in a separate environment.
test-teacher: .venv-teacher/.installed
	.venv-teacher/bin/python -m pytest --must-run -m teacher tests/teacher/test_sidecar.py

# Tests against PyTorch, in a separate environment, so that the other environments stay small.
parity: .venv-parity/.installed
	.venv-parity/bin/python -m pytest --must-run tests/parity $(PARITY_ARGS)

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/deptry .
	cd base && ../$(BIN)/deptry .
	cd runtime && ../$(BIN)/deptry .

# Takes a minute. pyright downloads itself from the npm registry, which CI may not reach, so the author of a change runs
# it.
types: .venv/.installed
	$(BIN)/pyright

# Without this option pip compiles all modules of all packages, a third of the time; Python compiles only imported ones.
PIP_INSTALL := -m pip install --quiet --no-compile

.venv/.installed: requirements.txt pyproject.toml setup.py base/pyproject.toml runtime/pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP_INSTALL) -r requirements.txt
	touch $@

.venv-teacher/.installed: requirements-teacher.txt pyproject.toml setup.py base/pyproject.toml
	$(PYTHON) -m venv .venv-teacher
	.venv-teacher/bin/python $(PIP_INSTALL) --no-deps -r requirements-teacher.txt
	.venv-teacher/bin/python $(PIP_INSTALL) --no-deps -e ./base -e .
	touch $@

# Uses the packages of .venv and adds PyTorch; installing all packages again would take a minute.
.venv-parity/.installed: requirements-parity.txt .venv/.installed
	$(PYTHON) -m venv .venv-parity
	library=$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib", vars={"base": ""}))') && \
	  echo "import site, sys; site.addsitedir(sys.prefix + '/../.venv$$library')" > .venv-parity$$library/venv.pth
	grep -v '^-r' requirements-parity.txt | .venv-parity/bin/python $(PIP_INSTALL) -r /dev/stdin
	touch $@

# The versions for users of the wheels: pip install -c constraints.txt "fsa-jax[cpu]".
constraints.txt: requirements.txt requirements-cuda.txt requirements-tpu.txt requirements-parity.txt
	grep -h == $^ | LC_ALL=C sort -u > $@

# The three wheels in dist/.
wheels: .venv/.installed
	rm -rf build base/build runtime/build
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist ./base . ./runtime

clean:
	rm -rf .venv .venv-teacher .venv-parity .cache demo runs
