# make demo    train every stage on the synthetic set, on a CPU, and test: a report, a table of results and two figures;
#              in bf16 where the CPU has AMX, AMP=off in float32; make demo QUICK=1 on a smaller set, in about a
#              minute, with poor numbers
# make test    the tests, one process for each core; make test TESTS=tests/utils runs a part
# make documents  the commands of README and docs, on small data, in some minutes
# make lint    ruff and mypy
# make bench   the benchmarks
# make setup   virtual environment .venv with dependencies and extensions; the others call it. TORCH=cuda: torch from
#              PyPI, with CUDA, some GB; TORCH=cpu: without, from pytorch.org; auto: cpu where there is no nvidia-smi.
#              To change it, make clean first
# make clean   remove the environment and what was built

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TORCH ?= auto
BUILD := $(if $(filter auto,$(TORCH)),$(if $(shell command -v nvidia-smi),cuda,cpu),$(TORCH))
$(if $(filter cpu cuda,$(BUILD)),,$(error TORCH=$(TORCH): expected cpu, cuda or auto))
QUICK ?=
CONFIG := configs/Synthetic/$(if $(QUICK),quick,cfat_plus).yml
DEMO := logs/$(if $(QUICK),quick,demo)
DATA := data/$(if $(QUICK),quick/)synthetic
SEED ?= 1
AMP ?= $(if $(filter cpu,$(BUILD)),$(if $(shell grep -s -m 1 amx_bf16 /proc/cpuinfo),bf16,auto),auto)
# reading takes turns with computing where there are no cores beside it
WORKERS := $(if $(filter 1 2,$(shell getconf _NPROCESSORS_ONLN)),0,1)
TESTS ?=
PYX := $(shell find corruption utils -name "*.pyx")

.PHONY: demo test documents setup lint bench clean

setup: $(READY)

# imagecorruptions requires opencv-python, which needs libGL, and the headless build is installed beside it. Both own the
# directory cv2, so the former is removed and the latter installed again.
$(READY): requirements.txt setup.py $(PYX)
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	[ $(BUILD) = cuda ] || $(BIN)/python -m pip install --quiet --disable-pip-version-check --retries 1 --timeout 15 \
		--index-url https://download.pytorch.org/whl/cpu $$(sed -nE 's/^(torch(vision)?==.*)/\1+cpu/p' requirements.txt) || \
		{ [ $(TORCH) = auto ] && echo "torch without CUDA could not be installed; now the one with it, some GB"; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip uninstall --quiet --yes opencv-python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps \
		$$(grep -o '^opencv-python-headless==[^ ]*' requirements.txt)
	$(BIN)/python setup.py --quiet build_ext --inplace || echo "no C compiler: extensions not built, slower code is used"
	touch $@

demo: setup
	$(if $(QUICK),$(BIN)/python -m datasets synthesize --out $(DATA) --identities 40)
	$(BIN)/python train.py --config_file $(CONFIG) OUTPUT_DIR $(DEMO) SEED $(SEED) SOLVER.AMP $(AMP) \
		DATALOADER.NUM_WORKERS $(WORKERS) TEST.STAGES "[clean]"
	$(BIN)/python -m corruption grid --image $$(ls $(DATA)/query/*.jpg | head -1) --out $(DEMO)/corruptions.png
	@echo "Open $(DEMO)/report.html in a browser: all of the run beside the clean-trained model. Numbers: $(DEMO)/results.json"
	@$(if $(QUICK),echo "QUICK=1: few identities and small images and few steps; numbers are poor. make demo has those of docs/results.md")

test: setup
	$(BIN)/python -m pytest -n auto -m "not documents" $(TESTS)

documents: setup
	$(BIN)/python -m pytest -m documents

lint: setup
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

bench: setup
	for script in $(filter-out %/measure.py,$(wildcard tests/benchmarks/*.py)); do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) build
	find corruption utils -name "*.so" -delete -o -name "*.c" -delete
