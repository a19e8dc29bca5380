"""Carrying out a recipe: the loop, and what it leaves behind."""
