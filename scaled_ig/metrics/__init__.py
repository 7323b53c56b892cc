"""What is measured of scenes: quality of their images, base planes, and what they cost."""
