"""Detections and what they are worth: prediction, the COCO numbers, speed, pictures, curves."""
