"""What a network predicts for validation images: after each epoch, and once its fit is over."""
