"""Vox-UDA: unsupervised domain adaptation."""
