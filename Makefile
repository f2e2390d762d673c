# Each target sets up .venv by itself. VENV=DIR uses an environment that exists already.
PYTHON ?= python3
DEVICE ?= cpu

ifeq ($(origin VENV), undefined)
VENV := .venv
ENVIRONMENT := .venv/.installed
endif

.PHONY: demo test lint conformance test-oldest test-newest bench

demo: $(ENVIRONMENT)
	$(VENV)/bin/python -m training.demo checkpoints/tiny-en-es
	$(VENV)/bin/python -m training.train training/recipes/demo.yaml --run_on $(DEVICE)
	$(VENV)/bin/python -m training.demo runs/demo

test: $(ENVIRONMENT)
	$(VENV)/bin/python -m pytest

lint: $(ENVIRONMENT)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/python tests/conformance/lint.py

conformance: $(ENVIRONMENT)
	$(VENV)/bin/python tests/conformance/run.py

BENCH := benchmarks/results

bench: $(ENVIRONMENT)
	rm -f $(addprefix $(BENCH)/,training.md programs.md generation.md imports.md waiting.md scaling.md)
	$(VENV)/bin/python -m benchmarks.training --shape tiny --output $(BENCH)/training.md
	$(VENV)/bin/python -m benchmarks.training --shape base --steps 1 --rounds 5 --output $(BENCH)/training.md
	$(VENV)/bin/python -m benchmarks.training --shape base --steps 1 --rounds 5 --precision bfloat16 \
	    --systems ours marian marian-eager "marian, memory kept" marian-fp32 --output $(BENCH)/training.md
	$(VENV)/bin/python -m benchmarks.programs --output $(BENCH)/programs.md
	$(VENV)/bin/python -m benchmarks.generation --shape base --output $(BENCH)/generation.md
	$(VENV)/bin/python -m benchmarks.generation --shape base --threads 2 --output $(BENCH)/generation.md
	$(VENV)/bin/python -m benchmarks.generation --model checkpoints/tiny-en-es --batch 64 --tokens 100 \
	    --output $(BENCH)/generation.md
	$(VENV)/bin/python -m benchmarks.imports --output $(BENCH)/imports.md
	$(VENV)/bin/python -m benchmarks.waiting --output $(BENCH)/waiting.md
	$(VENV)/bin/python -m benchmarks.scaling --output $(BENCH)/scaling.md

test-oldest: .venv-oldest/.installed
	.venv-oldest/bin/python -m pytest tests/vanilla_transformer tests/parity

# The newest that pyproject.toml allows of everything but torch, whose newest may come with CUDA only.
test-newest: .venv-newest/.installed
	grep '^torch==' constraints.txt > .venv-newest/torch.txt
	.venv-newest/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --upgrade-strategy eager \
	    -c .venv-newest/torch.txt -e ".[dev]"
	.venv-newest/bin/python -m pip list --format freeze | grep -E '^(torch|transformers|tokenizers|huggingface.hub|accelerate|datasets|peft)=='
	.venv-newest/bin/python -m pytest tests/vanilla_transformer tests/parity tests/hub tests/training/test_trainer.py \
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
