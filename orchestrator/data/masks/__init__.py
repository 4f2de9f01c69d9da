"""Which pixels of a mask file are polyp."""
