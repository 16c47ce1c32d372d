// The timeline of a video: for each person a band with the probabilities of all emotions over time.

import { colour, element, nameOf, summary, withheld } from "./faces.js";
import { emotionName, number, percent, text } from "./texts.js";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 100; // of a band, in units of its drawing; its width is the length of the video in ms

export class Timeline {
  /**
   * @param parts the elements `lanes` (the slider), `axis` and `legend`
   * @param onMoment called with the index of the frame that is to be shown
   */
  constructor(parts, onMoment) {
    Object.assign(this, parts);
    this.onMoment = onMoment;
    this.head = element("div", "playhead");
    this.lanes.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse" || event.buttons) this.#goTo(event);
    });
    this.lanes.addEventListener("pointerdown", (event) => this.#goTo(event));
    this.lanes.addEventListener("keydown", (event) => this.#onKey(event));
  }

  /** Draws the bands of all people in `frames`, which are in chronological order. */
  draw(frames, { threshold, labels, every, gap }) {
    this.frames = frames;
    this.threshold = threshold;
    this.start = frames.length ? frames[0].time_s : 0;
    this.end = Math.max(frames.length ? frames.at(-1).time_s + every : 1, this.start + every, this.start + 0.01);
    const people = byPerson(frames);
    const lanes = [...people].map(([person, seen]) => this.#lane(person, seen, labels, every, gap));
    this.lanes.replaceChildren(...lanes, this.head);
    this.legend.replaceChildren(
      ...labels.map((label) => colour(element("li", "", emotionName(label)), label, labels)),
    );
    this.#drawAxis();
  }

  /** Moves the playhead to a frame, and describes the frame for screen readers. */
  show(index) {
    const frame = this.frames[index];
    this.index = index;
    this.head.style.left = `${100 * this.#place(frame.time_s)}%`;
    const words = frame.faces.map((face, place) => `${nameOf(face, place, true)}: ${summary(face, this.threshold)}`);
    const moment = text("seconds", number(frame.time_s - this.start, 1));
    this.lanes.setAttribute("aria-valuemin", 0);
    this.lanes.setAttribute("aria-valuemax", this.frames.length - 1);
    this.lanes.setAttribute("aria-valuenow", index);
    this.lanes.setAttribute("aria-valuetext", `${moment}. ${words.join(". ") || text("noFaceHere")}`);
  }

  #place(time) {
    return (time - this.start) / (this.end - this.start);
  }

  #goTo(event) {
    if (!this.frames?.length) return;
    const { left, width } = this.lanes.getBoundingClientRect();
    const time = this.start + ((event.clientX - left) / width) * (this.end - this.start);
    this.onMoment(nearest(this.frames, time));
  }

  #onKey(event) {
    const last = this.frames.length - 1;
    const step = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10 }[event.key];
    const edge = { Home: 0, End: last }[event.key];
    if (step === undefined && edge === undefined) return;
    event.preventDefault();
    this.onMoment(edge ?? Math.min(Math.max((this.index ?? 0) + step, 0), last));
  }

  #lane(person, seen, labels, every, gap) {
    const lane = element("div", "lane");
    const head = element("p", "lane-head");
    head.dir = "auto";
    head.append(element("b", "", text("person", number(person))), element("span", "", this.#shares(seen)));
    const drawing = document.createElementNS(SVG, "svg");
    const length = 1000 * (this.end - this.start);
    drawing.setAttribute("viewBox", `0 0 ${length} ${HEIGHT + 12}`);
    drawing.setAttribute("preserveAspectRatio", "none");
    drawing.setAttribute("aria-hidden", "true");
    for (const run of runs(seen, gap)) drawing.append(...this.#bands(run, labels, every));
    lane.append(head, drawing);
    return lane;
  }

  /** The stacked probabilities of an interval without gaps, and the answers below. */
  #bands(run, labels, every) {
    const x = (time) => (1000 * (time - this.start)).toFixed(0);
    const times = [...run.map(({ time }) => time), run.at(-1).time + every];
    const below = times.map(() => 0);
    const bands = labels.map((label) => {
      const low = [...below];
      times.forEach((_, i) => {
        below[i] += run[Math.min(i, run.length - 1)].face.probabilities[label];
      });
      const point = (share, i) => `${x(times[i])} ${(HEIGHT * (1 - share)).toFixed(1)}`;
      const upper = below.map(point);
      const lower = low.map(point).reverse();
      return shape(`M${upper.join("L")}L${lower.join("L")}Z`, "band", label, labels);
    });
    const answers = new Map();
    run.forEach(({ time, face }, i) => {
      const key = withheld(face, this.threshold) ? "" : face.emotion;
      const path = `M${x(time)} ${HEIGHT + 4}H${x(times[i + 1])}V${HEIGHT + 12}H${x(time)}Z`;
      answers.set(key, (answers.get(key) ?? "") + path);
    });
    const strips = [...answers].map(([label, path]) => shape(path, label ? "strip" : "strip unsure", label, labels));
    return [...bands, ...strips];
  }

  /** In words: who is in the video, and what they show most. */
  summary() {
    return [...byPerson(this.frames)]
      .map(([person, seen]) => `${text("person", number(person))}: ${this.#shares(seen)}.`)
      .join(" ");
  }

  /** In words: the three most frequent answers, each with its share of the person's faces. */
  #shares(seen) {
    const counts = new Map();
    for (const { face } of seen) {
      const name = withheld(face, this.threshold) ? text("unsureName") : emotionName(face.emotion);
      counts.set(name, (counts.get(name) ?? 0) + 1);
    }
    return [...counts]
      .sort((one, other) => other[1] - one[1])
      .slice(0, 3)
      .map(([name, count]) => text("shareOfTime", name, percent(count / seen.length)))
      .join(" · ");
  }

  #drawAxis() {
    const length = this.end - this.start;
    const step = [0.5, 1, 2, 5, 10, 30, 60, 120, 300].find((one) => length / one <= 8) ?? 600;
    const ticks = [];
    for (let time = 0; time < length - step / 3; time += step) {
      const tick = element("span", "", text("seconds", number(time, 1)));
      tick.dir = "auto";
      tick.style.left = `${(100 * time) / length}%`;
      ticks.push(tick);
    }
    this.axis.replaceChildren(...ticks);
  }
}

/** The index of the frame that is shown at a time. */
export function nearest(frames, time) {
  let index = 0;
  while (index + 1 < frames.length && frames[index + 1].time_s <= time + 0.001) index += 1;
  return index;
}

/** How many different people there are. */
export function countPeople(frames) {
  return byPerson(frames).size;
}

function byPerson(frames) {
  const people = new Map();
  for (const { time_s: time, faces } of frames) {
    for (const face of faces.filter(({ person }) => person)) {
      if (!people.has(face.person)) people.set(face.person, []);
      people.get(face.person).push({ time, face });
    }
  }
  return new Map([...people].sort(([one], [other]) => one - other));
}

/** Splits the moments of a person at gaps of more than `gap` seconds. */
function runs(seen, gap) {
  const found = [];
  for (const moment of seen) {
    const last = found.at(-1);
    if (last && moment.time - last.at(-1).time <= gap) last.push(moment);
    else found.push([moment]);
  }
  return found;
}

function shape(path, classes, label, labels) {
  const made = document.createElementNS(SVG, "path");
  made.setAttribute("d", path);
  made.setAttribute("class", classes);
  return colour(made, label, labels);
}
