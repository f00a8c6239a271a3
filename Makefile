# The image's name; DOCKERHUB_TAG in config.py is user/project:tag.
user = user
project = distributed-something
tag = latest
# The image that has your program; the worker is laid beside it. For the example: base = cellcount (see its Dockerfile).
base = debian:bookworm-slim

PYTHON = python3
venv = .venv
# PATH, so that a recipe's `python` and the local workers' `python3` are the environment's.
in_venv = PATH="$(CURDIR)/$(venv)/bin:$$PATH"
pip = $(venv)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes
demo_locks = files/requirements.txt files/requirements-local.txt examples/cellcount/requirements.txt

.PHONY: help demo test lint check bench build push clean
.DEFAULT_GOAL := help

help:  ## list what make can do
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-7s %s\n", $$1, $$2}' Makefile

demo: $(venv)/.demo  ## count the cells of a plate on this computer, without AWS
	@$(in_venv) examples/cellcount/demo.sh

test: $(venv)/.test  ## run the tests
	@$(in_venv) python -m pytest tests/ -q

lint: $(venv)/.test  ## check format, style, types, Dockerfiles and shell scripts
	@$(in_venv) ruff format --check .
	@$(in_venv) ruff check .
	@$(in_venv) mypy
	@$(in_venv) hadolint worker/Dockerfile examples/*/worker/Dockerfile
	@$(in_venv) shellcheck worker/*.sh examples/*/*.sh .ci/run

check: lint test  ## lint, then test (the docs are held to the code by tests too)

bench: $(venv)/.test  ## measure how fast jobs are sent and worked off, on this computer
	@$(in_venv) python -m tests.bench

build:  ## build the worker's image
	docker build --build-arg BASE_IMAGE=$(base) --tag $(user)/$(project):$(tag) worker/

push: build  ## build the worker's image and push it to Docker Hub
	docker push $(user)/$(project):$(tag)

clean:  ## delete what make and --local made: .venv, local, caches
	@if [ -e $(venv)/.demo ] && [ -d local ]; then $(in_venv) python run.py --local stop; fi
	rm -rf $(venv) local .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: each is made anew only when a lock changed, so that a second call starts at once.
$(venv)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "$(PYTHON) is no Python 3.11 or newer; if you have one, name it: make demo PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) lacks its venv module; on Debian or Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(venv)
	@touch $@

$(venv)/.demo: $(venv)/.made $(demo_locks)
	@echo "Installing the packages of $(demo_locks) into $(venv) (half a minute, once)" >&2
	@$(pip) $(foreach lock,$(demo_locks),-r $(lock))
	@touch $@

$(venv)/.test: $(venv)/.demo files/requirements-test.txt
	@echo "Installing the packages of files/requirements-test.txt into $(venv) (a quarter of a minute, once)" >&2
	@$(pip) -r files/requirements-test.txt
	@touch $@
