"""A quiz: everybody sees the same question, and has ten seconds. Whoever is right and quick gets more."""

from fairway.rooms import Room

from .questions import QUESTIONS

ASKED, SHOWN = 10.0, 3.0  # seconds for an answer, and for looking at the right one


class Quiz(Room):
    step = 1 / 4
    linger = 60  # everybody may lose the network for a while, and the quiz goes on

    async def begin(self, saved):
        saved = saved or {"number": 0, "left": ASKED, "shows": False, "scores": {}, "answers": {}}
        self.number, self.left, self.shows = saved["number"], saved["left"], saved["shows"]
        self.scores, self.answers = saved["scores"], saved["answers"]

    async def receive(self, message):
        who, choice = message["who"], message["choice"]
        self.scores.setdefault(who, 0)
        # The first answer counts, while the question is open.
        if choice is not None and not self.shows and who not in self.answers:
            self.answers[who] = [choice, self.left]

    async def tick(self, seconds):
        self.left -= seconds
        if self.left > 0:
            return
        self.shows = not self.shows
        if self.shows:
            self.give_points()
            self.left = SHOWN
        else:
            self.number = (self.number + 1) % len(QUESTIONS)
            self.answers, self.left = {}, ASKED

    def give_points(self):
        _, _, right = QUESTIONS[self.number]
        for who, (choice, left) in self.answers.items():
            if choice == right:
                self.scores[who] += 10 + int(left)

    async def publish(self):
        question, choices, right = QUESTIONS[self.number]
        content = {"question": question, "choices": choices, "left": round(self.left, 1), "scores": self.scores}
        # The right answer leaves the server only when nobody can give it any more.
        content |= {"right": right} if self.shows else {"answered": sorted(self.answers)}
        await self.broadcast_json(content)

    def save(self):
        names = ("number", "left", "shows", "scores", "answers")
        return {name: getattr(self, name) for name in names}
