# What stage 1 is worth where it should be worth most: with few views of a scene, and on scenes of another kind. Rows start from the
# stages 1 of scale.mk, and train them where they are missing.

# -- Few views of a scene, where scenes of stage 1 should matter most ---------------------------------------------------------

# Of 40 views four are for tests. Scenes see as many images however few views they have.
FROM := fast-m0 fast-m10 latent-m10
PRIORS := $(sort $(firstword $(cars_n1)) $(call largest,cars))
epochs-fast := latent_supervision:19
epochs-plain := $(epochs-fast)
epochs-latent := latent_supervision:4 rgb_alignment:10
# way, views
views_fit = $(call fit_files,$(1)) --data.path data/$(AT)/cars --data.stage2_scenes '{range: [$(cars_first), $(shell expr $(cars_first) + $(VIEWED))]}' \
  --data.train_views $(2) --data.val_fraction 0 $(foreach phase,$(epochs-$(firstword $(subst -, ,$(1)))),--phases.$(firstword \
  $(subst :, ,$(phase))).max_epochs $(shell expr $(lastword $(subst :, ,$(phase))) \* 36 / $(2)))

define views_row
runs/few_views$(OF)/cars/$(1)-v$(3)-n$(2)/seed0/finished: runs/$(AT)/cars/$(1)-n$(2)/stage1/finished
	$(call views_fit,$(1),$(3)) --data.stage1_scenes '{range: [0, $(2)]}' $(ONLY_STAGE2) --init_from $$(<D)
	@ln -sfn ../../../$(AT)/cars/$(1)-n$(2)/stage1 runs/few_views$(OF)/cars/$(1)-v$(3)-n$(2)/stage1
	$(scale_done)
endef
define views_plain
runs/few_views$(OF)/cars/plain-v$(1)/seed0/finished: | venv data/$(AT)/cars/pack.json
	$(call views_fit,plain,$(1)) --data.stage1_scenes 0
	$(scale_done)
endef
$(foreach views,$(VIEW_COUNTS),$(eval $(call views_plain,$(views)))$(foreach way,$(FROM),$(foreach n1,$(PRIORS),$(eval $(call views_row,$(way),$(n1),$(views))))))

few_view_rows := $(foreach views,$(VIEW_COUNTS),plain-v$(views) $(foreach way,$(FROM),$(PRIORS:%=$(way)-v$(views)-n%)))
.PHONY: few-views
few-views: $(few_view_rows:%=runs/few_views$(OF)/cars/%/seed0/finished)
	$(BIN)/scaled-ig tables runs/few_views$(OF)/cars

# -- Stage 1 on one kind of scenes, stage 2 on another --------------------------------------------------------------------------

# A pack of vehicles as people make them; those of the tables are 54 shapes with 40 views of 128×128.
VEHICLES ?= data/vehicles
VEHICLE_SHAPES ?= 54
TRIED := 100
$(VEHICLES)/pack.json:
	@echo "error: $(VEHICLES) is no pack: pack some vehicles (docs/data) and give the folder, make held-out VEHICLES=PACK" >&2; exit 2

define vehicles_row
runs/held_out/vehicles/$(1)-n$(2)/seed0/finished: runs/$(AT)/cars/$(1)-n$(2)/stage1/finished | $(VEHICLES)/pack.json
	$(call fit_files,$(1)) --data.path $(VEHICLES) --data.stage1_scenes 0 --data.stage2_scenes $(VEHICLE_SHAPES) $(ONLY_STAGE2) --init_from $$(<D)
	@ln -sfn ../../../$(AT)/cars/$(1)-n$(2)/stage1 runs/held_out/vehicles/$(1)-n$(2)/stage1
	$(scale_done)
endef
# Beside these rows lie those of make scale with about as many cars in stage 1, on the first of the same scenes.
define vehicles_first
runs/held_out/cars/$(1)-vehicles-n$(VEHICLE_SHAPES)/stage1/finished: | venv $(VEHICLES)/pack.json
	$(call fit_files,$(1)) --data.path $(VEHICLES) --data.stage1_scenes $(VEHICLE_SHAPES) $(ONLY_STAGE1)
	$(scale_done)
runs/held_out/cars/$(1)-vehicles-n$(VEHICLE_SHAPES)/seed0/finished: runs/held_out/cars/$(1)-vehicles-n$(VEHICLE_SHAPES)/stage1/finished
	$(call fit_files,$(1)) --data.path data/$(AT)/cars --data.stage1_scenes 0 $(ONLY_STAGE2) --init_from $$(<D) \
	  --data.stage2_scenes '{range: [$(cars_first), $(shell expr $(cars_first) + $(TRIED))]}'
	$(scale_done)
endef
define vehicles_plain
runs/held_out/vehicles/plain/seed0/finished: | venv $(VEHICLES)/pack.json
	$(call fit_files,plain) --data.path $(VEHICLES) --data.stage1_scenes 0 --data.stage2_scenes $(VEHICLE_SHAPES)
	$(scale_done)
endef
$(eval $(vehicles_plain))
$(foreach way,$(FROM),$(eval $(call vehicles_first,$(way)))$(foreach n1,$(PRIORS),$(eval $(call vehicles_row,$(way),$(n1)))))

alike := plain $(foreach way,$(FROM),$(patsubst %,$(way)-n%,$(wordlist 2,3,$(cars_n1))))
.PHONY: held-out
held-out: $(foreach row,plain $(foreach way,$(FROM),$(PRIORS:%=$(way)-n%)),runs/held_out/vehicles/$(row)/seed0/finished) \
    $(FROM:%=runs/held_out/cars/%-vehicles-n$(VEHICLE_SHAPES)/seed0/finished) $(alike:%=runs/$(AT)/cars/%/seed0/finished)
	for row in $(alike); do ln -sfn ../../$(AT)/cars/$$row runs/held_out/cars/$$row; done
	$(BIN)/scaled-ig tables runs/held_out/vehicles runs/held_out/cars
