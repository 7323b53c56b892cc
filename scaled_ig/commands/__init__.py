"""The verbs of the program, one module each, with a function of the same name."""
