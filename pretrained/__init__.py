"""Known weights: what they are (manifest), where they come from (fetch), how others are turned into them (convert)."""
