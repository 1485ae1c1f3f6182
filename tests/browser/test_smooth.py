"""The game's movement over a bad line, in virtual time: its modules get the states as such a line brings them."""

from __future__ import annotations

from playwright.sync_api import expect
from tests.browser.conftest import Open
from tests.browser.driving import DemoServer

# A boat sails in circles. Its states are sent every 50 ms, come 150 ms ± 50 ms later in their order, and not at all for
# 1.5 s in every 20 s. There are sixty pictures a second. The answer: the farthest that the boat was moved in one, in
# steps of a boat at that speed; the part of the time for which it stood still; how late it was between the losses.
PLAY = """
async () => {
  const { Snapshots } = await import("/static/site/js/snapshots.js");
  let seed = 7;
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  const place = (at) => [500 + 300 * Math.cos(at / 1500), 400 + 300 * Math.sin(at / 1500)];
  const speed = 300 / 1.5; // metres a second
  const arrivals = [];
  let last = 0;
  for (let at = 0; at < 61000; at += 50) {
    last = Math.max(last, at + 100 + 100 * random());
    if (at % 20000 < 18500) arrivals.push({ at, due: last });
  }
  const snapshots = new Snapshots();
  let before = null, farthest = 0, still = 0, frames = 0, late = 0;
  for (let now = 0; now < 60000; now += 1000 / 60) {
    while (arrivals.length && arrivals[0].due <= now) {
      const { at } = arrivals.shift();
      const [x, y] = place(at);
      snapshots.add({ at, buoys: [], boats: [["7", x, y, at / 1500 + Math.PI / 2, speed, 0]] }, now);
    }
    const boat = snapshots.frame(now)?.boats.get("7");
    if (!boat || now < 3000) continue;
    if (before) {
      const moved = Math.hypot(boat.x - before.x, boat.y - before.y);
      farthest = Math.max(farthest, moved);
      still += moved < 0.2 * speed / 60;
      frames += 1;
    }
    const [x, y] = place(now);
    if (now % 20000 < 18000 && now % 20000 > 3000) late = Math.max(late, Math.hypot(x - boat.x, y - boat.y) / speed);
    before = boat;
  }
  return { farthest: farthest / (speed / 60), still: still / frames, late };
}
"""

# One's own boat: what is steered is seen at once, though the server hears of it 150 ms later, and says so after another
# 150 ms. The server is this loop: it moves the boat by the same rules.
STEER = """
async () => {
  const { Helm } = await import("/static/site/js/helm.js");
  const world = { width: 1000, height: 800, amplitude: 170, halfWidth: 120, margin: 46,
                  speedDeep: 210, speedShallow: 110, acceleration: 260, turnRate: 2.6 };
  let seed = 11;
  const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
  const sent = [], states = [];
  let now = 0, heardAt = 0, saidAt = 0;
  const helm = new Helm((content) => {
    heardAt = Math.max(heardAt, now + 100 + 100 * random());
    sent.push({ ...content, due: heardAt });
    return true;
  }, world);
  const boat = { x: 500, y: 400, heading: 0, speed: 0, turn: 0, throttle: 0, seq: 0 };
  const limit = (value, low, high) => Math.max(low, Math.min(high, value));
  const deep = () => Math.abs(boat.y - 400 - 170 * Math.sin((2 * Math.PI * boat.x) / 1000)) < 120;
  let ticked = 0, before = null, farthest = 0, answered = null, apart = 0;
  for (; now < 20000; now += 1000 / 60) {
    for (; ticked + 50 <= now; ticked += 50) {
      while (sent.length && sent[0].due <= ticked) {
        const { type, ...content } = sent.shift();
        if (type === "steer") Object.assign(boat, content);
      }
      boat.speed += limit(boat.throttle * (deep() ? 210 : 110) - boat.speed, -13, 13);
      boat.heading += boat.turn * 2.6 * 0.05;
      boat.x = limit(boat.x + Math.cos(boat.heading) * boat.speed * 0.05, 46, 954);
      boat.y = limit(boat.y + Math.sin(boat.heading) * boat.speed * 0.05, 46, 754);
      saidAt = Math.max(saidAt, ticked + 100 + 100 * random());
      states.push({ at: ticked, due: saidAt, state: ["7", boat.x, boat.y, boat.heading, boat.speed, boat.seq] });
    }
    while (states.length && states[0].due <= now) {
      const { at, state } = states.shift();
      helm.hear(state, at + 100, now); // 100: of the quickest states
    }
    if (now > 1000) {
      const phase = Math.floor(now / 700) % 3;
      helm.steer(phase - 1, 1, now);
    }
    helm.tell(now);
    const shown = helm.frame(now);
    if (!shown) continue;
    if (before) {
      const moved = Math.hypot(shown.x - before.x, shown.y - before.y);
      farthest = Math.max(farthest, moved);
      if (answered === null && now > 1000 && moved > 0.01) answered = now - 1000;
    }
    before = shown;
  }
  return { farthest: farthest / (210 / 60), answered };
}
"""


def test_a_boat_glides_over_a_bad_line_and_ones_own_answers_at_once(server: DemoServer, people: Open) -> None:
    page = people(server, "Smooth")
    page.goto("/")
    expect(page.locator("main")).to_be_visible()

    others, own = page.evaluate(PLAY), page.evaluate(STEER)

    assert others["farthest"] < 3
    assert others["still"] < 0.08
    assert others["late"] < 0.3
    assert own["farthest"] < 3
    assert own["answered"] <= 51
