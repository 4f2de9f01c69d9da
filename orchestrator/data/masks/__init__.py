"""Reading of mask files: which pixels are polyp."""
