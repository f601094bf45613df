"""What every recipe does, event by event: recorded once, compared after every change."""
