"""Where posed views come from: packs, the readers that write them, and the LightningDataModules that stream them.

Nothing is imported here: reading and writing packs must not wait seconds for Lightning.
"""
