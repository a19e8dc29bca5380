"""Mask R-CNN with FPN on torch and torchvision.ops: arithmetic and state_dict keys of the mmdetection 2.x recipes."""
