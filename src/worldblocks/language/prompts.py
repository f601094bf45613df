"""The examples a language model sees before it scores; they are about nothing in the case set."""

PROMPT_VERSION = "1"
SHOTS = (
    ("hand me the orange cup", "pick up the orange cup"),
    ("make your way to the white table", "go to the white table"),
    ("have a look inside the cupboard", "open the cupboard"),
    ("swing your arms around", "move both arms"),
    ("do not make any noise", "stay quiet"),
    ("get up those stairs in a hurry", "climb fast"),
)
NEUTRAL = "do something"  # what is asked when nothing is asked


def forward(shots: tuple[tuple[str, str], ...], instruction: str) -> str:
    """Instruction first: what is completed is the goal."""
    lines = [f"Instruction: {asked}\nGoal: {goal}\n\n" for asked, goal in shots]
    return "".join(lines) + f"Instruction: {instruction}\nGoal:"


def backward(shots: tuple[tuple[str, str], ...]) -> str:
    """Goal first: what is completed is a goal and the instruction that it answers."""
    lines = [f"Goal: {goal}\nInstruction: {asked}\n\n" for asked, goal in shots]
    return "".join(lines) + "Goal:"
