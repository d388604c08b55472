"""Parts of `find`: picks of one tomogram, results of earlier runs, and the report."""
