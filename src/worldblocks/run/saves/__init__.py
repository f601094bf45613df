"""What a run saves and continues from: files that survive a kill, checkpoints, sessions."""
