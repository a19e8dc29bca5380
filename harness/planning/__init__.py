"""What a submit would do, what that takes, and the pilots that tell."""
