"""Text, pictures and videos of a reward and of a run that searches for one."""
