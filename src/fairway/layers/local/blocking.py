"""The local broker over a blocking socket, for `fairway.layers.blocking`."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence

from fairway.layers.backplane import Keep, Page, Present, QueueFull, Refused, Unavailable
from fairway.layers.blocking import Pool, remaining, send_all
from fairway.layers.interests import subject_of
from fairway.layers.local import history_frames, presence_frames, protocol
from fairway.layers.local.connecting import NO_BROKER
from fairway.layers.local.fields import ProtocolError
from fairway.layers.local.place import Misplaced, Place
from fairway.layers.local.protocol import Answer, Ask, Decoder
from fairway.layers.tracks import Since

# The answers that arrive in the order of the questions.
_ANSWERS = frozenset(
    {
        Answer.DONE,
        Answer.FULL,
        Answer.FOLLOWERS,
        Answer.LISTED,
        Answer.POSITION,
        Answer.REPEATED,
        Answer.PAGE,
        Answer.REFUSED,
        Answer.WELCOME,
    }
)

Frame = tuple[Answer, str, bytes]


class _Link:
    """A connection to the broker, from its greeting on."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._decoder = Decoder(Answer)
        self._frames: list[Frame] = []

    def ask(self, questions: bytes, count: int, deadline: float) -> list[Frame]:
        """Send questions together, with a message last, and return their answers."""
        self.socket.settimeout(remaining(deadline))
        send_all(self.socket, questions)
        return [self._answer(deadline) for _ in range(count)]

    def _answer(self, deadline: float) -> Frame:
        while True:
            while self._frames:
                frame = self._frames.pop(0)
                if frame[0] is Answer.REFUSED:
                    raise Refused(protocol.read_refused(frame[2]))
                if frame[0] in _ANSWERS:
                    return frame
            self.socket.settimeout(remaining(deadline))
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("the broker has closed the connection")
            self._frames += self._decoder.feed(data)


class BlockingLocal:
    """The sending side of `LocalBackplane`. It starts no broker: without one, there is nobody to receive."""

    def __init__(self, place: Place, prefix: str) -> None:
        self._place = place
        self._prefix = prefix
        self._pool = Pool(self._dial)

    def publish(self, subject: str, data: bytes, deadline: float) -> None:
        self._ask(protocol.publish(subject, data), 1, deadline)

    def publish_to_group(self, group: str, data: bytes, deadline: float) -> Sequence[str]:
        questions = protocol.frame(Ask.FOLLOWING, group) + protocol.publish(subject_of(group), data)
        (_, _, rows), _ = self._ask(questions, 2, deadline)
        return [queue for following, queue, _ in protocol.read_followers(rows) if following == group]

    def append_to_group(self, group: str, data: bytes, keep: Keep, key: str, deadline: float) -> Sequence[str]:
        questions = protocol.frame(Ask.FOLLOWING, group) + history_frames.append(subject_of(group), data, keep, key)
        (_, _, rows), (answer, _, _) = self._ask(questions, 2, deadline)
        if answer is Answer.REPEATED:
            return []
        return [queue for following, queue, _ in protocol.read_followers(rows) if following == group]

    def read(self, subject: str, after: Since, limit: int, deadline: float) -> Page[bytes]:
        ((_, _, body),) = self._ask(history_frames.read(subject, after, limit), 1, deadline)
        return history_frames.read_page(body)

    def push(self, queue: str, data: bytes, capacity: int, expiry: float, deadline: float) -> None:
        ((answer, _, _),) = self._ask(protocol.push(queue, data, capacity, expiry), 1, deadline)
        if answer is Answer.FULL:
            raise QueueFull(f"the queue {queue} holds {capacity} messages")

    def present(self, subject: str, deadline: float) -> Sequence[Present]:
        ((_, _, body),) = self._ask(protocol.frame(Ask.PRESENT, subject), 1, deadline)
        return presence_frames.read_listed(body)

    def count(self, subject: str, deadline: float) -> int:
        ((_, _, body),) = self._ask(protocol.frame(Ask.COUNT, subject), 1, deadline)
        return protocol.number(body)

    def close(self) -> None:
        self._pool.close()

    def _ask(self, questions: bytes, count: int, deadline: float) -> list[Frame]:
        return self._safely(lambda: self._pool.use(lambda link: link.ask(questions, count, deadline), deadline))

    def _safely(self, function: Callable[[], list[Frame]]) -> list[Frame]:
        try:
            return function()
        except TimeoutError:
            raise TimeoutError(f"the broker at {self._place.path} has not answered in time") from None
        except (Unavailable, Refused):
            raise
        except Misplaced as error:
            raise Refused(str(error)) from None
        except (FileNotFoundError, ConnectionRefusedError):
            raise Unavailable(NO_BROKER.format(self._place.path)) from None
        except PermissionError:
            raise Refused(f"{self._place.path} is not for this user") from None
        except (OSError, ProtocolError) as error:
            raise Unavailable(f"the broker at {self._place.path} is away: {error or type(error).__name__}") from None

    def _dial(self, deadline: float) -> _Link:
        self._place.check()
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connected.settimeout(remaining(deadline))
            connected.connect(self._place.path)
            self._place.check_peer(connected)
            link = _Link(connected)
            link.ask(protocol.hello(self._prefix), 1, deadline)
        except BaseException:
            connected.close()
            raise
        return link
