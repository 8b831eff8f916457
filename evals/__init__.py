"""Evidence runs and the training of the built-in reasoner."""
