"""Writing packs: worker processes make the scenes, whole shards are put together of them."""
