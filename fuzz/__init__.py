"""Targets for fuzzing with atheris: what reads bytes of strangers, fed with mutated bytes. See README.md."""
