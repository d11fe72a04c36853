// The canvases. Each function draws one from scratch.

import { colourOf } from "./colours.js";
import { clock, dayClock, percent, shortClock } from "./text.js";

const FONT = "12px system-ui, sans-serif";

export function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function prepared(canvas, height) {
  const ratio = window.devicePixelRatio || 1;
  if (height) canvas.style.height = `${height}px`;
  const width = canvas.clientWidth, tall = canvas.clientHeight;
  const wanted = [Math.round(width * ratio), Math.round(tall * ratio)];
  if (canvas.width !== wanted[0] || canvas.height !== wanted[1]) [canvas.width, canvas.height] = wanted;
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0);
  pen.clearRect(0, 0, width, tall);
  pen.font = FONT;
  return [pen, width, tall];
}

const STEPS = [10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600];

// Wall-clock times below a plot, at round local times.
function timeAxis(pen, left, right, top, bottom, from, until) {
  const length = until - from;
  const most = Math.max(2, Math.floor((right - left) / (length > 43200 ? 84 : 64)));
  const step = STEPS.find((each) => length / each <= most) ?? STEPS.at(-1);
  const zone = -60 * new Date(1000 * until).getTimezoneOffset();
  const format = length > 43200 ? dayClock : step < 60 ? clock : shortClock;
  pen.textBaseline = "top";
  pen.textAlign = "center";
  for (let t = Math.ceil((from + zone) / step) * step - zone; t <= until; t += step) {
    const x = left + (right - left) * (t - from) / length;
    pen.fillStyle = ink("--grid");
    pen.fillRect(Math.round(x), top, 1, bottom - top);
    const text = format(t), half = pen.measureText(text).width / 2;
    if (x - half < left - 4 || x + half > right + 8) continue;
    pen.fillStyle = ink("--faint");
    pen.fillText(text, x, bottom + 6);
  }
}

function hatched(pen, x, y, width, height) {
  pen.save();
  pen.beginPath();
  pen.rect(x, y, width, height);
  pen.clip();
  pen.strokeStyle = ink("--faint");
  pen.globalAlpha = 0.55;
  pen.lineWidth = 1;
  pen.beginPath();
  for (let at = Math.floor((x - height) / 6) * 6; at < x + width; at += 6) {
    pen.moveTo(at, y + height);
    pen.lineTo(at + height, y);
  }
  pen.stroke();
  pen.restore();
}

function nothing(pen, width, height, text) {
  pen.fillStyle = ink("--faint");
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.fillText(text, width / 2, height / 2);
}

const LOWEST_DB = -60;

export function drawLevel(canvas, level) {
  const [pen, width, height] = prepared(canvas);
  const x = (db) => width * Math.min(1, Math.max(0, 1 - db / LOWEST_DB));
  pen.fillStyle = ink("--empty");
  pen.beginPath();
  pen.roundRect(0, 0, width, height, 4);
  pen.fill();
  if (!level) return;
  pen.save();
  pen.clip();
  pen.fillStyle = level.peak_db > -1 ? ink("--bad") : ink("--accent");
  pen.fillRect(0, 0, x(level.rms_db), height);
  pen.globalAlpha = 0.4;
  pen.fillRect(x(level.rms_db), 0, Math.max(0, x(level.peak_db) - x(level.rms_db)), height);
  pen.restore();
  pen.fillStyle = ink("--line");
  for (let db = LOWEST_DB + 10; db < 0; db += 10) pen.fillRect(Math.round(x(db)), 0, 1, height);
}

const SPECTRUM_S = 60;

export function drawSpectrum(canvas, spectra, until) {
  const [pen, width, height] = prepared(canvas);
  if (!spectra.length) return nothing(pen, width, height, "nothing heard yet");
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const scale = width / SPECTRUM_S;
  spectra.forEach((row, i) => {
    const start = width - (until - row[0]) * scale;
    const next = spectra[i + 1] ? spectra[i + 1][0] : row[0] + 0.2;
    const wide = Math.min(next - row[0], 0.5) * scale + 0.5;
    const bands = row.length - 1;
    for (let band = 0; band < bands; band += 1) {
      const loud = Math.min(1, Math.max(0, (row[band + 1] + 85) / 65));
      if (!loud) continue;
      pen.fillStyle = `oklch(${dark ? 0.25 + 0.65 * loud : 0.94 - 0.62 * loud} ${0.02 + 0.12 * loud} ${280 - 60 * loud})`;
      pen.fillRect(start, height * (1 - (band + 1) / bands), wide, height / bands + 0.5);
    }
  });
}

// Stacked, as probabilities are shares of one.
export function drawTrend(canvas, history, from, until) {
  const [pen, width, height] = prepared(canvas);
  const left = 46, right = width - 8, top = 6, bottom = height - 24;
  const x = (time) => left + (right - left) * (time - from) / (until - from);
  const y = (share) => bottom - (bottom - top) * share;
  pen.fillStyle = ink("--empty");
  pen.fillRect(left, top, right - left, bottom - top);
  const first = Math.max(0, history.points.findIndex((point) => point[0] >= from) - 1);
  const points = history.points.slice(first);
  if (!points.length || points.at(-1)[0] < from) nothing(pen, width, bottom, "nothing in this time");
  pen.save();
  pen.beginPath();
  pen.rect(left, top, right - left, bottom - top);
  pen.clip();
  for (const run of runs(points)) {
    let below = run.map(() => 0);
    history.labels.forEach((label, i) => {
      const above = below.map((share, at) => share + run[at][i + 1] / 1000);
      pen.fillStyle = colourOf(label);
      pen.beginPath();
      run.forEach((point, at) => pen.lineTo(x(point[0]), y(above[at])));
      for (let at = run.length - 1; at >= 0; at -= 1) pen.lineTo(x(run[at][0]), y(below[at]));
      pen.fill();
      below = above;
    });
  }
  pen.restore();
  pen.textAlign = "right";
  pen.textBaseline = "middle";
  for (const share of [0, 0.5, 1]) {
    pen.fillStyle = ink("--faint");
    pen.fillText(percent(share), left - 6, y(share) + (share === 1 ? 3 : 0));
  }
  timeAxis(pen, left, right, bottom, bottom + 3, from, until);
}

// Stretches without a hole, one after the other.
function runs(points) {
  const found = [];
  points.forEach((point, i) => {
    if (!i || point[0] - points[i - 1][0] > 5) found.push([]);
    found.at(-1).push(point);
  });
  return found;
}

const LANE = 26;

// A lane a language; what was lost is hatched across all.
export function drawTimeline(canvas, lanes, spans, history, from, until) {
  const height = Math.max(1, lanes.length) * LANE + 30;
  const [pen, width] = prepared(canvas, height);
  const narrow = width < 500;
  const left = narrow ? 84 : 110, right = width - 8, top = 2, bottom = height - 24;
  const x = (time) => left + (right - left) * (Math.min(until, Math.max(from, time)) - from) / (until - from);
  timeAxis(pen, left, right, top, bottom, from, until);
  lanes.forEach((label, lane) => {
    const y = top + lane * LANE;
    pen.fillStyle = ink("--grid");
    pen.fillRect(left, y + LANE - 1, right - left, 1);
    pen.fillStyle = ink("--ink");
    pen.textAlign = "left";
    pen.textBaseline = "middle";
    pen.fillText(history.name(label), 0, y + LANE / 2, left - 8);
  });
  if (!lanes.length) nothing(pen, width, bottom, "nothing in this time");
  for (const span of spans) {
    const start = x(span.start), wide = Math.max(1.5, x(span.end) - start);
    if (span.type === "gap") {
      hatched(pen, start, top, wide, bottom - top);
      continue;
    }
    pen.fillStyle = colourOf(span.name);
    pen.fillRect(start, top + lanes.indexOf(span.name) * LANE + 4, wide, LANE - 9);
  }
}
