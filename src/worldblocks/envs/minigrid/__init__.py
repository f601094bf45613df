"""MiniGrid and BabyAI levels."""
