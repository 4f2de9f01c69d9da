"""Parts of a prediction: files to read, videos, the device, measurements of masks."""
