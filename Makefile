# Everything runs in .venv in this checkout; the first target that needs it builds it.
PYTHON ?= python3.11
BIN := .venv/bin
# Goldens of upstream T5X; a quarter of all tests' time, so they have a target of their own.
CONFORMANCE := tests/runtime/test_conformance.py tests/runtime/test_project_files.py
# Whole trainings that are killed, interrupted, out of disk, or of several processes; more than a quarter of the time.
SURVIVAL := $(addprefix tests/runtime/,test_resume.py test_train_full_disk.py test_interrupts.py \
  test_distributed.py test_several_processes.py test_partitioning_two_processes.py)
# pytest workers; 2 cores are what CI has.
WORKERS ?= 2
export PYTHONUNBUFFERED := 1
# Container images often set it; without bytecode every start compiles all it imports, 8 seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test conformance survival engine-alone test-teacher parity faults lint types clean

demo: .venv/.installed
	$(BIN)/fsa demo $(DEMO_ARGS)

test: .venv/.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder \
	  $(addprefix --ignore=,$(CONFORMANCE) $(SURVIVAL)) $(TEST_ARGS)

conformance: .venv/.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --must-run $(CONFORMANCE)

# By files: two tests of several processes each, side by side, wait for one another on two cores (816 s instead of 525).
survival: .venv/.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder --must-run $(SURVIVAL) \
	  $(TEST_ARGS)

# The engine's tests where the engine is installed from its wheels and fsa_jax is not; test_alone.py runs a few of them.
engine-alone: .venv/.installed
	$(BIN)/python tests/runtime/alone.py -n $(WORKERS) --dist loadfile tests/runtime $(TEST_ARGS)

# The long form of the fault campaigns, and kills at random moments, by hand: more than 20,000 cases. FAULTS_SEED=1 draws
# others.
faults: .venv/.installed
	FAULTS=long $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal tests/faults tests/runtime/test_train_kills.py $(TEST_ARGS)

# Real vLLM, in an environment of its own.
test-teacher: .venv-teacher/.installed
	.venv-teacher/bin/python -m pytest --must-run -m teacher tests/teacher/test_sidecar.py

# Against PyTorch, which has an environment of its own so that the others stay light.
parity: .venv-parity/.installed
	.venv-parity/bin/python -m pytest --must-run tests/parity $(PARITY_ARGS)

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/deptry .
	cd base && ../$(BIN)/deptry .
	cd runtime && ../$(BIN)/deptry .

# A minute. pyright fetches itself from the npm registry, which a machine may lack, so CI leaves it to the author of a change.
types: .venv/.installed
	$(BIN)/pyright

# Python compiles what is imported; pip would compile all of every package, a third of the time.
PIP_INSTALL := -m pip install --quiet --no-compile

.venv/.installed: requirements.txt pyproject.toml base/pyproject.toml runtime/pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python $(PIP_INSTALL) -r requirements.txt
	touch $@

.venv-teacher/.installed: requirements-teacher.txt pyproject.toml
	$(PYTHON) -m venv .venv-teacher
	.venv-teacher/bin/python $(PIP_INSTALL) --no-deps -r requirements-teacher.txt
	.venv-teacher/bin/python $(PIP_INSTALL) --no-deps -e ./base -e .
	touch $@

# The packages of .venv with PyTorch beside them: installing those again would take a minute.
.venv-parity/.installed: requirements-parity.txt .venv/.installed
	$(PYTHON) -m venv .venv-parity
	echo 'import site, sys; site.addsitedir(sys.prefix + "/../.venv/lib/python3.11/site-packages")' \
	  > .venv-parity/lib/python3.11/site-packages/venv.pth
	grep -v '^-r' requirements-parity.txt | .venv-parity/bin/python $(PIP_INSTALL) -r /dev/stdin
	touch $@

clean:
	rm -rf .venv .venv-teacher .venv-parity .cache demo runs
