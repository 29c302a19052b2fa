# Two commands do everything: `make paper` and `make test`. `make help` lists the rest.

PROFILE ?= demo
DATA    ?=
TRAIN   ?=
WEIGHTS ?=
OUT     ?= .
DEVICE  ?=
SCHEDULER ?=
SET     ?=
ONLY    ?=
REAL    ?=
AGAINST ?=
SWEEP   ?=
DATASET ?=
JOBS    ?= 2

# What is given reaches the commands as it was written, whatever characters are in it (lib/run/settings.py).
GIVEN := PROFILE DATA TRAIN WEIGHTS OUT DEVICE SCHEDULER SET ONLY REAL SWEEP JOBS AGAINST DATASET
$(foreach name,$(GIVEN),$(eval export RUN_$(name) := $$(value $(name))))
unexport $(GIVEN)

# The same digits on every such processor (lib/digits.py).
ifeq ($(shell uname -sm),Linux x86_64)
include lib/digits.env
export $(shell cut -d= -f1 lib/digits.env)
endif

# Threads that wait for one another sleep: where processes share two processors, spinning takes a third of a training's time.
export OMP_WAIT_POLICY ?= PASSIVE

# Inside the conda environment of environment.yml that one is used; otherwise .venv is made.
ifeq ($(CONDA_DEFAULT_ENV),instance-saliency)
PYTHON := python
STAMP  :=
else
PYTHON := .venv/bin/python
STAMP  := .venv/.complete
endif

.DELETE_ON_ERROR:
.PHONY: help env lock fetch prepare paper chain verify sweep report lesions book pretrain test lint bench lab clean

help: ## this list
	@grep -hE '^[a-z]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 10
	@echo
	@echo "make paper takes PROFILE=$(PROFILE) (smoke, demo, pretrain, paper), DATA=<BIDS folder, scans table or, as mslesseg:<folder>, a public data set>, TRAIN=yes (train on them;"
	@echo "otherwise the weights that come with the project are used), WEIGHTS=<file, or what another tool published>, OUT=<folder>, DEVICE=<cpu, cuda>,"
	@echo "SCHEDULER=<address of a Dask scheduler whose workers compute, such as tcp://127.0.0.1:8786>,"
	@echo "JOBS=$(JOBS) (notebooks at a time, once 03_evaluation is done), SET=\"name=value notebook.name=value\", ONLY=<last notebook wanted>;"
	@echo "make pretrain takes REAL=<scans of patients to test on>; make sweep takes all of these but ONLY, and SWEEP=<file>;"
	@echo "make report and make lesions take PROFILE, DATA and OUT, make report DEVICE too"

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

fetch: $(STAMP) ## download the scans of a public data set, DATASET=ljubljana, into build/, each file held against its checksum
	@$(PYTHON) -m lib.scans.fetch

prepare: $(STAMP) ## raw FLAIR and T1w (DATA=<table, BIDS folder or public data set>) to stripped 1 mm scans, each with a page to check, in build/
	@$(PYTHON) -m lib.prepare.work

paper: $(STAMP) ## run the numbered notebooks and write every figure and table into figures/<profile>/
	@$(PYTHON) -m lib.run.paper

# The make that lib.run.paper starts, with BUILD, FIGURES, CHAIN (the notebooks of the run), ONLY, and COHORT (the one that makes the scans).
EXECUTED := $(patsubst %,$(BUILD)/%.ipynb,$(or $(ONLY),$(CHAIN)))
chain: $(EXECUTED)
	$(if $(ONLY),,@$(PYTHON) -m lib.statistics.claims $(FIGURES) $(if $(filter figures/demo,$(FIGURES)),README.md))
	@echo "figures and tables: $(FIGURES)"

ifdef BUILD
$(BUILD)/%.ipynb: notebooks/%.py $(BUILD)/parameters/%.json $(BUILD)/inputs/%.json
	@$(PYTHON) -m lib.run.runner $< --build $(BUILD) --figures $(FIGURES)

# What a notebook reads was written by the numbers before it.
SPLIT      := $(BUILD)/01_data_split.ipynb
EVALUATION := $(BUILD)/03_evaluation.ipynb
$(SPLIT): $(patsubst %,$(BUILD)/%.ipynb,$(COHORT))
$(BUILD)/02_training.ipynb: $(SPLIT)
$(EVALUATION): $(SPLIT) $(patsubst %,$(BUILD)/%.ipynb,$(filter 02_training,$(CHAIN)))
AFTER_03   := $(filter-out 00% 01% 02% 03%,$(CHAIN))
$(AFTER_03:%=$(BUILD)/%.ipynb): $(EVALUATION)
-include $(wildcard $(BUILD)/dependencies/*.d)
endif

verify: $(STAMP) ## the default run computed anew, or AGAINST=<folder of tables made elsewhere>, compared with the tables of the last commit
	@$(PYTHON) -m lib.run.verify

sweep: $(STAMP) ## run notebooks over values of their parameters: SWEEP=notebooks/sweeps/<name>.yml, JOBS at a time
	@$(PYTHON) -m lib.run.sweep "$$RUN_SWEEP"

report: $(STAMP) ## what `make paper` found in one HTML file and, with Chromium, a PDF, beside its figures
	@$(PYTHON) -m lib.explorer.gallery
	@$(PYTHON) -m lib.run.report

lesions: $(STAMP) ## what `make paper` found, lesion by lesion: one table, a page (PDF) a scan, maps and masks for any viewer
	@$(PYTHON) -m lib.explorer.sheets

book: $(STAMP) ## executed notebooks of the default run, without the paths of this machine, into content/ for the book of myst.yml
	$(PYTHON) -m jupyter nbconvert --to notebook --log-level WARN --output-dir content \
	  $(patsubst notebooks/%.py,"$$RUN_OUT"/build/demo/%.ipynb,$(filter-out %/00_explore.py,$(sort $(wildcard notebooks/[0-9][0-9]_*.py)))) \
	  --ClearMetadataPreprocessor.enabled=True --ClearMetadataPreprocessor.preserve_nb_metadata_mask=kernelspec

pretrain: $(STAMP) ## an hour on two cores: train the weights that come with the project, test them, write weights/
	@$(MAKE) --no-print-directory paper PROFILE=pretrain DATA= WEIGHTS= ONLY=03_evaluation
	$(if $(REAL),@$(MAKE) --no-print-directory paper PROFILE=pretrain DATA="$$RUN_REAL" WEIGHTS="$$RUN_OUT/build/pretrain/weights/unet.safetensors" ONLY=03_evaluation)
	@$(PYTHON) -m lib.run.model_card "$$RUN_OUT" weights "$$RUN_REAL"

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
