"""What is done to grey values: smoothing, noise measured, one domain made to look like another.

Tensors are (b, 1, z, y, x); half precision is computed in single precision and given back as it came.
"""
