# One image-classification job: tune, train, report. `make` alone lists the targets.
# Settings are environment variables: `make run MODEL=vit DATASET=synthetic`. All of them: `make help-variables`.

PYTHON ?= python3
VENV ?= .venv
# Which torch build to install: empty for the locked one (CUDA 13.0, runs on a CPU as well); `cpu` or `cu126` where the
# PyTorch index is reachable. cu126 is for P100, V100 and drivers older than 580.
TORCH ?=
# Processes that test: two more than there are processors, since many tests wait.
JOBS ?= $(shell expr $$(nproc 2>/dev/null || echo 2) + 2)
MODELS ?= mlp cnn resnet18 resnet18_pretrained vit

# Containers: what the image is called, what builds and runs it, and where `make run-all` runs (native or docker).
VERSION := $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
IMAGE ?= image-classification-job:$(VERSION)
ENGINE ?= docker
RUNNER ?= native
# GPUs of a container: auto (all, where there are any), all, none, or numbers such as 0,1.
GPUS ?= auto
BUILD_ARGS ?=
RUN_ARGS ?=
# Of `make test-gpu`: a folder with train/<class>/* and test/<class>/* (drawn images without it), and further options.
IMAGES ?=
GPU_ARGS ?=
export BUDGET_S
BASE_IMAGE ?= $(or $(BASE_$(TORCH)),nvidia/cuda:13.0.1-base-ubuntu24.04)
BASE_cpu := debian:bookworm-slim
BASE_cu126 := nvidia/cuda:12.6.3-base-ubuntu24.04

RUN := $(VENV)/bin/python
UV := $(VENV)/bin/uv
READY := $(VENV)/.ready
DEV := $(VENV)/.ready-dev
LINT := .venv-ci/bin
OLDEST := .venv-oldest/bin/python

.DEFAULT_GOAL := list
.PHONY: list install demo run run-all preflight summary build docker-run k8s kaggle help-variables test test-slow check format
.PHONY: lint-deploy build-ray release parts-list test-container install-ray test-ray test-taken test-notebook test-oldest
.PHONY: screenshot pictures test-cpus bench bench-scale test-gpu chaos lock clean

list: ## list the targets
	@grep -E '^[a-z0-9-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z0-9-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-16s %s\n", $$1, $$2}'

install: $(READY) ## set up what the job needs in .venv

demo: $(READY) ## the whole job on the CPU with drawn images, in under two minutes
	MODEL=cnn DATASET=synthetic DATA_LIMIT=4000 TUNE_PERCENT=30 MAX_EVALS=3 TUNE_MAX_EPOCHS=6 PATIENCE=3 \
	DEVICE=cpu OUTPUT=outputs/demo FRESH=1 $(RUN) -m job

run: $(READY) ## run the job with the variables given, e.g. make run MODEL=vit
	$(RUN) -m job

ifeq ($(RUNNER),docker)
run-all: ## every model, one after the other or one per GPU; RUNNER=docker runs them in containers
	@$(PYTHON) -m deploy.run_all --runner docker --engine $(ENGINE) --image $(IMAGE) $(MODELS)
else
run-all: $(READY)
	@$(RUN) -m deploy.run_all --runner $(RUNNER) $(MODELS)
endif

preflight: $(READY) ## look before you run: settings, GPU, data, store, disk, and how long it would take
	@MODE=check $(RUN) -m job

summary: $(READY) ## all finished runs below OUTPUT side by side: summary.html, .txt, .csv
	MODE=summary $(RUN) -m job

build: ## build the image; TORCH=cpu and TORCH=cu126 choose other wheels, ENGINE=podman another engine
	$(ENGINE) build -t $(IMAGE) --build-arg BASE_IMAGE=$(BASE_IMAGE) --build-arg TORCH=$(TORCH) \
	  --build-arg VERSION=$(VERSION) \
	  --build-arg GIT_COMMIT="$$(git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null)" $(BUILD_ARGS) .

build-ray: ## build the image for rayjob.yaml on top of `make build`'s: the same with Ray
	$(ENGINE) build -t $(IMAGE)-ray -f deploy/kubernetes/ray.Dockerfile --build-arg IMAGE=$(IMAGE) .

release: $(LINT)/.ready ## build, test and tag the images of this commit's version tag, with parts lists; ONLY=default,cpu for some
	@$(PYTHON) -m deploy.release --engine $(ENGINE) --name $(firstword $(subst :, ,$(IMAGE))) --tools $(LINT) $(if $(ONLY),--only $(ONLY)) \
	  $(if $(filter command environment,$(word 1,$(origin BASE_IMAGE))),--base $(BASE_IMAGE)) --build-args='$(BUILD_ARGS)'

parts-list: $(LINT)/.ready $(READY) ## what is installed in .venv, without an image: SBOM and licences in build/release/venv
	@$(RUN) deploy/installed.py python | $(LINT)/python -m deploy.parts_list image-classification-job $(VERSION) build/release/venv

docker-run: ## run the image with the variables given, e.g. make docker-run MODEL=vit; results in outputs/
	@$(PYTHON) -m deploy.container --engine $(ENGINE) --gpus $(GPUS) $(IMAGE) -- $(RUN_ARGS)

k8s: ## print a Kubernetes Job for the variables given; MODEL=all for every model
	@$(PYTHON) -m deploy.kubernetes.render $(IMAGE)

kaggle: ## write build/kaggle/MODEL for `kaggle kernels push`
	@$(PYTHON) -m deploy.kaggle.render build/kaggle/$(or $(MODEL),cnn)

help-variables: $(READY) ## every variable with default and meaning
	@$(RUN) -m job --help

test: $(DEV) ## the tests, in under four minutes on two cores
	OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n $(JOBS) --dist worksteal -m "not slow"

test-cpus: $(DEV) ## the numerical tests as other processors compute them, and from disturbed start weights
	$(RUN) -m tests.helpers.cpus

test-slow: $(DEV) ## the tests that run many whole jobs: more kills, full disks
	OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n $(JOBS) --dist worksteal -m slow

check: $(DEV) ## ruff, format, mypy
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(DEV) ## put the code into its format
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

bench: .venv-bench/.ready ## the job's epoch beside conventional loops and the arithmetic alone, as ratios; about ten minutes
	.venv-bench/bin/python -m bench

test-gpu: $(DEV) ## does this machine's GPU compute right, and how fast? BUDGET_S=480, IMAGES=folder; results in outputs/gpu
	$(RUN) -m bench.gpu $(if $(IMAGES),--images $(IMAGES)) $(GPU_ARGS)

install-ray: $(READY) ## add Ray to .venv, which RAY_ADDRESS needs
	$(UV) pip install -q --python $(RUN) --require-hashes -r requirements-ray.lock

test-ray: .venv-ray/.ready ## search on a real Ray cluster of two nodes and kill one; in a venv of its own
	OMP_NUM_THREADS=1 .venv-ray/bin/python -m tests.helpers.loopback .venv-ray/bin/python -m pytest -q tests/search/test_ray.py

test-notebook: .venv-notebook/.ready $(READY) ## `!make demo` in a notebook's cell, with a real kernel; in a venv of its own
	OMP_NUM_THREADS=1 .venv-notebook/bin/python -m pytest -q tests/deploy/test_notebook.py

test-oldest: .venv-oldest/.ready ## the numbers, and a small run of each model, on torch 2.6.0, the oldest that the job runs on
	OMP_NUM_THREADS=1 $(OLDEST) -m pytest -q -m "not slow" $$($(OLDEST) -c 'from tests.helpers.cpus import FILES; print(*FILES)')
	OMP_NUM_THREADS=1 $(OLDEST) -m pytest -q tests/models/test_small_runs.py

test-taken: $(DEV) ## what takes too long for make test: every model in every exported format, runs as MLflow has them
	OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n 2 -m slow tests/modes/test_export.py tests/tracking

screenshot: $(DEV) ## docs/report.png from a run's page: REPORT=outputs/RUN/report.html; needs Chromium
	$(RUN) -m tests.helpers.screenshot $(REPORT) docs/report.png

pictures: $(READY) ## docs/models.svg and bench/speed.svg anew from the tables of README.md and bench/README.md
	$(RUN) -m bench.pictures

bench-scale: $(READY) ## 1,000 simulated trials over 64 workers: overhead, memory, and when a cluster pays
	$(RUN) -m bench.scale

chaos: $(DEV) ## kill jobs at 100 random moments and compare with an uninterrupted run; about ten minutes
	$(RUN) -m tests.helpers.chaos

lint-deploy: $(LINT)/.ready ## check Dockerfile, shell scripts, manifests, Makefile and workflows
	@$(PYTHON) -m deploy.lint $(LINT)

test-container: ## build the image with podman and run, stop and resume it; needs root and 22 GB of disk for a while
	$(PYTHON) -m tests.container.check

lock: $(UV) ## write the locks anew from the requirements*.in
	for name in requirements $(filter-out requirements,$(basename $(wildcard requirements-*.in))); do \
	  $(UV) pip compile -q --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
	    --custom-compile-command "make lock" -o $$name.lock $$name.in || exit 1; \
	done

clean: ## remove all virtual environments and caches
	rm -rf $(VENV) .venv-* .pytest_cache .mypy_cache .ruff_cache

$(UV):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "Python 3.10 or newer is needed (set PYTHON=)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q uv==0.13.9

ifeq ($(TORCH),)
INSTALL = --require-hashes -r requirements.lock
else
# Another index has other files: same versions, without the hashes of the locked ones.
INSTALL = --no-verify-hashes --torch-backend=$(TORCH) -c requirements.lock -r requirements.in
endif

# The imports leave bytecode of what every start loads: where PYTHONDONTWRITEBYTECODE is set, as in many containers,
# each would compile it again, which takes longer than a small run.
$(READY): requirements.lock | $(UV)
	$(UV) pip install -q --python $(RUN) $(INSTALL)
	@PYTHONDONTWRITEBYTECODE= $(RUN) -c 'import torch, hyperopt, matplotlib.figure, boto3'
	@touch $@

$(DEV): requirements-dev.lock | $(READY)
	$(UV) pip install -q --python $(RUN) --require-hashes -r requirements-dev.lock
	@touch $@

$(LINT)/.ready: requirements-ci.lock | $(UV)
	$(UV) venv -q --clear --python $(PYTHON) .venv-ci
	$(UV) pip install -q --python $(LINT)/python --require-hashes -r requirements-ci.lock
	@touch $@

# The oldest torch and its CUDA 12.4 are 3 GB to fetch; TORCH=cpu takes the small build, where the PyTorch index is reachable.
.venv-oldest/.ready: requirements-oldest.lock requirements-dev.lock | $(UV)
	$(UV) venv -q --clear --python $(PYTHON) .venv-oldest
	$(UV) pip install -q --python $(OLDEST) $(subst requirements.,requirements-oldest.,$(INSTALL))
	$(UV) pip install -q --python $(OLDEST) --require-hashes -r requirements-dev.lock
	@touch $@

# The core, one extra (ray, bench, notebook) and what the tests need, beside .venv and not in it.
.venv-%/.ready: requirements.lock requirements-%.lock requirements-dev.lock | $(UV)
	$(UV) venv -q --clear --python $(PYTHON) .venv-$*
	$(UV) pip install -q --python .venv-$*/bin/python $(INSTALL)
	$(UV) pip install -q --python .venv-$*/bin/python --require-hashes -r requirements-$*.lock
	$(UV) pip install -q --python .venv-$*/bin/python --require-hashes -r requirements-dev.lock
	@touch $@
