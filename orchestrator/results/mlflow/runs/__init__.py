"""The runs of one study: found again by their tags, so that what is written twice is there once."""
