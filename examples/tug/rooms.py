from fairway.rooms import Room

GOAL = 20
MOST_PULLS = 2  # of one player in one tick


class Tug(Room):
    step = 1 / 10
    linger = 30

    async def begin(self, saved):
        saved = saved or {"teams": {}, "rope": 0, "wins": {"left": 0, "right": 0}}
        self.teams, self.rope, self.wins = saved["teams"], saved["rope"], saved["wins"]
        self.pulls = {}

    async def receive(self, message):
        who = message["who"]
        if who not in self.teams:
            teams = list(self.teams.values())
            self.teams[who] = min(("left", "right"), key=teams.count)
        if message["pull"]:
            self.pulls[who] = min(self.pulls.get(who, 0) + 1, MOST_PULLS)

    async def tick(self, seconds):
        for who, pulls in self.pulls.items():
            self.rope += pulls if self.teams[who] == "right" else -pulls
        self.pulls = {}
        if abs(self.rope) >= GOAL:
            self.wins["right" if self.rope > 0 else "left"] += 1
            self.rope = 0

    async def publish(self):
        await self.broadcast_json({"rope": self.rope, "teams": self.teams, "wins": self.wins})

    def save(self):
        return {"teams": self.teams, "rope": self.rope, "wins": self.wins}
