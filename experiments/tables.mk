# The papers' tables: a run for every row and seed. What is finished is kept, what was cut short goes on; remove the folder of
# a run to train it again.

SCALE ?= demo
SEEDS ?= 0
JOBS = $(or $(patsubst -j%,%,$(filter -j%,$(MAKEFLAGS))),$(if $(filter -j,$(MAKEFLAGS)),$$(nproc),1))
# Runs side by side share the cores; one alone takes those that it finds idle.
THREADS = OMP_NUM_THREADS=$${OMP_NUM_THREADS:-$$(( ($$(nproc) + $(JOBS) - 1) / $(JOBS) ))}
# In W&B a table is a group, and a row its job type, on both stages; WANDB_MODE=disabled logs nothing.
LOG = --trainer.logger RunLogger --trainer.logger.group $(1)-$(SCALE) --trainer.logger.job_type $(2) \
  --trainer.logger.name $(2)-$(3) --trainer.logger.tags [$(3)]
RUN_FIT = $(if $(filter-out 1,$(JOBS)),$(THREADS) )$(BIN)/scaled-ig fit

ifeq ($(SCALE),demo)
  STAGE1 := --config experiments/recipes/latent.yaml
  STAGE2 := $(STAGE1)
  SIZES := demo/
  VIEWS := --data.path data/demo/pack
  PACK := data/demo/pack/pack.json
else ifeq ($(SCALE),paper)
  STAGE1 := --config experiments/stage1.yaml
  STAGE2 := --config experiments/stage2.yaml
else
  $(error SCALE=$(SCALE) is neither demo nor paper)
endif
ONLY_STAGE1 := --phases.latent_supervision null --phases.rgb_alignment null
ONLY_STAGE2 := --phases.autoencoder null --phases.warm_up null --phases.joint null

# -- Table 3, and the workshop paper's Table 2 ----------------------------------------------------------------------------

ABLATIONS := ours micro_only macro_only one_base no_prior rgb triplanes_rgb triplanes_macro_rgb
OF_SCALE = $(if $(findstring rgb,$(1)),$(wildcard $(addprefix experiments/ablations/$(SCALE)/,rgb_rays.yaml $(1).yaml)))
DELTA = $(patsubst %,--config %,$(wildcard experiments/ablations/$(1).yaml) $(call OF_SCALE,$(1)))
PRIOR = runs/ablations/$(SCALE)/$(patsubst no_prior,ours,$(1))/stage1

define ablation_stage1
runs/ablations/$(SCALE)/$(1)/stage1/finished: | venv $(PACK)
	$$(RUN_FIT) $(STAGE1) $(call DELTA,$(1)) $(ONLY_STAGE1) $(VIEWS) --run_dir $$(@D) --resume true $(call LOG,ablations,$(1),stage1)
	@touch $$@
endef
define ablation_stage2
runs/ablations/$(SCALE)/$(1)/seed$(2)/finished: $(call PRIOR,$(1))/finished
	$$(RUN_FIT) $(STAGE2) $(call DELTA,$(1)) $(ONLY_STAGE2) $(VIEWS) --init_from $$(<D) --run_dir $$(@D) --seed_everything $(2) --resume true $(call LOG,ablations,$(1),seed$(2))
	@touch $$@
endef
$(foreach row,$(filter-out no_prior,$(ABLATIONS)),$(eval $(call ablation_stage1,$(row))))
$(foreach row,$(ABLATIONS),$(foreach seed,$(SEEDS),$(eval $(call ablation_stage2,$(row),$(seed)))))

ablations: $(foreach row,$(ABLATIONS),$(SEEDS:%=runs/ablations/$(SCALE)/$(row)/seed%/finished))
	$(BIN)/scaled-ig report runs/ablations/$(SCALE)/ours/seed$(firstword $(SEEDS))
	$(BIN)/scaled-ig tables runs/ablations/$(SCALE) --wandb auto

# -- Figure 1 and Table 4 -------------------------------------------------------------------------------------------------

BASELINES := $(notdir $(basename $(wildcard experiments/baselines/$(SIZES)*.yaml)))
runs/baselines/$(SCALE)/%/finished: | venv $(PACK)
	$(RUN_FIT) $(STAGE2) --config experiments/baselines/$(SIZES)$*.yaml $(VIEWS) --run_dir $(@D) --resume true $(call LOG,baselines,$*,seed0)
	@touch $@

# A scene in closed form, which each of them can hold.
ANALYTIC := --data.path data/analytic/pack --data.stage1_scenes 0 --data.stage2_scenes 1 --data.split_seed null --scene.resolution 64 \
  --phases.latent_supervision.max_steps 500 --phases.latent_supervision.views_per_scene 8
runs/baselines/analytic/%/finished: | venv data/analytic/pack/pack.json
	$(RUN_FIT) --config experiments/recipes/latent.yaml --config experiments/baselines/demo/$*.yaml $(ANALYTIC) --run_dir $(@D) --resume true \
	  $(call LOG,baselines-analytic,$*,seed0)
	@touch $@

baselines: $(BASELINES:%=runs/baselines/$(SCALE)/%/finished) $(BASELINES:%=runs/baselines/analytic/%/finished) \
    $(SEEDS:%=runs/ablations/$(SCALE)/ours/seed%/finished)
	@ln -sfn ../../ablations/$(SCALE)/ours runs/baselines/$(SCALE)/ours
	$(BIN)/scaled-ig tables runs/baselines/$(SCALE) runs/baselines/analytic --wandb auto

# -- The workshop paper's three ways in a latent space, on the demo's cars ----------------------------------------------------

ifeq ($(SCALE),demo)
LATENT_SPACES := $(notdir $(basename $(wildcard experiments/latent_spaces/*.yaml)))
runs/latent_spaces/demo/%/finished: runs/ablations/demo/ours/stage1/finished
	$(RUN_FIT) $(STAGE2) --config experiments/latent_spaces/$*.yaml $(VIEWS) --init_from $(<D) --run_dir $(@D) --resume true $(call LOG,latent-spaces,$*,seed0)
	@touch $@

latent-spaces: $(LATENT_SPACES:%=runs/latent_spaces/demo/%/finished)
	$(BIN)/scaled-ig tables runs/latent_spaces/demo --wandb auto
endif

# -- All tables on one page ----------------------------------------------------------------------------------------------

results:
	$(BIN)/scaled-ig tables $(wildcard runs/ablations/* runs/baselines/* runs/latent_spaces/* runs/scale/* runs/few_views/* runs/held_out/*) --out docs/results.md

# -- What the tables are about -------------------------------------------------------------------------------------------

data/demo/pack/pack.json: | venv
	$(BIN)/scaled-ig synthesize cars --scenes 24 --out data/demo/shapenet
	$(BIN)/scaled-ig pack shapenet data/demo/shapenet --out data/demo/pack --views 40

data/analytic/pack/pack.json: | venv
	$(BIN)/python -m benchmarks.analytic --out data/analytic/views
	$(BIN)/scaled-ig pack transforms data/analytic/views --out data/analytic/pack
