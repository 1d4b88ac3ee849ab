"""One file a family; `base` is what they all keep to."""
