# The two commands of the README:  make demo   and   make test
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
BIN := $(VENV)/bin

.PHONY: demo test quick nightly lint docs install-demo install-dev clean

demo: install-demo
	@$(BIN)/python -m airflow_pipeops.demo $(ARGS)

test: install-dev
	@.ci/test $(BIN)

quick: install-dev
	@.ci/quick $(BIN)

nightly: install-dev
	@HYPOTHESIS_PROFILE=explore $(BIN)/python -m pytest -q -n 2 -m "hypothesis and not nightly"
	@HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest -q -m nightly

lint: install-dev
	@.ci/lint $(BIN)

docs: install-dev
	@.ci/docs $(BIN)

install-demo: $(VENV)/.demo
install-dev: $(VENV)/.dev

$(VENV)/.demo: pyproject.toml .ci/constraints.txt
	@.ci/install $(PYTHON) $(VENV) demo
$(VENV)/.dev: pyproject.toml .ci/constraints.txt
	@.ci/install $(PYTHON) $(VENV) dev

clean:
	rm -rf $(VENV) .demo dist site
