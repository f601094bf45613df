"""The sections of the page, each about one part of the agent or its training."""
