# One image-classification job: tune, train, report. `make` alone lists the targets.
# Settings are environment variables: `make run MODEL=vit DATASET=synthetic`. All of them: `make help-variables`.

PYTHON ?= python3
VENV   ?= .venv
# Which torch build to install: empty for the locked one (CUDA 13.0, runs on a CPU as well); `cpu` or `cu126` where the
# PyTorch index is reachable. cu126 is for P100, V100 and drivers older than 580.
TORCH  ?=
JOBS   ?= auto
MODELS ?= mlp cnn resnet18 resnet18_pretrained vit

RUN   := $(VENV)/bin/python
UV    := $(VENV)/bin/uv
READY := $(VENV)/.ready
DEV   := $(VENV)/.ready-dev

.DEFAULT_GOAL := list
.PHONY: list install demo run run-all help-variables test check format lock clean

list: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "  make %-16s %s\n", $$1, $$2}'

install: $(READY) ## set up what the job needs in .venv

demo: $(READY) ## the whole job on the CPU with drawn images, in under two minutes
	MODEL=cnn DATASET=synthetic DATA_LIMIT=5000 TUNE_PERCENT=30 MAX_EVALS=4 TUNE_MAX_EPOCHS=8 PATIENCE=3 \
	DEVICE=cpu OUTPUT=outputs/demo FRESH=1 $(RUN) -m job

run: $(READY) ## run the job with the variables given, e.g. make run MODEL=vit
	$(RUN) -m job

run-all: $(READY) ## every model, one after the other; goes on past a failed one and tells in the end
	@failed=; for model in $(MODELS); do \
	  echo "== $$model"; MODEL=$$model $(RUN) -m job || failed="$$failed $$model"; \
	done; \
	if [ -n "$$failed" ]; then echo "failed:$$failed" >&2; exit 1; fi

help-variables: $(READY) ## every variable with default and meaning
	@$(RUN) -m job --help

test: $(DEV) ## the tests
	OMP_NUM_THREADS=1 $(RUN) -m pytest -q -n $(JOBS)

check: $(DEV) ## ruff, format, mypy
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

format: $(DEV) ## put the code into its format
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

lock: $(UV) ## write the locks anew from requirements.in and requirements-dev.in
	$(UV) pip compile -q --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
	  --custom-compile-command "make lock" -o requirements.lock requirements.in
	$(UV) pip compile -q --universal --python-version 3.10 --generate-hashes --no-emit-index-url \
	  --custom-compile-command "make lock" -o requirements-dev.lock requirements-dev.in

clean: ## remove .venv and caches
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache

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

$(READY): requirements.lock | $(UV)
	$(UV) pip install -q --python $(RUN) $(INSTALL)
	@touch $@

$(DEV): requirements-dev.lock | $(READY)
	$(UV) pip install -q --python $(RUN) --require-hashes -r requirements-dev.lock
	@touch $@
