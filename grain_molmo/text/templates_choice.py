"""How multiple-choice questions may look: markers, names of options, layouts and instructions (Molmo2 §2.5).

A marker is what stands before and behind an option's name. In templates {kind} says what the names are ("letter",
"identifier", ...), {options} is the block of all options.
"""

COMMON_MARKERS = (("", ". "), ("", ") "), ("", ": "), ("(", ") "))
RARE_MARKERS = (
    *(("", "."), ("", ")"), ("", ":"), ("(", ")")),
    *(("", "="), ("", " = "), ("", "=>"), ("", " => ")),
    *(("[", "]"), ("[", "] "), ("{", "}"), ("{", "} "), ("<", ">"), ("<", "> ")),
    *(("", ";"), ("", "; "), ("", "\t"), ("", ", "), ("", " ")),
)

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
NAME_SETS = (
    ("letter", tuple(_LETTERS)),
    ("letter", tuple(_LETTERS.lower())),
    ("number", tuple(str(n) for n in range(1, 21))),
    ("numeral", ("i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x")),
)
"""What the names are, and the names."""

SEPARATORS = (";", " |||")
"""Behind each option but the last, before a space, where all options share a line."""
BULLETS = ("•", "-", "*", "‣", "◦", "–", "·", "▪", "→", ">")

ANSWER_WITH_NAME = (
    "Answer with the {kind} of the correct option.",
    "Reply with the {kind} only.",
    "Give just the {kind} of the right answer.",
    "Which option is right? Respond with its {kind}.",
    "Only write the {kind} of your choice.",
    "Select an option by its {kind}.",
    "Your answer must be one {kind}.",
    "Return the {kind} of the best option, nothing else.",
    "State the {kind} of the answer.",
    "Pick the correct option and output its {kind}.",
    "Please choose. Just the {kind}.",
    "Respond with a single {kind}.",
    "Choose the best option; write down its {kind}.",
    "answer with the {kind}",
    "Name the correct {kind}.",
    "Do not explain, just give the {kind}.",
)

ANSWER_WITH_NAME_AND_TEXT = (
    "Answer with the {kind} and the text of the correct option.",
    "Repeat the correct option together with its {kind}.",
    "Reply with the right option, {kind} included.",
    "Copy out the correct option with its {kind}.",
    "Write the whole option that is correct, starting with its {kind}.",
    "Which option is right? Give its {kind} and its text.",
    "Return the best option as it is written, {kind} and all.",
    "Select one option and output its {kind} and wording.",
    "State the full correct option, with the {kind} in front.",
    "Choose the best option and quote it with its {kind}.",
    "Your answer must be one option: {kind} and text.",
    "Pick the correct option; give both {kind} and text.",
    "Please respond with the {kind} followed by the answer.",
    "Give the {kind} and the answer, nothing else.",
    "answer with {kind} and text",
    "Do not explain, just repeat the right option and its {kind}.",
)

ANSWER_WITH_TEXT = (
    "Answer with the text of the correct option.",
    "Repeat the correct option.",
    "Reply with the right option only.",
    "Choose one of the options and copy it out.",
    "Which option is right? Write it down.",
    "Return the best option as it is written.",
    "Select one of the options.",
    "State the correct option, nothing else.",
    "Your answer must be one of the options.",
    "Pick the best answer from the options.",
    "Please respond with one of the options.",
    "Quote the option that answers the question.",
    "choose an option",
    "Do not explain, just give the right option.",
)

LAYOUTS = (
    "{question}\n{options}\n{instruction}",
    "{question}\n{instruction}\n{options}",
    "{instruction}\n{question}\n{options}",
    "{question} {instruction}\n{options}",
    "{instruction} {question}\n{options}",
    "{question}\n\n{options}\n\n{instruction}",
    "{instruction}\n\n{question}\n\n{options}",
    "Question: {question}\nOptions:\n{options}\n{instruction}",
    "Question: {question}\n{instruction}\nOptions:\n{options}",
    "{instruction}\nQuestion: {question}\nOptions:\n{options}",
    "{question}\nOptions:\n{options}\n{instruction}",
    "{question}\nChoices:\n{options}\n{instruction}",
    "Q: {question}\n{options}\n{instruction}",
    "Here is a question with its options.\n{question}\n{options}\n{instruction}",
    "{options}\n{question}\n{instruction}",
)

DIRECT_WITH_NAME = (
    "{question} Answer with the {kind} of one of these:\n{options}",
    "{question}\n{options}\nThe {kind} of the answer is",
    'Give the {kind} of the right answer to "{question}"\n{options}',
    "Which {kind} answers the question?\n{question}\n{options}",
    "Question: {question}\nOptions:\n{options}\nCorrect {kind}:",
    "{options}\nWhich {kind}? {question}",
    "Look carefully and choose a {kind}: {question}\n{options}",
    "{question}\nReply with a {kind}.\n{options}",
    "I have a question: {question}\nThe options are\n{options}\nTell me the {kind}.",
)

DIRECT = (
    "{question}\n{options}",
    "{question}\n\n{options}",
    "{question} {options}",
    "Question: {question}\nOptions:\n{options}",
    "Question: {question}\nOptions:\n{options}\nAnswer:",
    "Q: {question}\n{options}\nA:",
    "{question}\nOptions:\n{options}",
    "{question}\nChoices:\n{options}",
    "{question}\nPossible answers:\n{options}",
    "{question}\nIs it one of these?\n{options}",
    "{question} Choose from:\n{options}",
    "{question} Pick one:\n{options}",
    'Which of these answers the question "{question}"?\n{options}',
    "Answer this multiple-choice question.\n{question}\n{options}",
    "Select the best answer.\n{question}\n{options}",
    "{question}\nThe options are:\n{options}\nWhich one is right?",
    "Options:\n{options}\nQuestion: {question}",
    "{options}\n{question}",
    "Look carefully, then choose.\n{question}\n{options}",
)
