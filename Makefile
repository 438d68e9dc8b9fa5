# make search: the whole job on the embedded data set.  make test: linter, formatter check, tests.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
WORKDIR ?= runs/digits

.PHONY: search test lint format clean

search: $(VENV)/installed
	$(RUN) -m experiments.search --workdir=$(WORKDIR)

test: $(VENV)/installed-test lint
	$(RUN) -m pytest -n auto --maxprocesses=4 --dist=worksteal

lint: $(VENV)/installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(VENV)/installed-test
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

$(VENV)/installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "dnas needs Python 3.11 or newer; set PYTHON=...")'
	test -x $(RUN) || $(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --editable '.[viz]'
	touch $@

$(VENV)/installed-test: $(VENV)/installed
	$(RUN) -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache
