"""Feature stores: what was computed from photographs, kept on disk and found again by content."""
