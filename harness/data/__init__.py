"""Data sets in COCO layout: from annotations and image files to training batches, and the tools around them."""
