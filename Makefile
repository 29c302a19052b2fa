# Two commands do everything: `make paper` and `make test`. `make help` lists the rest.

PROFILE ?= demo
DATA    ?=
TRAIN   ?=
WEIGHTS ?= $(if $(DATA),$(if $(TRAIN),,weights/unet.safetensors))
OUT     ?= .
DEVICE  ?=
SCHEDULER ?=
SET     ?=
ONLY    ?=
REAL    ?=
SWEEP   ?=
JOBS    ?= 2

# A run is named by its profile and, with scans of one's own, by their folder or table.
RUN     := $(PROFILE)$(if $(DATA),-$(basename $(notdir $(patsubst %/,%,$(DATA)))))
BUILD   := $(patsubst ./%,%,$(OUT)/build/$(RUN))
FIGURES := $(patsubst ./%,%,$(OUT)/figures/$(RUN))

# Inside the conda environment of environment.yml that one is used; otherwise .venv is made.
ifeq ($(CONDA_DEFAULT_ENV),instance-saliency)
PYTHON := python
STAMP  :=
else
PYTHON := .venv/bin/python
STAMP  := .venv/.complete
endif

INTERACTIVE := $(shell sed -n 's/^INTERACTIVE = "\(.*\)".*/\1/p' lib/run/runner.py)
NOTEBOOKS := $(filter-out $(INTERACTIVE),$(basename $(notdir $(sort $(wildcard notebooks/[0-9][0-9]_*.py)))))
CHAIN     := $(if $(WEIGHTS),$(filter-out 02_training,$(NOTEBOOKS)),$(NOTEBOOKS))
EXECUTED  := $(or $(ONLY),$(CHAIN))
EXECUTED  := $(EXECUTED:%=$(BUILD)/%.ipynb)

.DELETE_ON_ERROR:
.PHONY: help env lock paper chain sweep report book pretrain test lint bench lab clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 10
	@echo
	@echo "make paper takes PROFILE=$(PROFILE) (smoke, demo, pretrain, paper), DATA=<BIDS folder or scans table>, TRAIN=yes (train on them;"
	@echo "otherwise the weights that come with the project are used), WEIGHTS=<file.safetensors>, OUT=<folder>, DEVICE=<cpu, cuda>,"
	@echo "SCHEDULER=<address of a Dask scheduler whose workers compute, such as tcp://127.0.0.1:8786>,"
	@echo "JOBS=$(JOBS) (notebooks at a time, once 03_evaluation is done), SET=\"name=value notebook.name=value\", ONLY=<last notebook wanted>;"
	@echo "make pretrain takes REAL=<scans of patients to test on>; make sweep takes all of these but ONLY, and SWEEP=<file>;"
	@echo "make report takes PROFILE, DATA and OUT"

env: $(STAMP) ## build the environment if it is missing or older than pyproject.toml and requirements.lock
.venv/.complete: pyproject.toml requirements.lock
	@python3 -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version if sys.version_info < (3, 11) else 0)'
	python3 -m venv .venv
	.venv/bin/python -m pip install --quiet --upgrade pip
	.venv/bin/python -m pip install --quiet --constraint requirements.lock --editable '.[dev]'
	touch $@

lock: $(STAMP) ## pin every package anew, for all platforms, after a change of pyproject.toml
	$(PYTHON) -m pip install --quiet uv
	$(PYTHON) -m uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --extra dev --no-annotate --upgrade \
	  --custom-compile-command 'make lock' --output-file requirements.lock pyproject.toml

SETTINGS = $(if $(DATA),data=$(abspath $(DATA))) $(if $(WEIGHTS),weights=$(abspath $(WEIGHTS))) $(if $(DEVICE),device=$(DEVICE)) \
  $(if $(SCHEDULER),scheduler=$(SCHEDULER)) $(SET)

# Weights that are not usable end a run before its first notebook.
CHECK_WEIGHTS = $(if $(findstring weights=,$(SETTINGS))$(findstring initial=,$(SETTINGS)),@$(PYTHON) -m lib.network.weights $(SETTINGS))

paper: $(STAMP) ## run the numbered notebooks and write every figure and table into figures/<profile>/
	@$(PYTHON) -m lib.run.runner resolve --profile $(PROFILE) --build $(BUILD) --figures $(FIGURES) --set \
	  $(SETTINGS)
	$(CHECK_WEIGHTS)
	$(if $(SCHEDULER),@$(PYTHON) -m lib.run.workers $(SCHEDULER))
	@$(MAKE) --no-print-directory --jobs $(JOBS) chain
	$(if $(ONLY),,@$(PYTHON) -m lib.statistics.claims $(FIGURES) $(if $(filter figures/demo,$(FIGURES)),README.md))
	@echo "figures and tables: $(FIGURES)"

chain: $(EXECUTED)

$(BUILD)/%.ipynb: notebooks/%.py $(BUILD)/parameters/%.json
	@$(PYTHON) -m lib.run.runner run $< --build $(BUILD) --figures $(FIGURES)

# What a notebook reads was written by the numbers before it; with DATA, number 0 makes no scans.
COHORT     := $(BUILD)/00_cohort.ipynb
SPLIT      := $(BUILD)/01_data_split.ipynb
TRAINED    := $(if $(WEIGHTS),$(WEIGHTS) $(wildcard $(basename $(WEIGHTS)).json),$(BUILD)/02_training.ipynb)
EVALUATION := $(BUILD)/03_evaluation.ipynb
$(COHORT): $(wildcard $(DATA))
$(SPLIT): $(if $(DATA),$(wildcard $(DATA)),$(COHORT))
$(BUILD)/02_training.ipynb: $(SPLIT)
$(EVALUATION): $(SPLIT) $(TRAINED)
AFTER_03   := 04_gradient_distributions 05_synthetic_lesions 06_context_radius 07_sanity_checks 08_explainers
$(AFTER_03:%=$(BUILD)/%.ipynb): $(EVALUATION)
-include $(wildcard $(BUILD)/dependencies/*.d)

sweep: $(STAMP) ## run notebooks over values of their parameters: SWEEP=notebooks/sweeps/<name>.yml, JOBS at a time
	$(if $(SWEEP),,$(error say which: SWEEP=<file>, such as $(firstword $(wildcard notebooks/sweeps/*.yml))))
	$(CHECK_WEIGHTS)
	@$(PYTHON) -m lib.run.sweep $(SWEEP) --profile $(PROFILE) --build $(BUILD) --figures $(FIGURES) --jobs $(JOBS) \
	  --first $(filter-out $(AFTER_03) $(if $(DATA),00_cohort),$(CHAIN)) --set $(SETTINGS)

report: $(STAMP) ## what `make paper` found in one HTML file and, with Chromium, a PDF, beside its figures
	@$(PYTHON) -m lib.run.report $(BUILD) $(FIGURES)

book: $(STAMP) ## executed notebooks of the default run, without the paths of this machine, into content/ for the book of myst.yml
	$(PYTHON) -m jupyter nbconvert --to notebook --log-level WARN --output-dir content $(NOTEBOOKS:%=$(OUT)/build/demo/%.ipynb) \
	  --ClearMetadataPreprocessor.enabled=True --ClearMetadataPreprocessor.preserve_nb_metadata_mask=kernelspec

pretrain: $(STAMP) ## an hour on two cores: train the weights that come with the project, test them, write weights/
	@$(MAKE) --no-print-directory paper PROFILE=pretrain DATA= WEIGHTS= ONLY=03_evaluation
	$(if $(REAL),@$(MAKE) --no-print-directory paper PROFILE=pretrain DATA=$(REAL) ONLY=03_evaluation WEIGHTS=$(OUT)/build/pretrain/weights/unet.safetensors)
	@$(PYTHON) -m lib.run.model_card $(OUT)/build/pretrain $(OUT)/figures/pretrain weights \
	  $(if $(REAL),$(OUT)/figures/pretrain-$(basename $(notdir $(patsubst %/,%,$(REAL)))))

test: $(STAMP) ## unit tests, and the whole chain in the smoke profile
	$(PYTHON) -m pytest --numprocesses 2 --dist loadfile

lint: $(STAMP) ## ruff: style and format; import-linter: rooms of lib/ import only what lies below them
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -c 'from importlinter.cli import lint_imports_command as lint; lint()' --no-cache

bench: $(STAMP) ## the explainers against the literal loop (time, memory), two workers against one
	$(PYTHON) benchmarks/bench_workers.py
	$(PYTHON) benchmarks/bench_saliency.py

lab: $(STAMP) ## open JupyterLab at 00_explore, with the percent scripts as notebooks; on this machine alone, with a token
	$(PYTHON) -m jupyter lab --ServerApp.ip=127.0.0.1 --LabApp.default_url=/lab/tree/notebooks/00_explore.py \
	  --LabApp.app_settings_dir=notebooks/settings --LabApp.news_url=None \
	  --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate

clean: ## remove what runs have built (not the environment, not figures/)
	rm -rf build
