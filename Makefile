# The same words on a laptop and in CI; `make help` lists them. GNU make.
PYTHON ?= python3

# What `export`, `bench` and `report` are about; set on the command line.
MODEL = tiny-smolvlm
TARGET = onnx
RECIPE = int4
TASK = latency
ARGS =
# Versions for `test-newest` and `test-lowest` to take in any case (WITH="torch==2.13.0").
WITH =

# What `fuzz` tries: how many inputs, the seed that decides them, and one kind or input of them.
N = 500
SEED = 1
ONLY =
SECONDS = 180

VENV := .venv
PY := $(VENV)/bin/python
BENCH := $(VENV)/bin/bench
READY := $(VENV)/.ready
LITERT := $(VENV)-litert/bin/python
QUICK := $(VENV)/.quick
INSTALL = $(PY) -m pip install --disable-pip-version-check -c constraints.txt
# GCC leaves out stores to the settings of AMX's tiles, so on CPUs with AMX the first prompt would end
# llama.cpp with SIGILL (its pull request 26954). Compilers for other CPUs do not know the option.
NO_AMX := $(shell $(CXX) -mno-amx-int8 -E -x c++ /dev/null >/dev/null 2>&1 && echo -mno-amx-int8)
# Only the libraries that are loaded, with a job for each core where CMake finds no ninja, too.
LLAMA_CMAKE = -DCMAKE_PROJECT_llama_cpp_INCLUDE=$(CURDIR)/runtimes/llama_cpp/build.cmake
LLAMA_FLAGS = CFLAGS="$$CFLAGS $(NO_AMX)" CXXFLAGS="$$CXXFLAGS $(NO_AMX)" \
  CMAKE_ARGS="$(LLAMA_CMAKE) $$CMAKE_ARGS" \
  CMAKE_BUILD_PARALLEL_LEVEL=$${CMAKE_BUILD_PARALLEL_LEVEL:-$$(getconf _NPROCESSORS_ONLN)}
NAME = $(notdir $(patsubst %/,%,$(MODEL)))

DEMO := results/demo
LIMIT := 100
# What the demo asks of every model. The first accuracy task is the one that summaries show: recipes
# differ in reading words, where all of them solve easy-VQA.
DEMO_RUN = --task latency --task latin --task easy-vqa --task fidelity --limit $(LIMIT) -o $(DEMO)/run.jsonl
DEMO_FAMILIES := tiny-gemma3 tiny-qwen2.5-vl tiny-moondream

.DEFAULT_GOAL := help
# `export` and `bench` are folders too. (A rule written `export : …` would be a directive of make.)
.PHONY: quickstart setup clients executorch litert openvino browser setup-cuda bench-cuda demo results export bench report \
  footprint peers \
  check fix test test-newest test-lowest test-arm fuzz fuzz-parsers clean help

# What tests run in Node.js.
NPM_READY := tests/clients/node_modules/.ready

quickstart: $(or $(wildcard $(READY)),$(QUICK)) ## a first answer in two minutes: no compiler, no torch
	$(PY) -m export tiny-smolvlm --target onnx --recipe int4
	$(BENCH) ask build/tiny-smolvlm/onnx-int4 models/example.png "how many red shapes are there?"

setup: $(READY) ## make .venv and install the pinned versions into it
	@:

clients: ## install what tests run in Node.js; where there is no npm they are skipped
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory -s $(NPM_READY); \
	else echo "no npm here, so the tests of transformers.js are skipped"; fi

executorch: $(READY) ## install ExecuTorch (0.3 GB), for --target executorch and its tests
	@$(INSTALL) -e '.[executorch]'

# In two steps: xdsl, which LiteRT's converter pins, says that it wants an older typing_extensions than
# constraints.txt has. It works with that one, too; pip complains and goes on.
litert: ## make .venv-litert with LiteRT (2.3 GB), for --target litert, and run its tests (ARGS="-k name")
	@test -x $(LITERT) || $(PYTHON) -m venv $(VENV)-litert
	@$(LITERT) -m pip install --disable-pip-version-check --quiet \
	  $(shell grep -E '^(ai-edge-|jax|litert-|torch==|xdsl==)' constraints.txt)
	@$(LITERT) -m pip install --disable-pip-version-check --quiet -c constraints.txt -e '.[reference,dev]'
	@$(LITERT) -m pytest -m litert tests/litert $(ARGS)

openvino: $(READY) ## install OpenVINO (0.2 GB), and run the tests that need it (ARGS="-k name")
	@$(INSTALL) --quiet -e '.[openvino]'
	@$(PY) -m pytest -m openvino tests/runtimes/test_openvino.py $(ARGS)

setup-cuda: $(READY) ## replace the CPU builds by CUDA ones (needs nvcc and a C++ compiler)
	@command -v nvcc >/dev/null || \
	  { echo "nvcc is not there; install NVIDIA's CUDA toolkit first (docs/guide/gpu.md)" >&2; exit 2; }
	@$(PY) -m pip uninstall --yes --quiet onnxruntime torch
	@$(INSTALL) torch
	@$(INSTALL) -e '.[cuda]'
	@$(INSTALL) --force-reinstall --no-deps onnxruntime-gpu
	@export CMAKE_ARGS="-DGGML_CUDA=on $$CMAKE_ARGS"; $(LLAMA_FLAGS) \
	  $(INSTALL) --force-reinstall --no-deps --no-cache-dir --no-binary llama-cpp-python llama-cpp-python
	@$(BENCH) list

bench-cuda: $(READY) ## measure real sizes with random weights on a GPU (ARGS="MODEL --target onnx")
	@$(BENCH) gpu $(ARGS)

demo: $(READY) ## export, prove and benchmark bundled models of all four families (results/demo/)
	@rm -rf $(DEMO) && mkdir -p $(DEMO)
	$(BENCH) run tiny-smolvlm $(DEMO_FAMILIES) $(DEMO_RUN)
	$(BENCH) run tiny-smolvlm --target onnx --target gguf --recipe fp16 --recipe int8 --recipe int4 $(DEMO_RUN)
	$(BENCH) run $(DEMO_FAMILIES) --target onnx --target gguf --recipe int4 $(DEMO_RUN)
	$(BENCH) report $(DEMO)/run.jsonl -o $(DEMO)/REPORT.md
	@echo "The report is in $(DEMO)/REPORT.md and, as one page, in $(DEMO)/REPORT.html"

results: demo ## replace the committed results/REPORT.md by a demo of this machine
	@cp $(DEMO)/run.jsonl results/run.jsonl
	$(BENCH) report results/run.jsonl -o results/REPORT.md

export: $(READY) ## export MODEL= TARGET= RECIPE= (a name of models.yaml or a folder) to build/
	@$(PY) -m export "$(MODEL)" --target "$(TARGET)" --recipe "$(RECIPE)" $(ARGS)

bench: $(READY) ## measure everything exported of MODEL= on TASK=; records go to results/runs/
	@test -n "$(wildcard build/$(NAME)/*/artifact.json)" || \
	  { echo "nothing of $(NAME) is in build/ yet; first: make export MODEL=$(MODEL)" >&2; exit 2; }
	@mkdir -p results/runs
	@$(BENCH) run $(patsubst %/artifact.json,%,$(wildcard build/$(NAME)/*/artifact.json)) \
	  $(TASK:%=--task %) -o results/runs/$(NAME).jsonl $(ARGS)

report: $(READY) ## turn all records of results/runs/ into results/runs/REPORT.md
	@test -n "$(wildcard results/runs/*.jsonl)" || \
	  { echo "no records in results/runs/ yet; first: make bench" >&2; exit 2; }
	@$(BENCH) report $(wildcard results/runs/*.jsonl) -o results/runs/REPORT.md $(ARGS)

footprint: $(READY) ## fail if an export of any model would grow (ARGS="RUN.jsonl --update")
	@$(BENCH) check $(ARGS)

peers: $(READY) ## make the environments of the programs that `bench peers` measures (ARGS="genai" for one)
	@$(LLAMA_FLAGS) $(PY) -m runtimes.peers $(ARGS)

check: $(READY) ## ruff (rules and format) and mypy --strict
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy

fix: $(READY) ## let ruff repair and format what it can
	@$(VENV)/bin/ruff check --fix .
	@$(VENV)/bin/ruff format .

test: $(READY) clients ## run the tests (ARGS="-k name" for some of them, ARGS="-m packages" for those that download)
	@$(PY) -m pytest $(ARGS)

browser: $(READY) clients ## install what drives Chromium, and run the tests that need it (ARGS="-k name")
	@$(INSTALL) --quiet -e '.[browser]'
	@$(PY) -m pytest -m browser $(ARGS)

fuzz: $(READY) ## try N damaged inputs on every command (SEED=, ONLY=kind or kind/number; docs/notes/2026-11-fuzz.md)
	@PYTHONPATH=tests/shared $(PY) -m tests.fuzz -n "$(N)" --seed "$(SEED)" --only "$(ONLY)" $(ARGS)

fuzz-parsers: $(READY) ## look for bytes that parsers stumble on, SECONDS= for each (installs atheris; Python up to 3.13)
	@$(INSTALL) --quiet -e '.[fuzz]'
	@PYTHONPATH=tests/shared $(PY) -m tests.fuzz.guided "$(SECONDS)" $(ARGS)

test-newest: clients ## run the tests with the newest versions that pyproject.toml allows, in .venv-newest
	$(call TEST_WITH,newest,)

test-lowest: clients ## run the tests with the lowest versions that pyproject.toml allows, in .venv-lowest
	@mkdir -p build
	@$(PYTHON) tests/shared/lowest.py $(WITH) >build/lowest.txt
	$(call TEST_WITH,lowest,-c build/lowest.txt)

test-arm: $(READY) ## run artifacts on an emulated Arm CPU (docs/notes/2026-11-arm.md says what it installs)
	@tests/arm/setup.sh build/arm $(PY)
	@$(PY) -m pytest -m arm tests/arm $(ARGS)

clean: ## remove what was built and all caches; .venv stays
	@rm -rf build dist $(DEMO) .venv-newest .venv-lowest .venv-litert .mypy_cache .pytest_cache .ruff_cache
	@find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

# Makes .venv where there is none. An existing one is kept: what is in it already (a CPU-only torch,
# say) stays if it has the pinned version.
define MAKE_VENV
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
  { echo "set-up needs Python 3.11 or newer as $(PYTHON); name another with PYTHON=…" >&2; exit 2; }
@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv $(VENV) || \
  { echo "could not make $(VENV); on Debian and Ubuntu, install python3-venv" >&2; exit 2; }
endef

# Tests with other versions than constraints.txt's, in an environment that is made anew each time.
# $(1): its name; $(2): pip's options.
define TEST_WITH
@rm -rf $(VENV)-$(1) && $(PYTHON) -m venv $(VENV)-$(1)
@$(LLAMA_FLAGS) $(VENV)-$(1)/bin/python -m pip install --disable-pip-version-check --quiet $(2) \
  -e '.[all,dev]' $(WITH)
@$(VENV)-$(1)/bin/python -m pytest $(ARGS)
endef

# The stamps are written last, so a set-up that broke off is done again.
$(QUICK): pyproject.toml constraints.txt
	$(MAKE_VENV)
	@$(INSTALL) --quiet -e '.[onnx,onnxruntime]'
	@touch $@

$(READY): pyproject.toml constraints.txt
	$(MAKE_VENV)
	@command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || \
	  echo "There is no C++ compiler here; llama.cpp needs one, unless pip has kept its wheel." >&2
	@echo "Installing into $(VENV). The first time compiles llama.cpp: some six minutes on two cores."
	@$(LLAMA_FLAGS) $(INSTALL) -e '.[all,dev]' || \
	  { echo "set-up failed, see above (llama-cpp-python needs a C++ compiler to build)" >&2; exit 2; }
	@touch $@

# Without scripts: onnxruntime-node's would fetch CUDA.
$(NPM_READY): tests/clients/package-lock.json
	@echo "Installing transformers.js for its tests (0.5 GB)."
	@cd $(dir $<) && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && \
	  touch node_modules/.ready || echo "npm ci failed, so the tests of transformers.js are skipped"
