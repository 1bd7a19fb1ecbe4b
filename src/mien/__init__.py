"""Facial expression recognition: read faces offline, train and compare the published networks."""

__version__ = "0.1.0.dev0"
