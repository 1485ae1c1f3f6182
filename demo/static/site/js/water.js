// Drawing the game: the water, the channel, buoys and boats. Knows no socket, no key and no server: it draws what it is given.

import { centre } from "./helm.js";

const COLOURS = {
  light: { shallow: "#bfe0e2", deep: "#5fb0c2", edge: "#4a9db1", text: "#0d2a33", halo: "#ffffffd9" },
  dark: { shallow: "#12343d", deep: "#0b5468", edge: "#2a7d92", text: "#eaf6f8", halo: "#04141ad9" },
};
const SAILS = ["#e05a43", "#f0b429", "#3fae78", "#8b6fd8", "#e27fb2", "#4f8fe0", "#c9702b", "#7d8f2b"];
const BOT_SAIL = "#8d9aa0";

const dark = matchMedia("(prefers-color-scheme: dark)");
const still = matchMedia("(prefers-reduced-motion: reduce)");

function layer(width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.ceil(width));
  canvas.height = Math.max(1, Math.ceil(height));
  return [canvas, canvas.getContext("2d")];
}

export class Water {
  constructor(canvas, world) {
    this.canvas = canvas;
    this.pen = canvas.getContext("2d", { alpha: false });
    this.world = world;
    this.labels = new Map();
    new ResizeObserver(() => this.resize()).observe(canvas);
    dark.addEventListener("change", () => this.resize());
    this.resize();
  }

  // What does not move is painted once.
  resize() {
    const width = Math.round(this.canvas.clientWidth * Math.min(2, devicePixelRatio));
    if (!width) return;
    this.canvas.width = width;
    this.canvas.height = Math.round((width * this.world.height) / this.world.width);
    this.scale = width / this.world.width;
    this.colours = dark.matches ? COLOURS.dark : COLOURS.light;
    // On a small canvas boats and names are drawn larger than the world's metres.
    this.zoom = Math.max(1, Math.min(1.8, 600 / this.canvas.clientWidth));
    this.labels.clear();
    const [ground, pen] = layer(this.canvas.width, this.canvas.height);
    pen.scale(this.scale, this.scale);
    this.paintGround(pen);
    this.ground = ground;
    this.buoy = this.paintBuoy();
  }

  // `boats` are to be drawn in this order; each has id, name, x, y, heading, speed, and mine, away or bot.
  draw(now, boats, buoys) {
    const { pen } = this;
    const seconds = still.matches ? 0 : now / 1000;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.drawImage(this.ground, 0, 0);
    pen.scale(this.scale, this.scale);
    this.drawCurrents(seconds);
    for (const [id, x, y] of buoys) this.stamp(this.buoy, x, y + Math.sin(seconds * 2 + id) * 2);
    for (const boat of boats) this.drawBoat(boat);
    for (const boat of boats) this.drawName(boat);
  }

  stamp({ image, width, height }, x, y) {
    this.pen.drawImage(image, x - width / 2, y - height / 2, width, height);
  }

  paintGround(pen) {
    const { world, colours } = this;
    pen.fillStyle = colours.shallow;
    pen.fillRect(0, 0, world.width, world.height);
    pen.beginPath();
    for (let x = 0; x <= world.width; x += 10) pen.lineTo(x, centre(x, world) - world.halfWidth);
    for (let x = world.width; x >= 0; x -= 10) pen.lineTo(x, centre(x, world) + world.halfWidth);
    pen.fillStyle = colours.deep;
    pen.fill();
    // Lateral marks, as on real charts: red cans on one side, green cones on the other.
    for (let x = 90; x < world.width; x += 205) {
      this.paintMark(pen, x, centre(x, world) - world.halfWidth, "#d8513b", false);
      this.paintMark(pen, x + 100, centre(x + 100, world) + world.halfWidth, "#2f9c69", true);
    }
  }

  paintMark(pen, x, y, colour, cone) {
    pen.fillStyle = colour;
    pen.beginPath();
    if (cone) {
      pen.moveTo(x - 8, y + 7);
      pen.lineTo(x, y - 10);
      pen.lineTo(x + 8, y + 7);
    } else pen.rect(x - 6, y - 9, 12, 16);
    pen.fill();
  }

  paintBuoy() {
    const radius = 13 * this.zoom;
    const size = 2 * (radius + 5);
    const [image, pen] = layer(size * this.scale, size * this.scale);
    pen.scale(this.scale, this.scale);
    pen.translate(size / 2, size / 2);
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
    return { image, width: size, height: size };
  }

  drawCurrents(seconds) {
    const { pen, world } = this;
    pen.strokeStyle = this.colours.edge;
    pen.lineWidth = 2;
    pen.setLineDash([26, 60]);
    for (const lane of [-0.55, 0, 0.55]) {
      pen.lineDashOffset = -seconds * 26 + lane * 90;
      pen.beginPath();
      for (let x = 0; x <= world.width; x += 25) pen.lineTo(x, centre(x, world) + lane * world.halfWidth);
      pen.stroke();
    }
    pen.setLineDash([]);
  }

  drawBoat({ id, x, y, heading, speed, mine, away, bot }) {
    const { pen, zoom } = this;
    pen.save();
    pen.globalAlpha = away ? 0.45 : 1;
    pen.translate(x, y);
    pen.rotate(heading);
    pen.scale(zoom, zoom);
    if (speed > 20) this.drawWake(speed);
    if (mine) {
      pen.beginPath();
      pen.arc(0, 0, 33, 0, 7);
      pen.strokeStyle = this.colours.text;
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
    pen.fillStyle = bot ? BOT_SAIL : SAILS[Number(id) % SAILS.length];
    pen.fill();
    pen.stroke();
    pen.restore();
  }

  // Names stay inside the picture: above the boat at its lower edge, and never beyond a side.
  drawName({ name, x, y, mine, away }) {
    const { world, zoom } = this;
    const label = this.label(name, mine);
    const half = label.width / 2;
    const beside = Math.max(half + 4, Math.min(world.width - half - 4, x));
    this.pen.globalAlpha = away ? 0.6 : 1;
    this.stamp(label, beside, y + (y > world.height - 64 * zoom ? -44 : 46) * zoom);
    this.pen.globalAlpha = 1;
  }

  // A name's picture. Text with a halo takes longer to paint than a boat.
  label(name, mine) {
    const key = `${mine ? 1 : 0}${name}`;
    const known = this.labels.get(key);
    if (known) return known;
    if (this.labels.size > 200) this.labels.clear();
    const size = 15 * this.zoom;
    const font = `${mine ? 700 : 500} ${size}px system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", sans-serif`;
    this.pen.font = font;
    const width = this.pen.measureText(name).width + size;
    const height = size * 1.8;
    const [image, pen] = layer(width * this.scale, height * this.scale);
    pen.scale(this.scale, this.scale);
    pen.font = font;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    pen.lineWidth = 4 * this.zoom;
    pen.strokeStyle = this.colours.halo;
    pen.fillStyle = this.colours.text;
    pen.strokeText(name, width / 2, height / 2);
    pen.fillText(name, width / 2, height / 2);
    const label = { image, width, height };
    this.labels.set(key, label);
    return label;
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
