// What is known of the past, filled in from the server after every pause.

const DAY_S = 86400, TREND_S = 3600, SPECTRUM_S = 60;

export class Locked extends Error {}

async function get(path) {
  const answer = await fetch(path, { cache: "no-store" });
  if (answer.status === 401) throw new Locked();
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

export class History {
  constructor() {
    this.spans = [];
    this.labels = [];
    this.names = {};
    this.points = []; // [time, thousandths ...], a second apart
    this.spectra = []; // [time, dB ...]
    this.now = 0; // of the device's clock, as told last
  }

  // Everything since the newest that is here.
  async fill() {
    // Before anything is waited for: a state that comes meanwhile is newer than what is missing.
    const newest = this.points.at(-1)?.[0] ?? 0;
    let since = this.spans.length ? this.spans.at(-1).end - 0.01 : 0;
    while (since !== null) {
      const answer = await get(`api/v1/segments?since=${since}`);
      answer.segments.forEach((span) => this.addSpan(span));
      since = answer.next;
    }
    const trend = await get(`api/v1/probabilities?since=${newest}`);
    this.use(trend.labels, trend.names);
    const last = trend.points.at(-1)?.[0] ?? newest;
    this.points = [
      ...this.points.filter((point) => point[0] <= newest), ...trend.points,
      ...this.points.filter((point) => point[0] > last),
    ];
  }

  use(labels, names) {
    if (labels.join() !== this.labels.join()) { // of another model
      this.labels = labels;
      this.points = [];
    }
    labels.forEach((label, i) => { this.names[label] = names[i]; });
  }

  name(label) {
    return this.names[label] ?? { unknown: "not sure" }[label] ?? label;
  }

  addSpan(span) {
    const same = (other) => other.type === span.type && Math.abs(other.start - span.start) < 0.005;
    let place = this.spans.length;
    while (place && this.spans[place - 1].start > span.start + 0.005) place -= 1;
    if (place && same(this.spans[place - 1])) this.spans[place - 1] = span;
    else this.spans.splice(place, 0, span);
  }

  addState(state) {
    if (state.time < this.now - 1) this.setBack(state.time);
    this.now = state.time;
    const labels = Object.keys(state.probabilities);
    if (labels.length && labels.join() !== this.labels.join()) this.use(labels, labels.map((label) => this.name(label)));
    const newest = this.points.length ? this.points.at(-1)[0] : 0;
    if (labels.length && !state.lost && state.time - newest >= 1) {
      this.points.push([state.time, ...labels.map((label) => 1000 * state.probabilities[label])]);
    }
    if (!state.lost) this.spectra.push([state.time, ...state.spectrum_db]);
    this.forget(state.time);
  }

  // The clock was set back: nothing of what lies ahead of it now has been yet.
  setBack(now) {
    this.spans = this.spans.filter((span) => span.end <= now);
    this.points = this.points.filter((point) => point[0] <= now);
    this.spectra = this.spectra.filter((spectrum) => spectrum[0] <= now);
  }

  forget(now) {
    const drop = (list, time, length) => {
      let old = 0;
      while (old < list.length && time(list[old]) < now - length) old += 1;
      if (old) list.splice(0, old);
    };
    drop(this.spans, (span) => span.end, DAY_S);
    drop(this.points, (point) => point[0], TREND_S);
    drop(this.spectra, (spectrum) => spectrum[0], SPECTRUM_S + 2);
  }
}
