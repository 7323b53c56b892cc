# make demo   the whole method on this machine: cars, training, report          make test   what a change must pass
# make venv   only the environment in .venv                                     make test-slow   faults, several ranks
# make lint   style and types
# make ablations | baselines | latent-spaces   the papers' tables: SCALE=demo (built-in cars, default) or paper, SEEDS="0 1 2", -j 2
# make results   all of them in docs/results.md
# make faults   kills, signals, full disks, lost ranks, flipped bits, hostile files: docs/reliability.md

PYTHON ?= python3
BIN := .venv/bin
RUN := runs/demo
FIT := $(BIN)/scaled-ig fit

.PHONY: help venv demo test test-slow faults bench bench-quality bench-gpu bench-data bench-scale bench-bank lint \
  clean-demo ablations baselines latent-spaces results
help:
	@sed -n 's/^# //p' Makefile

venv: .venv/ready
.venv/ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: $(PYTHON) is older than 3.11: give another one, make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@# The fast CPU kernel is compiled on first use; ziglang is a C compiler that pip can install.
	@command -v $${CC:-cc} >/dev/null || $(BIN)/python -m pip install --quiet --disable-pip-version-check ziglang
	@touch $@

# Every step is a command that works on your own data too; finished steps are kept.
demo: data/demo/pack/pack.json
	$(BIN)/scaled-ig check data/demo/pack
	$(FIT) --config experiments/recipes/fast.yaml --data.path data/demo/pack --run_dir $(RUN) --resume true
	$(FIT) --config experiments/recipes/fast.yaml --config experiments/ablations/no_prior.yaml --data.path data/demo/pack \
	  --run_dir $(RUN)-plain --resume true
	$(FIT) --config experiments/recipes/latent.yaml --data.path data/demo/pack --run_dir $(RUN)-latent --resume true
	$(BIN)/scaled-ig report $(RUN) --rgb $(RUN)-plain --compare "latent recipe=$(RUN)-latent"

clean-demo:
	rm -rf data/demo $(RUN) $(RUN)-plain $(RUN)-latent

# A worker for every core; the tests of a file share what they train.
test: venv
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile

# Campaigns of faults, several ranks and hosts, the interpreter of kernels.
test-slow: venv
	$(BIN)/python -m pytest -m slow -n auto --dist loadfile

# The whole campaign of faults, 45 minutes at most on two cores; what it gave is put into docs/reliability.md by
# python -m tests.faults.table.
faults: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.faults --out runs/faults

# The ratios of docs/performance.md on this CPU, in minutes; those of the next two are taken in where they have been run.
bench: venv
	$(BIN)/python -m benchmarks.summary

# The frontier, PSNR against seconds and bytes a scene: hours, goes on where it was interrupted. VEHICLES, FACES: packs.
bench-quality: venv
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.quality $(if $(VEHICLES),--vehicles $(VEHICLES)) $(if $(FACES),--faces $(FACES))

# The same ratios on a GPU, in one call of under ten minutes.
bench-gpu: venv
	$(BIN)/python -m benchmarks.gpu

# A pack of 2,000 scenes is written, and streamed against a bare h5py loop.
bench-data: venv
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/data.py

# Step time, memory and bytes on the wire of 100 to 100,000 scenes, beside one dense table with Adam.
bench-scale: venv
	$(BIN)/python benchmarks/scale.py

# 100,000 scenes in a bank (12 GB, removed afterwards): to open, to read one, to verify.
bench-bank: venv
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/bank.py

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

include experiments/tables.mk
