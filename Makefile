# make search: the whole job on the embedded data set.  make test: linter, types, docs, tests.
# make aot: small programs for GPUs and TPUs by their own compilers (1.5 GB), without either.
PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python
WORKDIR ?= runs/digits

.PHONY: search test aot lint docs format clean

search: $(VENV)/installed
	$(RUN) -m experiments.search --workdir=$(WORKDIR)

test: $(VENV)/installed-test lint docs
	$(RUN) -m pytest -n auto --maxprocesses=4 --dist=worksteal

# An environment of its own: where its wheels are, JAX looks for a GPU and a TPU.
aot:
	$(MAKE) VENV=$(VENV)-aot $(VENV)-aot/installed-aot
	$(VENV)-aot/bin/python -m pytest tests/experiments/test_aot.py

$(VENV)/installed-aot: $(VENV)/installed-test
	$(RUN) -m pip install --quiet --editable '.[aot]'
	touch $@

lint: $(VENV)/installed-test
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pyright --pythonpath $(RUN)

docs: $(VENV)/installed-test
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --quiet --strict --site-dir build/docs

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
