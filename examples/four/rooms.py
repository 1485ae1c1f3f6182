"""Four in a row: two people have the seats, and others look on. A seat waits for its person for half a minute."""

from fairway.rooms import Room

COLUMNS, ROWS = 7, 6
PATIENCE = 30  # seconds for which a seat waits
WAYS = ((1, 0), (0, 1), (1, 1), (1, -1))


class Four(Room):
    step = 1
    linger = 60

    async def begin(self, saved):
        saved = saved or {"seats": [None, None], "moves": [], "first": 0, "again": []}
        self.seats, self.moves = saved["seats"], saved["moves"]
        self.first, self.again = saved["first"], saved["again"]
        self.silent = [0, 0]  # seconds, of each seat

    async def receive(self, message):
        who, does = message["who"], message["does"]
        if who not in self.seats and None in self.seats:
            self.seats[self.seats.index(None)] = who
            self.changed()
        if who in self.seats:
            seat = self.seats.index(who)
            self.silent[seat] = 0
            match does:
                case int():
                    self.drop(seat, column=does)
                case "again":
                    self.play_again(seat)
        if does == "enter":
            self.changed()

    def drop(self, seat, column):
        is_place = column in range(COLUMNS) and self.moves.count(column) < ROWS
        if is_place and None not in self.seats and seat == self.turn and not self.is_over:
            self.moves.append(column)
            self.changed()

    def play_again(self, seat):
        if self.is_over and seat not in self.again:
            self.again.append(seat)
            self.changed()
        if len(self.again) == len(self.seats):
            self.moves, self.again, self.first = [], [], 1 - self.first

    async def tick(self, seconds):
        for seat in (0, 1):
            self.silent[seat] += seconds
            if self.seats[seat] and self.silent[seat] > PATIENCE:
                self.seats[seat] = None
                self.again = []
                self.changed()

    async def publish(self):
        away = [seconds > 3 for seconds in self.silent]
        turn = None if self.is_over else self.turn
        await self.broadcast_json({**self.save(), "turn": turn, "line": self.line(), "away": away})

    def save(self):
        return {"seats": self.seats, "moves": self.moves, "first": self.first, "again": self.again}

    # The board: what lies where follows from the moves.

    @property
    def turn(self):
        return (self.first + len(self.moves)) % 2

    @property
    def is_over(self):
        return len(self.moves) == COLUMNS * ROWS or bool(self.line())

    def cells(self):
        cells = {}
        for number, column in enumerate(self.moves):
            cells[column, self.moves[:number].count(column)] = (self.first + number) % 2
        return cells

    def line(self):
        cells = self.cells()
        for x, y in cells:
            for right, up in WAYS:
                line = [(x + n * right, y + n * up) for n in range(4)]
                if {cells.get(cell) for cell in line} in ({0}, {1}):
                    return line
        return []
