"""What people look at: figures, one HTML page, and the findings of the input doctor."""
