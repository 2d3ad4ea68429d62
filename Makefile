# make quickstart   set up, then distil, refine, infer and evaluate on the embedded world
# make test         set up, then the tests
# make check        set up, then every static check

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# Broken links and anchors are errors, but not with -q, which hides them from --strict. The theme's word on its successor is not asked for.
BUILD_SITE := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

.PHONY: quickstart test test-slow check docs clean

quickstart: $(STAMP)
	$(BIN)/hkd distill-online recipes/quickstart.yaml --out runs/quickstart --overwrite
	$(BIN)/hkd distill-refine recipes/quickstart-refine.yaml --out runs/quickstart-refine --overwrite
	# Verdicts stand in one order everywhere here, in training too, so they are asked in that one.
	$(BIN)/hkd infer runs/quickstart-refine scenes:test --shift --shift-task hallucination \
		--out runs/quickstart-refine/p.jsonl --overwrite
	$(BIN)/hkd evaluate runs/quickstart-refine/p.jsonl scenes:test --report runs/quickstart.html --overwrite
	$(BIN)/python -m hkdcli.scenes write test --size 4 --out runs/quickstart-scenes
	$(BIN)/hkd infer runs/quickstart-refine --shift --image runs/quickstart-scenes/images/h-test-0-000002.png \
		--caption "red shape below orange shape, small orange shape, orange square." \
		--phrases "red shape below orange shape,small orange shape,orange square"

test: $(STAMP)
	# One thread each: two processes of two threads on two cores spend their time waiting for each other.
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder --durations 25

test-slow: $(STAMP)
	$(BIN)/pytest -m slow

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pydoclint -q hkdcli
	$(BIN)/lint-imports
	$(BIN)/bandit -q -c pyproject.toml -r hkdcli
	$(BIN)/codespell hkdcli tests benchmarks docs recipes README.md
	$(BIN)/python docs/generate.py --check
	$(BUILD_SITE)

# Writes the generated pages and builds the site: open build/site/index.html.
docs: $(STAMP)
	$(BIN)/python docs/generate.py
	$(BUILD_SITE)

$(STAMP): pyproject.toml constraints.txt
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	# torch first and exactly: on a machine without a GPU some indexes then give the CPU build.
	$(BIN)/pip install -q -c constraints.txt torch==2.13.0
	$(BIN)/pip install -q -c constraints.txt -e ".[dev]"
	touch $(STAMP)

clean:
	rm -rf $(VENV) runs build *.egg-info
