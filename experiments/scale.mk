# The papers' sizes on a few cores: what base planes and many scenes in stage 1 are worth. Stage 1 takes the first N1 scenes of a
# pack, and stage 2 those after the papers' 500, whatever N1 is: rows compare. What is finished is kept, what was cut short goes on.

SIZE ?= full
OF := $(if $(filter full,$(SIZE)),,-$(SIZE))
AT := scale$(OF)
ifeq ($(SIZE),full)
  KINDS := cars faces
  cars := 2000
  faces := 500
  VIEWS_OF_EACH := --views 40
  PIXELS := 128
  BASES := 10 50
  # Of each kind the place of stage 2's first scene, and N1 of the rows. The row with the largest N1 takes all that are left, the
  # others the next FEW.
  cars_first := 500
  cars_n1 := 8 32 128 500
  faces_first := 100
  faces_n1 := 8 100
  FEW := 200
  REPEATED := plain fast-m0-n8 fast-m10-n8 latent-m10-n8
  MORE_SEEDS := 1 2
  VIEW_COUNTS := 3 6 12 36
  VIEWED := 50
else ifeq ($(SIZE),tiny)
  KINDS := cars
  cars := 12
  VIEWS_OF_EACH := --views 10 --resolution 32
  PIXELS := 32
  BASES := 10
  cars_first := 4
  cars_n1 := 2 4
  FEW := 4
  VIEW_COUNTS := 2 8
  VIEWED := 4
else
  $(error SIZE=$(SIZE) is neither full nor tiny)
endif
# So many scenes of stage 2 are trained at a time. What scenes share is trained with the first wave, where the measured ones are.
WAVE := 250

# With so many scenes stage 1 has a quarter of its epochs.
SHORT := 500

# A recipe's files, with and without base planes; lengths are epochs, the one rule for all N1 and N2.
files-fast-m0 := recipes/fast scale/fast_epochs
files-fast-m10 := $(files-fast-m0) scale/fast_bases
files-fast-m50 := $(files-fast-m10) scale/bases50
files-latent-m10 := recipes/latent scale/latent_epochs
files-latent-m50 := $(files-latent-m10) scale/bases50
files-plain := $(files-fast-m0) ablations/no_prior
files-plain-long := $(files-plain) scale/plain_long

# Rows without a stage 1, with which the others are compared.
WITHOUT := plain plain-long
WAYS := fast-m0 $(BASES:%=fast-m%) $(BASES:%=latent-m%)
# The recipes' rows with the largest N1 take all scenes that are left; of the others 200 scenes tell enough.
LONG := fast-m0 latent-m10
largest = $(lastword $($(1)_n1))
fit_files = $$(RUN_FIT) $(patsubst %,--config experiments/%.yaml,$(files-$(1))) $(if $(filter full,$(SIZE)),,--scene.resolution $(PIXELS)) \
  --run_dir $$(@D) --resume true
# kind, way, N1: where the scenes of stage 2 end
last = $(if $(and $(filter $(call largest,$(1)),$(3)),$(filter $(LONG),$(2))),$($(1)),$(shell expr $($(1)_first) + $(FEW)))
scale_fit = $(call fit_files,$(2)) --data.path data/$(AT)/$(1) \
  --data.stage2_scenes '{range: [$($(1)_first), $(call last,$(1),$(2),$(3))]}'
# The bank has the scenes, and checkpoints would fill the disk; stage 2 asks for those at the end of stage 1.
scale_done = @touch $$@ && rm -rf $$(@D)/latents $$(@D)/checkpoints/*/last*.ckpt

# A batch has no more than a view of each scene: with two a scene would take half as many steps.
batch = $(if $(filter fast,$(firstword $(subst -, ,$(1)))),$(if $(shell test $(2) -lt 16 && echo few),--phases.warm_up.batch_size $(2)))
short = $(if $(filter $(SHORT),$(2)),--config experiments/scale/$(firstword $(subst -, ,$(1)))_short.yaml)

define scale_stage1
runs/$(AT)/$(1)/$(2)-n$(3)/stage1/finished: | venv data/$(AT)/$(1)/pack.json
	$(call scale_fit,$(1),$(2),$(3)) $(call short,$(2),$(3)) $(call batch,$(2),$(3)) --data.stage1_scenes '{range: [0, $(3)]}' $(ONLY_STAGE1)
	$(scale_done)
endef
define scale_stage2
runs/$(AT)/$(1)/$(2)-n$(3)/seed$(4)/finished: runs/$(AT)/$(1)/$(2)-n$(3)/stage1/finished
	$(call scale_fit,$(1),$(2),$(3)) --data.stage1_scenes '{range: [0, $(3)]}' $(ONLY_STAGE2) --waves.scenes $(WAVE) \
	  --init_from $$(<D) --seed_everything $(4)
	$(scale_done)
endef
define scale_plain
runs/$(AT)/$(1)/$(2)/seed$(3)/finished: | venv data/$(AT)/$(1)/pack.json
	$(call scale_fit,$(1),$(2),0) --data.stage1_scenes 0 --seed_everything $(3)
	$(scale_done)
endef
$(foreach kind,$(KINDS),$(foreach way,$(WAYS),$(foreach n1,$($(kind)_n1),$(eval $(call scale_stage1,$(kind),$(way),$(n1))))))
$(foreach kind,$(KINDS),$(foreach way,$(WAYS),$(foreach n1,$($(kind)_n1),$(foreach seed,$(sort $(SEEDS) $(MORE_SEEDS)),$(eval $(call scale_stage2,$(kind),$(way),$(n1),$(seed)))))))
$(foreach kind,$(KINDS),$(foreach way,$(WITHOUT),$(foreach seed,$(sort $(SEEDS) $(MORE_SEEDS)),$(eval $(call scale_plain,$(kind),$(way),$(seed))))))

# The rows with few scenes first, so that there is soon something to look at; last the other seeds of some, which tell what chance does.
scale_rows = $(foreach way,$(WITHOUT) $(foreach n1,$($(1)_n1),$(WAYS:%=%-n$(n1))),$(SEEDS:%=runs/$(AT)/$(1)/$(way)/seed%/finished))
repeated = $(foreach row,$(filter $(WITHOUT) $(WAYS:%=%-n$(firstword $(cars_n1))),$(REPEATED)),$(MORE_SEEDS:%=runs/$(AT)/cars/$(row)/seed%/finished))
.PHONY: scale
scale: $(foreach kind,$(KINDS),$(call scale_rows,$(kind))) $(repeated)
	$(BIN)/scaled-ig tables $(KINDS:%=runs/$(AT)/%) --out runs/$(AT)/results.md

data/$(AT)/cars/pack.json: | venv
	$(BIN)/scaled-ig synthesize cars --scenes $(cars) --out data/$(AT)/shapenet
	$(BIN)/scaled-ig pack shapenet data/$(AT)/shapenet --out data/$(AT)/cars $(VIEWS_OF_EACH)
	$(BIN)/scaled-ig check data/$(AT)/cars --sheet_scenes 100

data/$(AT)/faces/pack.json: | venv
	$(BIN)/scaled-ig synthesize faces --out data/$(AT)/head
	$(BIN)/scaled-ig pack basel data/$(AT)/head/face_model.h5 --scenes $(faces) --out data/$(AT)/faces $(VIEWS_OF_EACH)
	$(BIN)/scaled-ig check data/$(AT)/faces --sheet_scenes 100
