"""Command-line interface: parsing, help, screen output and former names of options."""
