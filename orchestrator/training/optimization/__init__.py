"""How weights change: optimizers, learning rates, a held encoder, averages of weights."""
