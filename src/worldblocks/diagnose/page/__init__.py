"""The page: its text, style, charts and images, and the known causes of each symptom."""
