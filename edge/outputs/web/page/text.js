// Times, lengths and colours, the same everywhere.

const second = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const minute = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(undefined, { weekday: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

export const clock = (time) => second.format(1000 * time);
export const shortClock = (time) => minute.format(1000 * time);
export const dayClock = (time) => day.format(1000 * time);

export function duration(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  const hours = Math.floor(whole / 3600), minutes = Math.floor(whole / 60) % 60;
  const rest = String(whole % 60).padStart(2, "0");
  return hours ? `${hours}:${String(minutes).padStart(2, "0")}:${rest}` : `${minutes}:${rest}`;
}

export function spoken(seconds) {
  const whole = Math.max(0, Math.round(seconds));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h ${Math.floor(whole / 60) % 60} min`;
  return `${Math.floor(whole / 86400)} days`;
}

export const decibels = (db) => `${Math.round(db)} dB`.replace("-", "−");

export const percent = (share) => `${Math.round(100 * share)} %`;

// One hue a language, far from those of its neighbours in the list; none for what is no language.
const HUES = [255, 25, 75, 320, 150, 55, 195, 350, 105, 285, 225, 0, 130, 300, 175, 90];
const PLAIN = { // lightness by day and by night, chroma, hue
  nonspeech: [0.72, 0.5, 0.012, 260], other: [0.58, 0.58, 0.03, 60], unknown: [0.84, 0.4, 0.008, 260],
};

export class Colours {
  constructor() { this.dark = matchMedia("(prefers-color-scheme: dark)"); this.order = []; }

  use(labels) { this.order = labels.filter((label) => !(label in PLAIN)); }

  of(label) {
    if (label in PLAIN) {
      const [day, night, chroma, hue] = PLAIN[label];
      return `oklch(${this.dark.matches ? night : day} ${chroma} ${hue})`;
    }
    let place = this.order.indexOf(label);
    if (place < 0) { this.order.push(label); place = this.order.length - 1; }
    const turn = Math.floor(place / HUES.length);
    return `oklch(${(this.dark.matches ? 0.7 : 0.64) - 0.1 * (turn % 3)} 0.135 ${HUES[place % HUES.length]})`;
  }
}
