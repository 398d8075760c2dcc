# make demo and make test need Python 3.11 or newer and nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint format bench docs clean

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e ".[dev]"
	touch $(READY)

# Six modalities and text in one model, a few minutes on two cores; started again, it goes on.
demo: $(READY)
	$(BIN)/polymodal train examples/quickstart.yaml --out runs/quickstart --resume

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# One thread a process: the tests run side by side, and an idle process takes over waiting ones.
# Many start Python anew: it must not compile torch each time, as it does where bytecode is not kept.
test: lint
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --dist worksteal

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(READY)
	$(BIN)/python -m benchmarks

# The site, into site/; `.venv/bin/zensical serve` shows it while you write.
docs: $(READY)
	$(BIN)/uv pip install --quiet --python $(BIN)/python -e ".[docs]"
	$(BIN)/python docs/reference.py
	$(BIN)/zensical build --clean --strict
	! grep -rEno --include='*.html' '<(script|link|img|iframe)[^>]+="https?://[^"]+' site

clean:
	rm -rf $(VENV) runs site docs/reference
