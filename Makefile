# Add options to the command that builds images like this: DOCKER_BUILD="docker build --network host" make build
PYTHON = python3
venv = .venv
# The example that demo, build, and push use, such as helloworld: make build EXAMPLE=helloworld
EXAMPLE =
example_project = $(if $(EXAMPLE),--project examples/$(EXAMPLE))
# Puts the virtual environment first in PATH, because recipes call `python` and local workers call `python3`.
in_venv = PATH="$(CURDIR)/$(venv)/bin:$$PATH"
# The locks list every package, so pip need not look for others. --no-deps: ministack requires an older botocore than the
# one that is locked, and works with it.
pip = $(venv)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps
locks = files/requirements.txt files/requirements-local.txt

projects = . $(patsubst %/config.py,%,$(wildcard examples/*/config.py))

.PHONY: help venv build push clean
.DEFAULT_GOAL := help

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "make %-13s %s\n", $$1, $$2}' Makefile

venv: $(venv)/.installed  ## install the packages that run.py needs, also for --local, into .venv

build: venv  ## build the image DOCKERHUB_TAG (EXAMPLE=, else the root's; base= to use another program's image)
	@$(in_venv) python run.py $(example_project) buildImage $(if $(base),--base $(base))

push: venv  ## build the image and push it to Docker Hub
	@$(in_venv) python run.py $(example_project) buildImage --push $(if $(base),--base $(base))

# `stop` exits with 2 if it asked whether to lose the jobs of an unfinished run and the answer was no.
clean:  ## delete what make and --local created: .venv, local, caches
	@for project in $(projects); do if [ -e $(venv)/.installed ] && [ -d $$project/local ]; then \
	  $(in_venv) python run.py --local --project $$project stop; [ $$? -ne 2 ] || exit 2; fi; done
	rm -rf $(venv) $(projects:%=%/local) docs/_build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Stamp files: packages are reinstalled only after a lock file changed, so a second call starts immediately.
$(venv)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "$(PYTHON) is not Python 3.11 or newer; name one that is: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) has no venv module; on Debian or Ubuntu, install it: sudo apt-get install python3-venv" >&2; exit 1; }
	@$(PYTHON) -m venv $(venv)
	@touch $@

$(venv)/.installed: $(venv)/.made $(locks)
	@echo "Installing the packages of $(locks) into $(venv) (once, about 30 seconds)" >&2
	@$(pip) $(foreach lock,$(locks),-r $(lock))
	@touch $@

# Packages that the examples' programs need on this computer. Those of cellcount are always installed, for the demo.
demo_lock = examples/cellcount/requirements.txt
in_example = $(patsubst examples/%/requirements.txt,$(venv)/.example-%,\
  $(filter-out $(demo_lock),$(wildcard examples/*/requirements.txt)))


.PHONY: demo test test-examples lint check check-long check-github docs screenshots bench

demo: $(venv)/.demo $(filter %/.example-$(EXAMPLE),$(in_example))  ## run an example on this computer, without AWS (EXAMPLE=NAME; default: cellcount)
	@$(in_venv) examples/demo.sh $(or $(EXAMPLE),cellcount)

test: $(venv)/.test  ## run all tests except the long ones and those of the examples
	@$(in_venv) python -m pytest tests/ --ignore=tests/examples -m "not long" -q -n 4 --dist loadfile --no-loadscope-reorder

test-examples: $(venv)/.test $(in_example)  ## run the examples with their real programs, except for the long tests
	@$(in_venv) python -m pytest tests/examples/ -m "not long" -q -n 4 --dist loadfile -rs --durations=0 --durations-min=1

lint: $(venv)/.test  ## check format, style, types, spelling, Dockerfiles, and shell scripts
	@$(in_venv); status=0; \
	ruff format --check . || status=1; \
	ruff check . || status=1; \
	mypy || status=1; \
	codespell || status=1; \
	hadolint worker/Dockerfile examples/*/worker/Dockerfile || status=1; \
	shellcheck distributed_something/worker/image/*.sh distributed_something/cli/completion/run-py.bash examples/*.sh examples/*/*.sh .ci/* || status=1; \
	exit $$status

check: lint docs test test-examples  ## run lint, docs, test, and test-examples

check-long: check check-github  ## run check, check-github, and the long tests, then demo and test of the last commit in a bare Debian container (needs Docker)
	@$(in_venv) python -m pytest tests/ -m long -q -n 2
	@.ci/bare-machine

# The schemas and rules are part of these packages, so that nothing else is fetched. cffconvert needs an environment of its
# own, because it requires an old jsonschema.
github_tools = check-jsonschema==0.39.0 sp-repo-review[cli]==2026.8.14 zizmor==1.32.0
citation_tools = cffconvert==2.0.0
check_schema = $(venv)/github/bin/check-jsonschema --builtin-schema

check-github: $(venv)/github/.installed $(venv)/citation/.installed  ## check the files for GitHub: workflows, forms, citation, and the repository's form
	@status=0; \
	$(check_schema) vendor.github-workflows .github/workflows/*.yml || status=1; \
	$(check_schema) custom.github-workflows-require-timeout .github/workflows/*.yml || status=1; \
	$(check_schema) vendor.github-issue-forms $(filter-out %/config.yml,$(wildcard .github/ISSUE_TEMPLATE/*.yml)) || status=1; \
	$(check_schema) vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml || status=1; \
	$(check_schema) vendor.dependabot .github/dependabot.yml || status=1; \
	$(venv)/github/bin/zizmor --offline --quiet .github || status=1; \
	$(venv)/github/bin/sp-repo-review . || status=1; \
	$(venv)/citation/bin/cffconvert --validate || status=1; \
	exit $$status

# The site has an environment of its own, because the AWS CLI, which the tests need, requires an old docutils.
docs: $(venv)/site/.installed  ## build the documentation site into docs/_build/html; each warning is an error
	@$(venv)/site/bin/python -m sphinx -W --keep-going -q -j auto -d docs/_build/cache -c docs . docs/_build/html
	@echo "docs/_build/html/index.html" >&2

screenshots: $(venv)/.demo  ## make the screens in docs/ again, from real runs with --local (about two minutes)
	@$(in_venv) python docs/_site/diagrams.py
	@$(in_venv) PYTHONPATH=. python docs/_site/commands_page.py
	@$(in_venv) PYTHONPATH=. python docs/_site/constants_page.py
	@$(in_venv) python docs/_site/screenshots.py

bench: $(venv)/.test  ## measure how fast this computer sends and processes jobs
	@$(in_venv) python -m tests.measure.bench

$(venv)/.demo: $(venv)/.installed $(demo_lock)
	@$(pip) -r $(demo_lock)
	@touch $@

$(venv)/github/.installed $(venv)/citation/.installed: $(venv)/%/.installed: $(venv)/.made Makefile
	@$(PYTHON) -m venv $(venv)/$*
	@$(venv)/$*/bin/python -m pip install --quiet --disable-pip-version-check $($*_tools)
	@touch $@

site_locks = files/requirements.txt files/requirements-docs.txt
$(venv)/site/.installed: $(venv)/.made $(site_locks)
	@echo "Installing the packages of $(site_locks) into $(venv)/site (once, about 20 seconds)" >&2
	@$(PYTHON) -m venv $(venv)/site
	@$(venv)/site/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps \
	  $(foreach lock,$(site_locks),-r $(lock))
	@touch $@

$(in_example): $(venv)/.example-%: examples/%/requirements.txt $(venv)/.demo
	@echo "Installing the packages of $< into $(venv) (once)" >&2
	@$(pip) -r $<
	@touch $@

$(venv)/.test: $(venv)/.demo files/requirements-test.txt
	@echo "Installing the packages of files/requirements-test.txt into $(venv) (once, about 15 seconds)" >&2
	@$(pip) -r files/requirements-test.txt
	@touch $@
