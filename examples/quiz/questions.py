"""What is asked: the question, its choices, and which of them is right."""

QUESTIONS = [
    ("What colour is a port hand mark in Europe?", ["Green", "Red", "Yellow"], 1),
    ("How many metres is a nautical mile?", ["1,000", "1,609", "1,852"], 2),
    ("Which side of a ship is starboard?", ["Right", "Left"], 0),
]
