# `make demo` and `make test` need Python 3.11 or newer and a package index, nothing else.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO := demo
# `newest` takes a torch that no longer runs on a V100: make install TORCH=newest
TORCH ?= volta

.PHONY: install demo docs network-facts reproduce-smoke test test-all test-browser test-netns test-slurm test-services netns-tools chaos test-newest-torch test-bounds test-ray-releases gpu lint audit bench bench-compare cluster clean

install: $(VENV)/.installed

# A new pip takes half of the time of that of Python 3.11. Modules are compiled here, by all cores, and not in each process
# that imports them: where PYTHONDONTWRITEBYTECODE is set, as in many images, that would be every time.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, found " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install -qq --no-compile --editable '.[dev]'
ifeq ($(TORCH),newest)
	$(BIN)/python -m pip install --quiet --no-compile -r cluster/constraints-newest.txt
endif
	-$(BIN)/python -m compileall -q -j 0 -x '/(tests|rllib)/' $(VENV)/lib orchestrator
	@touch $@

# Sizes and costs of the networks, which `orchestrator models` shows without building these; to be made after they change.
network-facts: install
	$(BIN)/python -c 'from orchestrator.api.networks import write_facts; write_facts()'

# The main job on drawn polyps: import, search, leaderboard, export, predict.
demo: install
	PATH="$(CURDIR)/$(BIN):$$PATH" ORCHESTRATOR_HOME="$(CURDIR)/$(DEMO)/home" sh tests/demo.sh "$(DEMO)"

# One process more than there are cores: tests also wait, for what they start.
TESTERS ?= $(shell $(PYTHON) -c 'import os; print(min(4, 1 + len(os.sched_getaffinity(0))))')
test: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy & types=$$!; \
	$(BIN)/python -m pytest -m "not slow and not browser and not netns and not services and not slurm" --numprocesses $(TESTERS) --dist loadfile \
	  --no-loadscope-reorder && \
	wait $$types

# Under two minutes on two cores: what decides about data, splits, scores and trials; no Ray, hardly any training.
QUICK_TESTS ?= tests/common tests/scoring tests/data/splits tests/search/space tests/search/race tests/search/goals \
  tests/search/budget tests/search/records tests/test_layers.py tests/test_names.py tests/test_docs.py
test-quick: install
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -q -m "not slow" -k "not wheel" --numprocesses 2 --dist loadfile $(QUICK_TESTS)

test-all: install
	$(BIN)/python -m pytest -m "not browser and not netns and not services and not slurm"

# MLflow's pages in a headless Chromium; leaves screenshots in build/screenshots.
test-browser: install
	$(BIN)/python -m pytest -m browser tests/results/mlflow

# Ray over nodes in network namespaces, and every fault that is injected into a search; as root.
# `make chaos FAULTS="worker cut" SEED=7 ROUNDS=3` injects faults at other moments.
test-netns: install netns-tools
	$(BIN)/python -m pytest -m netns tests/cluster

SEED ?= 0
ROUNDS ?= 1
FAULTS ?=
TABLE ?= build/faults.md
chaos: install netns-tools
	mkdir -p build
	PYTHONPATH=tests/cluster:tests/support:. $(BIN)/python -m chaos $(FAULTS) --seed $(SEED) --rounds $(ROUNDS) --results build/faults.jsonl --table $(TABLE)

netns-tools:
	apt-get install --yes --no-install-recommends iproute2 e2fsprogs gcc libc6-dev postgresql
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'psycopg[binary]>=3.2'

# A Slurm of two nodes on this machine: what cluster/slurm.sbatch does, and a search that is interrupted ROUNDS times.
test-slurm: ROUNDS = 20
test-slurm: install
	apt-get install --yes --no-install-recommends slurmctld slurmd slurm-client munge
	SLURM_ROUNDS=$(ROUNDS) $(BIN)/python -m pytest -s -m slurm tests/cluster

# What cluster/ray-cluster.yaml and cluster/mlflow-server.sh do, with sshd and PostgreSQL on this machine; as root.
test-services: install
	apt-get install --yes --no-install-recommends openssh-server openssh-client rsync iproute2 procps postgresql
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'psycopg[binary]>=3.2'
	$(BIN)/python -m pytest -m services tests/cluster

# The same tests with a torch newer than pyproject's, in an environment of their own.
test-newest-torch:
	$(MAKE) test VENV=.venv-newest TORCH=newest

# The oldest and the newest releases of ray, optuna, mlflow and torch that pyproject allows, in environments of their own.
BOUNDS ?= lowest newest
# What old releases warn of is theirs: Ray 2.55 leaves files open.
BOUNDS_WARNINGS = -W default::ResourceWarning -W default::FutureWarning -W default::pytest.PytestUnraisableExceptionWarning
BOUNDS_TESTS ?= tests/common/test_private_api.py tests/search tests/results
test-bounds:
	mkdir -p build
	for bound in $(BOUNDS); do \
	  $(PYTHON) tests/support/bounds.py $$bound > build/constraints-$$bound.txt && $(PYTHON) -m venv .venv-bounds/$$bound && \
	  .venv-bounds/$$bound/bin/python -m pip install --quiet --no-compile --editable '.[dev]' -c build/constraints-$$bound.txt && \
	  .venv-bounds/$$bound/bin/python -m pytest -m "not slow and not browser and not netns and not services and not slurm" $(BOUNDS_WARNINGS) --numprocesses auto --maxprocesses 4 --dist loadfile $(BOUNDS_TESTS) || exit 1; \
	done

# The tests that start Ray, under every minor release from 2.55 on, with token authentication on and off.
test-ray-releases: install
	$(BIN)/python tests/cluster/ray_matrix.py

lint: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

# Every row of the papers' tables on real images: POLYP_DATA has Kvasir-SEG/, CVC-ClinicDB/, PolypGen/ ...; results in build.
REPRODUCED := build/reproduce
reproduce-smoke: install
	bash tests/reproduce_smoke.sh $(REPRODUCED) $(BIN)/python

# What only a GPU can show; a step that is done is passed over, so it can be given again.
gpu: install
	PATH="$(CURDIR)/$(BIN):$$PATH" bash tests/gpu.sh build/gpu

# Known vulnerabilities of what is installed; exit code 3 where packages could not be looked up.
audit: install
	$(BIN)/python tests/support/audit.py

# The pages of docs/ as a site in build/docs; fails on a warning.
docs: install
	$(BIN)/python -m pip install --quiet --disable-pip-version-check 'mkdocs-material>=9.6'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --config-file .mkdocs.yml

# Files that start a cluster, as their templates have them.
cluster: install
	$(BIN)/python -c 'from pathlib import Path; from orchestrator.launch.render import write_defaults; write_defaults(Path("cluster"))'

# BENCHMARKS.md: every figure of speed against a named alternative; 20 to 25 minutes of two cores.
# `make bench-compare REV=HEAD~20` prints the ratios of two revisions. BENCH="--gpu" adds what needs a GPU.
# The libraries that scores are measured against, without what they ask for: one would change numpy.
bench bench-compare: install
	$(BIN)/python -m pip install --quiet --no-deps --disable-pip-version-check monai medpy pysodmetrics \
	  scikit-image imageio tifffile lazy-loader
	$(BIN)/python tests/benchmarks/bench.py $(if $(filter bench-compare,$@),--compare '$(REV)') $(BENCH)

clean:
	rm -rf $(VENV) .venv-newest .venv-bounds .ray-matrix $(DEMO) build *.egg-info
