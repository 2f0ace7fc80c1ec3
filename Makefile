# make demo    set-up and the main job on the synthetic set, on a CPU: train every stage, test, table and two pictures
# make test    set-up and the tests
# make setup   virtual environment .venv, dependencies, extensions (the others call it)
# make lint    ruff        make bench   the benchmarks, by hand        make clean   remove the environment and builds

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
CONFIG := configs/Synthetic/cfat.yml
DEMO := logs/demo
SEED ?= 1

.PHONY: demo test setup lint bench clean

setup: $(READY)

# imagecorruptions brings opencv-python beside the headless build; both own the directory cv2 and the former needs libGL,
# so one is removed and the other laid down again. Without a C compiler slower code stands in for the extensions.
$(READY): requirements.txt setup.py $(wildcard */*.pyx)
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/python -m pip uninstall --quiet --yes opencv-python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps \
		$$(grep -o '^opencv-python-headless==[^ ]*' requirements.txt)
	$(BIN)/python setup.py --quiet build_ext --inplace || echo "extensions not built: slower code stands in"
	touch $@

demo: setup
	$(BIN)/python train.py --config_file $(CONFIG) OUTPUT_DIR $(DEMO) SEED $(SEED)
	$(BIN)/python -m corruption grid --image $$(ls data/synthetic/query/*.jpg | head -1) --out $(DEMO)/corruptions.png
	$(BIN)/python test.py --config_file $(CONFIG) OUTPUT_DIR $(DEMO)/baseline SEED $(SEED) \
		TEST.WEIGHT $(DEMO)/checkpoints/clean.pth TEST.COMPARE $(DEMO)

test: setup
	$(BIN)/python -m pytest

lint: setup
	$(BIN)/python -m ruff check .

bench: setup
	for script in $(filter-out %/measure.py,$(wildcard tests/benchmarks/*.py)); do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) build */*.so */*.c
