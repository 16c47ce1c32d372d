// How faces are shown: boxes over a picture, and a card for each with its probabilities.

import { emotionName, number, percent, text } from "./texts.js";

const MANY = 6; // with more faces, boxes carry only their number

/** The face with probabilities smoothed over time, if the server sent any; else the face itself. */
export function smoothed(face) {
  if (!face.smoothed) return face;
  const [emotion] = Object.entries(face.smoothed).reduce((one, other) => (other[1] > one[1] ? other : one));
  return { ...face, emotion, probabilities: face.smoothed, measured: confidence(face) };
}

/** The probability of the answer, 0..1. */
export function confidence(face) {
  return face.probabilities[face.emotion];
}

/**
 * Whether the answer is withheld. This depends on the probabilities of the frame itself, even if
 * smoothed ones are shown, since the accuracy at each threshold was measured without smoothing.
 */
export function withheld(face, threshold) {
  return (face.measured ?? confidence(face)) < threshold;
}

/** The answer in words; withheld below the threshold. */
export function answer(face, threshold) {
  return withheld(face, threshold) ? text("unsureName") : emotionName(face.emotion);
}

/** The answer and how sure it is, in words. */
export function summary(face, threshold) {
  if (withheld(face, threshold)) return text("unsureName");
  return `${emotionName(face.emotion)}, ${percent(confidence(face))}`;
}

/** Sets the colour of an emotion; `--colour` is inherited by what is in the element. */
export function colour(element, label, labels) {
  element.style.setProperty("--colour", `var(--emotion-${label}, var(--other-${labels.indexOf(label) % 4}))`);
  return element;
}

/**
 * The name of a face: by its place in a picture, by its person in a video. Person 0 means that the
 * face was seen too briefly to be assigned to a person.
 */
export function nameOf(face, index, moving = false) {
  if (!moving) return text("face", number(index + 1));
  return face.person ? text("person", number(face.person)) : text("someFace");
}

/** Draws the boxes of faces over a picture of `width` by `height`. */
export function drawBoxes(container, { width, height, faces }, { threshold, labels, moving, mirrored }) {
  const boxes = faces.map((face, index) => {
    const [x0, y0, x1, y1] = face.box;
    const box = element("div", "box");
    const left = mirrored ? width - x1 : x0;
    box.style.left = `${(100 * left) / width}%`;
    box.style.top = `${(100 * y0) / height}%`;
    box.style.width = `${(100 * (x1 - x0)) / width}%`;
    box.style.height = `${(100 * (y1 - y0)) / height}%`;
    box.dataset.face = index;
    colour(box, face.emotion, labels);
    box.classList.toggle("unsure", withheld(face, threshold));
    box.classList.toggle("at-top", y0 < 0.09 * height);
    const sign = element("span", "sign");
    sign.dir = "auto";
    const place = moving ? face.person : index + 1;
    if (faces.length > 1 && place) sign.append(element("b", "", number(place)));
    if (faces.length <= MANY) sign.append(answer(face, threshold));
    box.append(sign);
    return box;
  });
  container.replaceChildren(...boxes);
}

/** Draws a card for each face; `source` is the picture or video from which faces are cut. */
export function drawCards(container, { width, height, faces }, { threshold, labels, moving, source, empty }) {
  if (!faces.length) {
    container.replaceChildren(element("p", "empty", empty));
    return;
  }
  const kept = container.querySelectorAll(".card");
  const cards = faces.map((face, index) => {
    const card = kept[index] ?? emptyCard(labels);
    fillCard(card, face, index, { threshold, labels, moving });
    if (source) cut(card.querySelector("canvas"), source, width, height, face.box);
    card.querySelector("canvas").hidden = !source;
    return card;
  });
  if (kept.length !== cards.length || !kept.length) container.replaceChildren(...cards);
}

function emptyCard(labels) {
  const card = element("article", "card");
  const head = element("div", "card-head");
  const thumb = element("canvas", "thumb");
  thumb.width = thumb.height = 128;
  thumb.setAttribute("aria-hidden", "true");
  const words = element("div", "card-words");
  words.append(element("p", "who"), element("p", "what"), element("p", "sure"));
  head.append(thumb, words);
  const bars = element("ul", "bars");
  for (const label of labels) {
    const row = colour(element("li", "bar"), label, labels);
    const track = element("span", "track");
    track.setAttribute("aria-hidden", "true");
    track.append(element("i"));
    row.append(element("span", "bar-name"), track, element("span", "bar-value"));
    bars.append(row);
  }
  card.append(head, bars);
  return card;
}

function fillCard(card, face, index, { threshold, labels, moving }) {
  const unsure = withheld(face, threshold);
  card.dataset.face = index;
  colour(card, face.emotion, labels);
  card.classList.toggle("unsure", unsure);
  card.querySelector(".who").textContent = nameOf(face, index, moving);
  card.querySelector(".what").textContent = answer(face, threshold);
  card.querySelector(".sure").textContent = unsure ? "" : text("sureness", percent(confidence(face)));
  card.querySelectorAll(".bar").forEach((row, place) => {
    const value = face.probabilities[labels[place]];
    row.classList.toggle("best", labels[place] === face.emotion && !unsure);
    row.querySelector(".bar-name").textContent = emotionName(labels[place]);
    row.querySelector(".bar-value").textContent = percent(value);
    row.querySelector("i").style.inlineSize = `${100 * value}%`;
  });
}

/** Cuts a face with some of its surroundings out of a picture or video. */
function cut(canvas, source, width, height, [x0, y0, x1, y1]) {
  const side = Math.min(1.25 * Math.max(x1 - x0, y1 - y0), Math.min(width, height));
  const within = (middle, length) => Math.min(Math.max(middle - side / 2, 0), length - side);
  const scale = (source.naturalWidth || source.videoWidth || source.width) / width;
  const corner = [within((x0 + x1) / 2, width), within((y0 + y1) / 2, height)];
  const part = [...corner, side, side].map((value) => value * scale);
  canvas.getContext("2d").drawImage(source, ...part, 0, 0, canvas.width, canvas.height);
}

/** A new element with a class and a text. */
export function element(name, classes = "", content = "") {
  const made = document.createElement(name);
  if (classes) made.className = classes;
  if (content) made.textContent = content;
  return made;
}
