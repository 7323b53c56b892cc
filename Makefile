# make demo   the whole method on this machine: cars, training, report          make test   what a change must pass
# make venv   only the environment in .venv                                     make test-slow   faults, several ranks
# make lint   style and types                  make docs   the site in build/site                make package   the wheel, in a bare environment
# make ablations | baselines | latent-spaces   the papers' tables: SCALE=demo (built-in cars, default) or paper, SEEDS="0 1 2", -j 2
# make scale   2,000 cars and 500 faces, what base planes and scenes in stage 1 are worth: hours, -j 2; SIZE=tiny tries it
# make few-views | held-out   from its stages 1: 3 to 36 views of a scene; stage 2 on another kind of scenes, VEHICLES=PACK
# make results   all of them in docs/results.md
# make faults   kills, signals, full disks, lost ranks, flipped bits, hostile files: docs/reliability.md

PYTHON ?= python3
BIN := .venv/bin
RUN := runs/demo

.PHONY: help venv demo docs test test-slow faults bench bench-quality bench-gpu bench-data bench-scale bench-bank lint package \
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

# Finished steps are kept.
demo: venv
	$(BIN)/scaled-ig demo

clean-demo:
	rm -rf data/demo $(RUN) $(RUN)-plain $(RUN)-latent

# A worker for every core; the tests of a file share what they train.
test: venv
	$(BIN)/python -m pytest -m "not slow" -n auto --dist loadfile

# Campaigns of faults, several ranks and hosts, the interpreter of kernels.
test-slow: venv
	$(BIN)/python -m pytest -m slow -n auto --dist loadfile --no-loadscope-reorder

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

# Builds the wheel and the sdist, and tries the wheel from an empty folder with nothing but what it asks for.
package: venv
	.ci/package

# The site of the documentation in build/site; links that lead nowhere are errors.
docs: venv
	NO_MKDOCS_2_WARNING=1 OMP_NUM_THREADS=1 $(BIN)/mkdocs build --strict --quiet

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

include experiments/tables.mk
include experiments/scale.mk
include experiments/priors.mk
