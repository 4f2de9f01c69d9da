"""What predictions are made of: files to read, videos, the device, what is counted in a mask."""
