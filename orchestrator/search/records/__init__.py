"""Records of trials and fits on disk, and the scores computed from them."""
