# The image's name. DOCKERHUB_TAG in config.py is the same, as user/project:tag; `make build` holds them to each other.
user = user
project = distributed-something
tag = latest
config = config.py
# The image that has your program; the worker is laid beside it.
base = debian:bookworm-slim

# ---- The machinery, from here on: nothing to edit, and replaced as a whole by a newer version of it.
PYTHON = python3
venv = .venv
# PATH, so that a recipe's `python` and the local workers' `python3` are the environment's.
in_venv = PATH="$(CURDIR)/$(venv)/bin:$$PATH"
pip = $(venv)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes
locks = files/requirements.txt files/requirements-local.txt

image = $(user)/$(project):$(tag)
# A constant of the config, as text.
constant = $(PYTHON) -c 'import runpy; print(runpy.run_path("$(config)").get("$(1)", ""))'
# The command that builds, with options that your engine or network needs, such as --platform linux/amd64.
docker_build = docker build
build_image = @context=$$(mktemp -d) && trap 'rm -rf "$$context"' EXIT && trap 'exit 130' INT && trap 'exit 143' TERM \
  && set -x && distributed_something/worker/image/make-context.sh "$$context" worker \
  && $(docker_build) --build-arg BASE_IMAGE=$(base) --build-arg MOUNT_S3=$$($(call constant,MOUNT_S3)) \
    --tag $(image) "$$context"
projects = .

.PHONY: help venv build push clean same-image
.DEFAULT_GOAL := help

help:  ## list what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-13s %s\n", $$1, $$2}' Makefile

venv: $(venv)/.installed  ## install what run.py needs, here and for --local, into .venv

build: same-image  ## build the worker's image, with s3fs if the config says MOUNT_S3
	$(build_image)

push: build  ## build the image and push it to Docker Hub
	docker push $(image)

same-image:
	@named=$$($(call constant,DOCKERHUB_TAG) 2>/dev/null) || { \
	  echo "$(config) cannot be read: python run.py setup says why" >&2; exit 1; }; \
	case "$$named" in "$(image)" | "$(image:%:latest=%)") ;; *) \
	  echo "DOCKERHUB_TAG in $(config) is '$$named', the Makefile's user/project:tag is '$(image)':" \
	    "machines would run another image than this; make them the same" >&2; exit 1 ;; esac

clean:  ## delete what make and --local made: .venv, local, caches
	@for project in $(projects); do if [ -e $(venv)/.installed ] && [ -d $$project/local ]; then \
	  $(in_venv) python run.py --local --project $$project stop; fi; done
	rm -rf $(venv) $(projects:%=%/local) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamps: each is made anew only when a lock changed, so that a second call starts at once.
$(venv)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "$(PYTHON) is no Python 3.11 or newer; if you have one, name it: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) lacks its venv module; on Debian or Ubuntu: sudo apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(venv)
	@touch $@

$(venv)/.installed: $(venv)/.made $(locks)
	@echo "Installing the packages of $(locks) into $(venv) (half a minute, once)" >&2
	@$(pip) $(foreach lock,$(locks),-r $(lock))
	@touch $@

# ---- The template's own, from here on: no part of what is made from it.
# An example's name for demo, build and push, such as helloworld: make build EXAMPLE=helloworld
EXAMPLE =
# What the examples' programs need on this computer; cellcount's is everybody's.
demo_lock = examples/cellcount/requirements.txt
in_example = $(patsubst examples/%/requirements.txt,$(venv)/.example-%,\
  $(filter-out $(demo_lock),$(wildcard examples/*/requirements.txt)))

projects += $(patsubst %/config.py,%,$(wildcard examples/*/config.py))
ifneq ($(EXAMPLE),)
config = examples/$(EXAMPLE)/config.py
image = $$($(call constant,DOCKERHUB_TAG))
build_image = @PYTHON=$(PYTHON) DOCKER_BUILD="$(docker_build)" \
  examples/build.sh $(EXAMPLE) $(if $(filter file,$(origin base)),,$(base))
endif

.PHONY: demo test test-examples lint check check-long bench

demo: $(venv)/.demo $(filter %/.example-$(EXAMPLE),$(in_example))  ## run an example on this computer, without AWS (EXAMPLE=, else cellcount)
	@$(in_venv) examples/demo.sh $(or $(EXAMPLE),cellcount)

test: $(venv)/.test  ## run the tests, but for those of the examples
	@$(in_venv) python -m pytest tests/ --ignore=tests/examples -q -n 2 --dist loadfile

test-examples: $(venv)/.test $(in_example)  ## run the examples with their real programs
	@$(in_venv) python -m pytest tests/examples/ -q -n 2 --dist loadfile -rs --durations=0 --durations-min=1

lint: $(venv)/.test  ## check format, style, types, spelling, Dockerfiles, and shell scripts
	@$(in_venv) ruff format --check .
	@$(in_venv) ruff check .
	@$(in_venv) mypy
	@$(in_venv) codespell
	@$(in_venv) hadolint worker/Dockerfile examples/*/worker/Dockerfile
	@$(in_venv) shellcheck distributed_something/worker/image/*.sh examples/*.sh examples/*/*.sh .ci/*

check: lint test test-examples  ## lint, then test (the docs are held to the code by tests too)

check-long: check  ## check, then demo and test of the last commit in a bare Debian container (needs Docker)
	@.ci/bare-machine

bench: $(venv)/.test  ## measure how fast jobs are sent and worked off, on this computer
	@$(in_venv) python -m tests.measure.bench

$(venv)/.demo: $(venv)/.installed $(demo_lock)
	@$(pip) -r $(demo_lock)
	@touch $@

$(in_example): $(venv)/.example-%: examples/%/requirements.txt $(venv)/.demo
	@echo "Installing the packages of $< into $(venv) (once)" >&2
	@$(pip) -r $<
	@touch $@

$(venv)/.test: $(venv)/.demo files/requirements-test.txt
	@echo "Installing the packages of files/requirements-test.txt into $(venv) (a quarter of a minute, once)" >&2
	@$(pip) -r files/requirements-test.txt
	@touch $@
