"""Conversion of volumes and particle lists, and its verification."""
