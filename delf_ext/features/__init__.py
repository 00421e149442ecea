"""Images to features: what embeds, and the extraction of whole lists."""
