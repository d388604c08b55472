"""Vox-ZSDA: zero-shot domain adaptation."""
