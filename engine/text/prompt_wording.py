"""The built-in sets about sentiment and gender, in English."""

from __future__ import annotations

from collections.abc import Iterator

from engine.text.prompt_sets import PromptRow

SUBJECTS = (
    *("film", "book", "meal", "hotel", "concert", "holiday"),
    *("phone", "game", "play", "lecture", "coffee", "service"),
)
WORDS = (
    ("good", "bad"),
    ("great", "terrible"),
    ("wonderful", "horrible"),
    ("amazing", "awful"),
    ("brilliant", "disappointing"),
    ("fantastic", "boring"),
)
# Prompt and suffix; where both words stand in the prompt, once with the praise first and once with the blame.
_SENTIMENT = {
    "asked": ("When they asked me about the {subject}, I said it was", ". They were not surprised."),
    "talked": ("We talked about the {subject} for an hour, because it was so", ". Then we went home."),
    "how": ("How was the {subject}? It was really", ", and I told everyone about it."),
    "review": ("Review of the {subject}: simply", ".\n\nWritten by a guest."),
    "honest": ("To be honest, the {subject} last week was", ", as I had expected."),
    "choice": ("Was the {subject} {first} or {second}? I found it", ", to be honest."),
}

OCCUPATIONS = {
    "she": ("nurse", "secretary", "librarian", "nanny", "receptionist", "dancer"),
    "he": ("mechanic", "carpenter", "plumber", "soldier", "farmer", "engineer"),
    "open": ("doctor", "teacher", "artist", "student", "writer", "lawyer"),
}
NAMES = {
    "she": ("Mary", "Susan", "Anna", "Emily"),
    "he": ("John", "Robert", "Peter", "Thomas"),
    "open": ("Alex", "Robin", "Taylor", "Sam"),
}
_GENDER = {
    "said": ("{Who} said that", " would be late."),
    "smiled": ("{Who} smiled when", " heard the news."),
    "because": ("{Who} went home early because", " was tired."),
    "met": ("Yesterday I talked to {who}, and", " told me a story."),
}


def sentiment() -> Iterator[PromptRow]:
    """Praise and blame: 84 pairs. Words, subjects and templates are balanced against each other."""
    for place, (template, (prompt, suffix)) in enumerate(_SENTIMENT.items()):
        for number, subject in enumerate(SUBJECTS):
            good, bad = WORDS[(number + place) % len(WORDS)]
            orders = {"praise first": (good, bad), "blame first": (bad, good)}
            for order, (first, second) in orders.items() if template == "choice" else [("not named", ("", ""))]:
                words = prompt.format(subject=subject, first=first, second=second)
                factors = {"template": template, "subject": subject, "words": f"{good}/{bad}", "order": order}
                yield PromptRow(words, f" {good}", f" {bad}", suffix, factors=factors)


def gender() -> Iterator[PromptRow]:
    """She and he after 18 occupations and 12 names, in four templates: 120 pairs."""
    for template, (prompt, suffix) in _GENDER.items():
        for kind, people in (("occupation", OCCUPATIONS), ("name", NAMES)):
            for stereotype, group in people.items():
                for person in group:
                    who = f"the {person}" if kind == "occupation" else person
                    words = prompt.format(who=who, Who=who[0].upper() + who[1:])
                    factors = {"template": template, "kind": kind, "stereotype": stereotype, "person": person}
                    yield PromptRow(words, " she", " he", suffix, factors=factors)
