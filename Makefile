# Everything runs in .venv in this checkout; the first target that needs it builds it.
PYTHON ?= python3.11
BIN := .venv/bin
# pytest workers; 2 cores are what CI has.
WORKERS ?= 2
export PYTHONUNBUFFERED := 1

.PHONY: demo test lint types clean

demo: .venv/.installed
	$(BIN)/fsa demo $(DEMO_ARGS)

test: .venv/.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadgroup $(TEST_ARGS)

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

# Takes minutes on two cores, so CI leaves it to the author of a change.
types: .venv/.installed
	$(BIN)/pyright

.venv/.installed: requirements.txt pyproject.toml runtime/pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

clean:
	rm -rf .venv demo runs
