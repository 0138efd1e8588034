"""Pooling Lab's shared helpers: notebooks teach, helpers compute."""
