"""Whether results differ: checkpoints on other images, recipes trained anew, and both from what is published."""
