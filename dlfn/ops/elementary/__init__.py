"""Elementary functions, softmax and its logarithm, and dropout."""
