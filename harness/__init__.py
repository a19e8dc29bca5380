"""A Mask R-CNN benchmark harness: an experiment matrix in, trained cells and published tables out."""
