# Each target sets up .venv by itself. VENV=DIR uses an environment that exists already.
PYTHON ?= python3
DEVICE ?= cpu

ifeq ($(origin VENV), undefined)
VENV := .venv
ENVIRONMENT := .venv/.installed
endif

# Tests run in this many processes, of one thread each.
WORKERS ?= 2
PARALLEL = -n $(WORKERS) --dist worksteal
PYTEST = $(VENV)/bin/python -m pytest $(PARALLEL)

.PHONY: help demo test test-slow test-all fuzz kill coverage lint format conformance test-oldest test-newest bench bench-gpu docs browser \
	test-browser

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

demo: $(ENVIRONMENT)  ## translate with the bundled model, then train one
	$(VENV)/bin/python -m training.demo checkpoints/tiny-en-es
	$(VENV)/bin/python -m training.train training/recipes/demo.yaml --run_on $(DEVICE)
	$(VENV)/bin/python -m training.demo runs/demo

test: $(ENVIRONMENT)  ## what a change needs to pass: 4 minutes on two cores
	$(PYTEST) -m "not slow"

test-slow: $(ENVIRONMENT)  ## the tests that `make test` leaves out
	$(PYTEST) -m slow

test-all: test test-slow  ## both: 12 minutes on two cores

# Files that are damaged at random, so many in all.
FILES ?= 2000

fuzz: $(ENVIRONMENT)  ## read thousands of damaged files: each is read, or gives one clear error
	$(VENV)/bin/python -m tests.fuzz --count $(FILES)

# Kills of one training, of which each third comes before its first step, in a save, or in training and evaluation.
KILLS ?= 30

kill: $(ENVIRONMENT)  ## kill a training at random moments: its curve must stay the same, to the last bit
	KILLS=$(KILLS) $(VENV)/bin/python -m pytest tests/training/test_interruptions.py -k "random_moments and 1"

coverage: $(ENVIRONMENT)  ## all tests, and which lines they run: coverage.xml
	$(PYTEST) --cov --cov-report term --cov-report xml

format: $(ENVIRONMENT)  ## let ruff put the code in order
	$(VENV)/bin/ruff check --fix
	$(VENV)/bin/ruff format

lint: $(ENVIRONMENT)  ## ruff, mypy, codespell, the words of docs/style.md and the conventions of transformers' models
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/codespell
	$(VENV)/bin/python tests/words.py
	$(VENV)/bin/python tests/conformance/lint.py

conformance: $(ENVIRONMENT)  ## the tests that transformers has for all of its models
	$(VENV)/bin/python tests/conformance/run.py

docs: $(ENVIRONMENT)  ## the pages of docs/ as a site in build/site
	$(VENV)/bin/python -c 'import material, mkdocstrings' 2>/dev/null || \
	    $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict --quiet
	@echo "Open build/site/index.html"

BENCH := benchmarks/results

bench: $(ENVIRONMENT)  ## measure speed again: benchmarks/results/
	$(VENV)/bin/python -m benchmarks.speed.training --shape tiny --output $(BENCH)/training_tiny.md
	$(VENV)/bin/python -m benchmarks.speed.training --shape base --steps 1 --rounds 5 --output $(BENCH)/training_base.md
	$(VENV)/bin/python -m benchmarks.speed.training --shape base --steps 1 --rounds 5 --precision bfloat16 \
	    --systems ours marian marian-eager "marian, memory kept" marian-fp32 --output $(BENCH)/training_base_bfloat16.md
	$(VENV)/bin/python -m benchmarks.speed.programs --output $(BENCH)/programs.md
	$(VENV)/bin/python -m benchmarks.speed.generation --shape base --output $(BENCH)/generation_base.md
	$(VENV)/bin/python -m benchmarks.speed.generation --shape base --threads 2 --output $(BENCH)/generation_base_2_threads.md
	$(VENV)/bin/python -m benchmarks.speed.generation --model checkpoints/tiny-en-es --batch 64 --tokens 100 \
	    --output $(BENCH)/generation_tiny_en_es.md
	$(VENV)/bin/python -m benchmarks.speed.imports --output $(BENCH)/imports.md
	$(VENV)/bin/python -m benchmarks.speed.waiting --output $(BENCH)/waiting.md
	$(VENV)/bin/python -m benchmarks.speed.scaling --output $(BENCH)/scaling.md
	$(VENV)/bin/python -m benchmarks.speed.engines --output $(BENCH)/engines.md
	$(VENV)/bin/python -m benchmarks.architectures.run --task cost --output $(BENCH)/architectures_cost.md

bench-gpu: $(ENVIRONMENT)  ## measure one GPU in ten minutes: benchmarks/results/gpu.md
	$(VENV)/bin/python -m benchmarks.gpu --output $(BENCH)/gpu.md

# The page with the runtime and the model beside it, as any server for static files can give it, is in $(SITE).
PAGE := .browser
SITE := $(PAGE)/site
PAGE_MODEL := checkpoints/tiny-en-es
PORT ?= 8000
RUNTIME := $(PAGE)/node_modules/@huggingface/transformers/node_modules/onnxruntime-web/dist $(PAGE)/node_modules/onnxruntime-web/dist

$(PAGE)/node_modules/.installed: docs/browser/package.json
	@command -v npm > /dev/null || { echo "npm is needed: install node (Debian and Ubuntu: apt install nodejs npm)"; exit 1; }
	mkdir -p $(PAGE)
	cp docs/browser/package.json $(PAGE)
	ONNXRUNTIME_NODE_INSTALL=skip npm install --prefix $(PAGE) --omit=dev --no-package-lock --no-audit --no-fund
	@touch $@

# The name of the model, which is written anew where it is another one than before.
$(PAGE)/model_name: FORCE
	@mkdir -p $(PAGE)
	@echo '$(PAGE_MODEL)' | cmp -s - $@ || echo '$(PAGE_MODEL)' > $@

$(SITE)/model/README.md: $(PAGE)/model_name $(wildcard $(PAGE_MODEL)/*.safetensors $(PAGE_MODEL)/*.json)
	rm -rf $(SITE)/model
	$(VENV)/bin/python -m vanilla_transformer.cli export $(PAGE_MODEL) $(SITE)/model --to onnx --precision int8

.PHONY: FORCE browser-files
browser-files: $(ENVIRONMENT) $(PAGE)/node_modules/.installed $(SITE)/model/README.md
	mkdir -p $(SITE)/vendor
	cp docs/browser/*.html docs/browser/*.css docs/browser/*.mjs $(SITE)
	cp $(PAGE)/node_modules/@huggingface/transformers/dist/transformers.min.js $(SITE)/vendor
	for folder in $(RUNTIME); do if [ -d $$folder ]; then \
	    cp $$folder/ort-wasm-simd-threaded.mjs $$folder/ort-wasm-simd-threaded.wasm $(SITE)/vendor; break; fi; done

# Serves the page at the port that is given besides.
SERVE := $(VENV)/bin/python -m http.server --bind 127.0.0.1 --directory $(SITE)

browser: browser-files  ## translate in a page on this machine: http://127.0.0.1:8000
	$(SERVE) $(PORT)

$(PAGE)/float32/README.md: $(PAGE)/model_name $(wildcard $(PAGE_MODEL)/*.safetensors $(PAGE_MODEL)/*.json)
	rm -rf $(PAGE)/float32
	$(VENV)/bin/python -m vanilla_transformer.cli export $(PAGE_MODEL) $(PAGE)/float32 --to onnx

# In Debian's chromium, or another one that CHROMIUM names. Sentence by sentence: int8 rounds by all that is in a batch.
test-browser: browser-files $(PAGE)/float32/README.md  ## drive the page in a browser without a window, and compare with Python
	ONNXRUNTIME_NODE_INSTALL=skip npm install --prefix $(PAGE) --no-package-lock --no-audit --no-fund
	$(VENV)/bin/python -c 'from training.data.phrasebook import phrasebook; print(*(pair[0] for pair in phrasebook()["test"][:100]), sep="\n")' \
	    > $(PAGE)/sentences.txt
	for model in site/model float32; do $(VENV)/bin/python -m vanilla_transformer.cli translate --model $(PAGE)/$$model \
	    --engine onnxruntime --input $(PAGE)/sentences.txt --output_format jsonl --num_return_sequences 4 \
	    --tokens_per_batch 1 > $(PAGE)/$$(basename $$model).jsonl || exit 1; done
	node tests/docs/node.mjs $(PAGE)
	node tests/docs/page.mjs $(PAGE) $(SERVE) 0

test-oldest: .venv-oldest/.installed  ## with the oldest versions that pyproject.toml allows
	.venv-oldest/bin/python -m pytest $(PARALLEL) tests/vanilla_transformer tests/parity

# The newest that pyproject.toml allows of everything but torch, whose newest may come with CUDA only.
test-newest: .venv-newest/.installed  ## with the newest versions that pyproject.toml allows
	grep '^torch==' constraints.txt > .venv-newest/torch.txt
	.venv-newest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager \
	    -c .venv-newest/torch.txt -e ".[dev]"
	.venv-newest/bin/python -m pip list --format freeze | grep -E '^(torch|transformers|tokenizers|huggingface.hub|accelerate|datasets|peft)=='
	.venv-newest/bin/python -m pytest $(PARALLEL) tests/vanilla_transformer tests/parity tests/hub tests/training/test_trainer.py \
	    tests/test_checkpoint.py
	.venv-newest/bin/python tests/conformance/run.py --maxfail=20

.venv/.installed: CONSTRAINTS := constraints.txt
.venv-newest/.installed: CONSTRAINTS := constraints.txt
.venv-oldest/.installed: CONSTRAINTS := constraints-oldest.txt

.venv/.installed .venv-newest/.installed .venv-oldest/.installed: pyproject.toml constraints.txt constraints-oldest.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Python 3.11 or newer is needed and $(PYTHON) is older: name one, as in make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	    { echo "$(PYTHON) has no venv module: install it (Debian and Ubuntu: apt install python3-venv)"; exit 1; }
	@echo "Setting up $(@D) with the versions of $(CONSTRAINTS): torch, transformers, datasets and what they need."
	@echo "pip downloads what it has not cached: about 0.5 GB with a CPU build of torch, several GB with a CUDA build."
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[dev]"
	@touch $@
