// Drawing the game: the water, the channel, buoys and boats, from the server's states. Knows no socket and no key.

const COLOURS = {
  light: { shallow: "#bfe0e2", deep: "#5fb0c2", edge: "#4a9db1", text: "#0d2a33", halo: "#ffffffcc" },
  dark: { shallow: "#12343d", deep: "#0b5468", edge: "#2a7d92", text: "#eaf6f8", halo: "#04141acc" },
};
const SAILS = ["#e05a43", "#f0b429", "#3fae78", "#8b6fd8", "#e27fb2", "#4f8fe0", "#c9702b", "#7d8f2b"];

const dark = matchMedia("(prefers-color-scheme: dark)");
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Water {
  constructor(canvas, world) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d");
    this.world = world;
    this.mine = world.boat;
    this.before = null;
    this.after = null;
    this.arrived = 0;
    this.gap = 50;
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.resize();
  }

  resize() {
    const width = Math.round(this.canvas.clientWidth * devicePixelRatio);
    this.canvas.width = width;
    this.canvas.height = Math.round((width * this.world.height) / this.world.width);
  }

  // A new state: boats glide from where the last one had them to where this one has them.
  update(state, now) {
    if (this.after) this.gap = Math.min(200, Math.max(20, now - this.arrived));
    this.before = this.after ?? state;
    this.after = state;
    this.arrived = now;
  }

  centre(x) {
    return this.world.height / 2 + this.world.amplitude * Math.sin((2 * Math.PI * x) / this.world.width);
  }

  isDeep({ x, y }) {
    return Math.abs(y - this.centre(x)) < this.world.halfWidth;
  }

  draw(now) {
    const scale = this.canvas.width / this.world.width;
    this.colours = dark.matches ? COLOURS.dark : COLOURS.light;
    this.pen.setTransform(scale, 0, 0, scale, 0, 0);
    // On a small canvas boats and names are drawn larger than the world's metres.
    this.zoom = Math.max(1, Math.min(1.8, 600 / this.canvas.clientWidth));
    this.drawWater(still.matches ? 0 : now / 1000);
    if (!this.after) return;
    const part = still.matches ? 1 : Math.min(1, (now - this.arrived) / this.gap);
    for (const buoy of this.after.buoys) this.drawBuoy(buoy, still.matches ? 0 : now / 1000);
    for (const boat of this.after.boats) this.drawBoat(this.between(boat, part));
  }

  between(boat, part) {
    const old = this.before.boats.find((each) => each.id === boat.id) ?? boat;
    const turn = Math.atan2(Math.sin(boat.heading - old.heading), Math.cos(boat.heading - old.heading));
    return {
      ...boat,
      x: old.x + (boat.x - old.x) * part,
      y: old.y + (boat.y - old.y) * part,
      heading: old.heading + turn * part,
    };
  }

  drawWater(seconds) {
    const { pen, world, colours } = this;
    pen.fillStyle = colours.shallow;
    pen.fillRect(0, 0, world.width, world.height);
    pen.beginPath();
    for (let x = 0; x <= world.width; x += 20) pen.lineTo(x, this.centre(x) - world.halfWidth);
    for (let x = world.width; x >= 0; x -= 20) pen.lineTo(x, this.centre(x) + world.halfWidth);
    pen.fillStyle = colours.deep;
    pen.fill();
    pen.strokeStyle = colours.edge;
    pen.lineWidth = 2;
    for (const lane of [-0.55, 0, 0.55]) {
      pen.setLineDash([26, 60]);
      pen.lineDashOffset = -seconds * 26 + lane * 90;
      pen.beginPath();
      for (let x = 0; x <= world.width; x += 20) pen.lineTo(x, this.centre(x) + lane * world.halfWidth);
      pen.stroke();
    }
    pen.setLineDash([]);
    // Lateral marks, as on real charts: red cans on one side, green cones on the other.
    for (let x = 90; x < world.width; x += 205) {
      this.drawMark(x, this.centre(x) - world.halfWidth, "#d8513b", false);
      this.drawMark(x + 100, this.centre(x + 100) + world.halfWidth, "#2f9c69", true);
    }
  }

  drawMark(x, y, colour, cone) {
    const { pen } = this;
    pen.fillStyle = colour;
    pen.beginPath();
    if (cone) {
      pen.moveTo(x - 8, y + 7);
      pen.lineTo(x, y - 10);
      pen.lineTo(x + 8, y + 7);
    } else pen.rect(x - 6, y - 9, 12, 16);
    pen.fill();
  }

  drawBuoy({ id, x, y }, seconds) {
    const { pen, zoom } = this;
    const radius = 13 * zoom;
    pen.save();
    pen.translate(x, y + Math.sin(seconds * 2 + id) * 2);
    pen.beginPath();
    pen.arc(0, 0, radius + 4, 0, 7);
    pen.fillStyle = this.colours.halo;
    pen.fill();
    pen.lineWidth = radius * 0.62;
    for (let quarter = 0; quarter < 4; quarter += 1) {
      pen.beginPath();
      pen.arc(0, 0, radius * 0.72, (quarter * Math.PI) / 2, ((quarter + 1) * Math.PI) / 2);
      pen.strokeStyle = quarter % 2 ? "#ffffff" : "#e8542f";
      pen.stroke();
    }
    pen.restore();
  }

  drawBoat({ id, name, x, y, heading, speed }) {
    const { pen, zoom, colours } = this;
    const mine = id === this.mine;
    pen.save();
    pen.translate(x, y);
    pen.save();
    pen.rotate(heading);
    pen.scale(zoom, zoom);
    if (speed > 20) this.drawWake(speed);
    if (mine) {
      pen.beginPath();
      pen.arc(0, 0, 33, 0, 7);
      pen.strokeStyle = colours.text;
      pen.lineWidth = 2;
      pen.setLineDash([4, 7]);
      pen.stroke();
      pen.setLineDash([]);
    }
    pen.beginPath();
    pen.moveTo(25, 0);
    pen.bezierCurveTo(14, -13, -6, -13, -20, -9);
    pen.lineTo(-20, 9);
    pen.bezierCurveTo(-6, 13, 14, 13, 25, 0);
    pen.fillStyle = "#fbfdfd";
    pen.strokeStyle = "#17323a";
    pen.lineWidth = 2;
    pen.fill();
    pen.stroke();
    pen.beginPath();
    pen.moveTo(9, 0);
    pen.quadraticCurveTo(-4, -16, -17, -3);
    pen.closePath();
    pen.fillStyle = SAILS[id % SAILS.length];
    pen.fill();
    pen.stroke();
    pen.restore();
    pen.font = `${mine ? 700 : 500} ${15 * zoom}px system-ui, sans-serif`;
    pen.textAlign = "center";
    pen.lineWidth = 4 * zoom;
    pen.lineJoin = "round";
    pen.strokeStyle = colours.halo;
    pen.fillStyle = colours.text;
    const below = y > this.world.height - 60 * zoom ? -40 * zoom : 50 * zoom;
    pen.strokeText(name, 0, below);
    pen.fillText(name, 0, below);
    pen.restore();
  }

  drawWake(speed) {
    const { pen } = this;
    const length = Math.min(46, speed / 4);
    pen.strokeStyle = "#ffffffaa";
    pen.lineWidth = 2.5;
    for (const side of [-1, 1]) {
      pen.beginPath();
      pen.moveTo(-20, side * 6);
      pen.lineTo(-20 - length, side * (6 + length / 3));
      pen.stroke();
    }
  }
}
