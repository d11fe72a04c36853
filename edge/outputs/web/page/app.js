// Connects, keeps what comes, and shows it.

import { colourOf } from "./colours.js";
import { History, Locked } from "./history.js";
import { drawLevel, drawSpectrum, drawTimeline, drawTrend } from "./plots.js";
import { clock, decibels, duration, percent, spoken } from "./text.js";

const $ = (id) => document.getElementById(id);
const history = new History();
const still = matchMedia("(prefers-reduced-motion: reduce)");
const SILENT_MS = 5000; // without a state: the connection is dead, whatever the browser thinks
const AGAIN_MS = 2000;

let state = null;
let offset = 0; // of the device's clock to this one, in seconds
let heardAt = 0;
let source = null;
let trendLength = 120, timelineLength = 600; // until there is more to show

const deviceTime = () => Date.now() / 1000 + offset;

// --- the connection ---------------------------------------------------------------------------

function connect() {
  source?.close();
  source = new EventSource("api/v1/events");
  heardAt = Date.now();
  source.addEventListener("open", () => fill());
  source.addEventListener("state", (event) => { heardAt = Date.now(); take(JSON.parse(event.data)); });
  source.addEventListener("change", (event) => {
    const change = JSON.parse(event.data);
    history.names[change.language] = change.name;
    if (!state) return;
    showLanguage(change.language, change.name);
    state = { ...state, language: change.language, name: change.name, confidence: change.confidence, since: deviceTime() - change.decided_s + change.start_s };
    showDetail();
  });
  for (const kind of ["segment", "gap"]) {
    source.addEventListener(kind, (event) => { history.addSpan(JSON.parse(event.data)); drawSlow(); });
  }
  source.addEventListener("error", () => {
    gone();
    if (source.readyState === EventSource.CLOSED) later();
  });
}

let again = 0;
function later() {
  clearTimeout(again);
  again = setTimeout(async () => {
    try {
      await history.fill();
      connect();
    } catch (error) {
      if (error instanceof Locked) lock();
      else later();
    }
  }, AGAIN_MS);
}

async function fill() {
  try {
    await history.fill();
    drawSlow();
  } catch (error) {
    if (error instanceof Locked) lock();
  }
}

function gone() {
  link("gone", heardAt && state ? `not connected since ${clock(heardAt / 1000)}; trying again` : "not connected; trying again");
  $("main").classList.add("stale");
}

function link(kind, text) {
  const element = $("link");
  if (element.textContent !== text) element.textContent = text;
  element.dataset.state = kind;
}

function lock() {
  source?.close();
  $("locked").hidden = false;
  $("main").hidden = true;
  link("gone", "locked");
}

function unlock(event) {
  event.preventDefault();
  location.assign(`?token=${encodeURIComponent($("token").value.trim())}`);
}

// --- now --------------------------------------------------------------------------------------

function take(newest) {
  state = newest;
  offset = newest.time - Date.now() / 1000;
  history.names[newest.language] = newest.name;
  history.addState(newest);
  link("live", "live");
  $("main").classList.remove("stale");
  if (newest.lost) showLanguage(null, "Nothing is heard");
  else showLanguage(newest.language, newest.name);
  const warning = newest.lost
    ? "No audio arrives. It is waited for."
    : newest.level.hint ? `Level: ${newest.level.hint}.` : "";
  $("warning").hidden = !warning;
  if ($("warning").textContent !== warning) $("warning").textContent = warning;
  const silent = newest.level.rms_db <= -99;
  $("level-value").textContent = newest.lost ? "–" : silent ? "silence" : `${decibels(newest.level.rms_db)}, peak ${decibels(newest.level.peak_db)}${newest.level.gain_db ? `, amplified by ${decibels(newest.level.gain_db)}` : ""}`;
  drawLevel($("level"), newest.lost ? null : newest.level);
  if (!still.matches) drawSpectrum($("spectrum"), history.spectra, deviceTime());
  showDetail();
  showBars();
}

function showLanguage(language, name) {
  const text = name.charAt(0).toUpperCase() + name.slice(1);
  if ($("language").textContent !== text) {
    $("language").textContent = text;
    document.title = `${text} – edgelid`;
  }
  $("swatch").style.background = language ? colourOf(language) : "";
}

function showDetail() {
  if (state && !state.lost) {
    const lasted = Math.max(0, state.time - state.since);
    const likeliest = Object.entries(state.probabilities).reduce((a, b) => (b[1] > a[1] ? b : a), ["", 0]);
    const sure = state.language !== "unknown" ? `${percent(state.confidence)} sure, `
      : likeliest[1] ? `perhaps ${history.name(likeliest[0])}, ` : "";
    const opinion = state.second_opinion;
    const second = opinion ? `; second opinion: ${history.name(opinion.language)}, ${percent(opinion.confidence)} sure` : "";
    $("detail").textContent = `${sure}for ${duration(lasted)}, since ${clock(state.since)}${second}`;
  } else $("detail").textContent = "";
}

const rows = new Map();

function showBars() {
  const body = $("bars-body"), values = state.probabilities;
  const labels = Object.keys(values);
  if ([...rows.keys()].join() !== labels.join()) {
    rows.clear();
    body.replaceChildren(...labels.map((label) => {
      const row = document.createElement("tr");
      const head = Object.assign(document.createElement("th"), { scope: "row", textContent: history.name(label) });
      const bar = document.createElement("td"), number = document.createElement("td");
      bar.setAttribute("aria-hidden", "true");
      const track = Object.assign(document.createElement("div"), { className: "track" });
      const fillBar = Object.assign(document.createElement("div"), { className: "fill" });
      track.append(fillBar);
      bar.append(track);
      row.append(head, bar, number);
      rows.set(label, { row, head, fillBar, number });
      return row;
    }));
  }
  const best = labels.reduce((a, b) => (values[b] > values[a] ? b : a), labels[0]);
  for (const [label, { row, head, fillBar, number }] of rows) {
    head.textContent = history.name(label);
    row.classList.toggle("best", label === best);
    fillBar.style.width = `${100 * values[label]}%`;
    fillBar.style.background = colourOf(label);
    number.textContent = percent(values[label]);
  }
  $("window").textContent = labels.length ? `of the last ${state.window_s} s` : "";
}

// --- what changes slowly ----------------------------------------------------------------------

const shown = new Map();

// Replaced only where it says something else: a screen reader or a selection would lose its place.
function replace(id, parts, made) {
  const said = JSON.stringify(parts);
  if (shown.get(id) === said) return;
  shown.set(id, said);
  $(id).replaceChildren(...parts.map(made));
}

let lastSpoken = null; // stretch of a language: while what follows is unknown, it is not told yet

function stretches(from, until) {
  const found = history.spans.filter((span) => span.end > from && span.start < until);
  if (state && !state.lost && state.stream_s > 0) {
    const open = { type: "segment", name: state.language, start: state.since, end: Math.max(state.since, state.time), confidence: state.confidence, open: true };
    if (state.language !== "unknown") lastSpoken = open;
    else if (lastSpoken && !history.spans.some((span) => span.end > lastSpoken.start + 1)) {
      const end = Math.min(lastSpoken.end, open.start);
      if (end > lastSpoken.start) found.push({ ...lastSpoken, end, open: false });
    }
    found.push(open);
  }
  return found;
}

function drawSlow() {
  const until = deviceTime(), from = until - timelineLength;
  const spans = stretches(from, until);
  const totals = new Map();
  let lost = 0;
  for (const span of spans) {
    const length = Math.max(0, Math.min(span.end, until) - Math.max(span.start, from));
    if (span.type === "gap") lost += length;
    else totals.set(span.name, (totals.get(span.name) ?? 0) + length);
  }
  const order = [...history.labels, "unknown"];
  const lanes = [...totals.keys()].sort((a, b) => (order.indexOf(a) + 1 || 99) - (order.indexOf(b) + 1 || 99));
  drawTimeline($("timeline"), lanes, spans, history, from, until);
  const parts = [...totals].sort((a, b) => b[1] - a[1]).map(([label, length]) => [label, `${history.name(label)} ${duration(length)}`]);
  if (lost) parts.push([null, `not heard ${duration(lost)}`]);
  replace("totals", parts, ([label, text]) => {
    const item = document.createElement("span"), key = Object.assign(document.createElement("i"), { className: "key" });
    key.style.background = label ? colourOf(label) : "repeating-linear-gradient(135deg, gray 0 1px, transparent 1px 4px)";
    item.append(key, text);
    return item;
  });
  $("timeline").setAttribute("aria-label", `timeline of the last ${spoken(timelineLength)}: ${parts.map((part) => part[1]).join(", ") || "nothing"}`);
  drawTrend($("trend"), history, until - trendLength, until);
  const now = state ? Object.entries(state.probabilities).sort((a, b) => b[1] - a[1]).slice(0, 3) : [];
  $("trend").setAttribute("aria-label", `probabilities of the last ${spoken(trendLength)}, stacked; now ${now.map(([label, share]) => `${history.name(label)} ${percent(share)}`).join(", ") || "nothing"}`);
  showTable(spans);
  showHealth();
}

function showTable(spans) {
  const cells = (span) => [
    clock(span.start), span.open ? "now" : clock(span.end), duration(span.end - span.start),
    span.type === "gap" ? `not heard: ${span.name}` : history.name(span.name),
    span.confidence === null ? "–" : percent(span.confidence),
  ];
  if (!$("segments").closest("details").open) return;
  replace("segments-body", spans.slice(-100).reverse().map(cells), (texts) => {
    const row = document.createElement("tr");
    row.append(...texts.map((text) => Object.assign(document.createElement("td"), { textContent: text })));
    return row;
  });
}

const STATUS = { ok: "listening", lost: "waiting for audio", stuck: "stuck" };

function taught(lessons) {
  const languages = Object.keys(lessons.languages).map((label) => history.name(label)).join(", ");
  if (!languages) return "nothing";
  const errors = lessons.errors?.taught;
  const brought = errors ? `; errors on these voices ${percent(errors[0])} before, ${percent(errors[1])} now` : "";
  return `${languages}, last on ${lessons.taught.slice(0, 10)}${brought}`;
}

function showHealth() {
  if (!state) return;
  const health = state.health;
  const lost = Object.entries(health.lost_s);
  const entries = [
    ["State", STATUS[health.status] ?? health.status, health.status !== "ok"],
    ["Input", health.input ?? "–"],
    ["Busy with audio", health.load === null ? "–" : `${(100 * health.load).toFixed(1)} % of the time`, health.load > 0.8],
    ["Memory", health.memory_bytes ? `${(health.memory_bytes / 1e6).toFixed(0)} MB` : "–"],
    ["Temperature", health.temperature_c === null ? "not told" : `${health.temperature_c.toFixed(0)} °C`, health.temperature_c > 80],
    ["Audio waiting", `${health.backlog_s.toFixed(2)} s`, health.backlog_s > 2],
    ["Lost, too slow", `${health.dropped_s.toFixed(1)} s`, health.dropped_s > 0],
    ["Overruns", `${health.overruns}`, health.overruns > 0],
    ["Lost in all", lost.length ? lost.map(([reason, seconds]) => `${seconds.toFixed(1)} s (${reason})`).join(", ") : "0 s", lost.length > 0],
    ...(state.lessons ? [["Taught", taught(state.lessons)]] : []),
    ["Running for", spoken(state.time - health.started)],
    ["Version", health.version],
  ];
  replace("health", entries, ([term, value, bad]) => {
    const box = document.createElement("div"), dd = Object.assign(document.createElement("dd"), { textContent: value });
    if (bad) dd.className = "bad";
    box.append(Object.assign(document.createElement("dt"), { textContent: term }), dd);
    return box;
  });
}

function choice(id, options, chosen, choose) {
  $(id).replaceChildren(...options.map(([text, seconds]) => {
    const button = Object.assign(document.createElement("button"), { type: "button", textContent: text });
    button.setAttribute("aria-pressed", String(seconds === chosen));
    button.addEventListener("click", () => {
      for (const each of $(id).children) each.setAttribute("aria-pressed", String(each === button));
      choose(seconds);
      drawSlow();
    });
    return button;
  }));
}

function tick() {
  if ($("main").hidden) return; // locked: nothing is tried
  if (heardAt && Date.now() - heardAt > SILENT_MS) {
    gone();
    if (source?.readyState === EventSource.OPEN) connect();
  }
  if (still.matches) drawSpectrum($("spectrum"), history.spectra, deviceTime());
  drawSlow();
}

const TREND_CHOICE = [["2 min", 120], ["10 min", 600], ["1 h", 3600]];
const TIMELINE_CHOICE = [["10 min", 600], ["1 h", 3600], ["6 h", 21600], ["24 h", 86400]];

// The shortest that shows most of what there is.
function fitting(options, oldest) {
  const length = deviceTime() - (oldest ?? deviceTime());
  return (options.find((option) => option[1] >= 0.5 * length) ?? options.at(-1))[1];
}

function choose() {
  trendLength = fitting(TREND_CHOICE, history.points[0]?.[0]);
  timelineLength = fitting(TIMELINE_CHOICE, history.spans[0]?.start);
  choice("trend-choice", TREND_CHOICE, trendLength, (seconds) => { trendLength = seconds; });
  choice("timeline-choice", TIMELINE_CHOICE, timelineLength, (seconds) => { timelineLength = seconds; });
}

$("unlock").addEventListener("submit", unlock);
$("segments").closest("details").addEventListener("toggle", drawSlow);
addEventListener("resize", drawSlow);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawSlow);
setInterval(tick, 1000);

choose();
history.fill().then(() => { choose(); connect(); }, (error) => {
  if (error instanceof Locked) lock();
  else { gone(); later(); }
});
