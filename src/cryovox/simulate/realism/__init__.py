"""What makes a tomogram look as it does: measured on one, given to another."""
