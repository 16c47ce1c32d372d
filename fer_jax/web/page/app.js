// The page: takes a picture, a video or the camera, asks the server, and shows its answers.

import { drawBoxes, drawCards, nameOf, smoothed, summary } from "./faces.js";
import { People } from "./followed.js";
import { ServerError, fetchModel, readPicture, readVideo } from "./server.js";
import { errorText, language, number, percent, setEmotionNames, setLanguage, text } from "./texts.js";
import { Timeline, countPeople, nearest } from "./timeline.js";

const CAMERA_SIDE = 640; // pixels, of the pictures that are taken with the camera
const REDRAW_MS = 250; // the shortest interval between drawings while a video is read

const part = (id) => document.getElementById(id);
const picture = part("picture");
const video = part("video");
const timeline = new Timeline(
  { lanes: part("lanes"), axis: part("axis"), legend: part("legend") },
  (index) => seek(index),
);

let model = { labels: [], max_upload_bytes: Infinity, every_s: 0.2, longest_gap_s: Infinity };
let threshold = 0.5;
let shown = nothing();

/** An empty state. Later, `kind` is "picture", "video" or "camera", and `frames` has the faces. */
function nothing() {
  return { kind: "", frames: [], index: 0, notes: [], trouble: null, controller: new AbortController() };
}

// Opening a file or the camera

async function open(file) {
  const own = leave();
  try {
    await begun;
    if (file.size > model.max_upload_bytes) {
      const facts = { megabytes: model.max_upload_bytes / 1e6 };
      throw new ServerError({ code: "upload_too_large", facts });
    }
    await file.slice(0, 1).arrayBuffer().catch(() => {
      throw new ServerError({ code: "unreadable" }); // a folder, for example
    });
    if (own !== shown) return;
    show("working");
    await openAs(file, file.type.startsWith("video/") ? "video" : "picture", own);
  } catch (error) {
    if (own === shown) fail(error);
  }
}

/** Opens a file as `kind`, or as the other kind if the server answers that it is not of `kind`. */
async function openAs(file, kind, own) {
  const [first, other] = kind === "video" ? [openVideo, openPicture] : [openPicture, openVideo];
  try {
    await first(file, own);
  } catch (error) {
    if (error.code !== "not_a_picture" && error.code !== "is_a_picture") throw error;
    await other(file, own);
  }
}

async function openPicture(file, own) {
  part("working-words").textContent = text("reading");
  part("progress").removeAttribute("value");
  const found = await readPicture(file, own.controller.signal);
  if (own !== shown) return;
  own.frames = [fromLeftToRight(found)];
  await load(picture, file, own);
  own.kind = "picture";
  show("result");
  redraw();
  tell();
  part("result-title").focus();
}

async function openVideo(file, own) {
  part("working-words").textContent = text("reading");
  part("progress").removeAttribute("value");
  let drawn = 0;
  try {
    for await (const line of readVideo(file, own.controller.signal)) {
      if (own !== shown) return;
      if ("time_s" in line) own.frames.push(byPerson(line));
      else if ("expected" in line) own.expected = line.expected;
      else if (line.damaged) own.notes.push("damaged");
      if (own.frames.length === 1 && own.kind !== "video") {
        await load(video, file, own);
        own.kind = "video";
        redraw();
        show("result", "working");
        part("result-title").focus();
      }
      if (own.kind === "video" && performance.now() - drawn > REDRAW_MS) {
        drawn = performance.now();
        drawProgress(own);
        redraw();
      }
    }
  } catch (error) {
    if (own !== shown || !own.frames.length) throw error;
    if (error.name === "AbortError") own.notes.push("stopped");
    else own.trouble = error;
  }
  show("result");
  redraw();
  tell();
}

async function openCamera() {
  const own = leave();
  try {
    await begun;
    own.stream = await takeCamera();
    if (own !== shown) return own.stream.getTracks().forEach((track) => track.stop());
    own.kind = "camera";
    own.people = new People(model.longest_gap_s);
    video.srcObject = own.stream;
    video.hidden = false;
    await video.play();
    const canvas = document.createElement("canvas");
    while (own === shown) await readCamera(canvas, own);
  } catch (error) {
    if (own === shown) fail(error);
  }
}

async function takeCamera() {
  try {
    return await navigator.mediaDevices.getUserMedia({
      video: { facingMode: "user", width: { ideal: 640 }, height: { ideal: 480 } },
    });
  } catch (error) {
    throw new ServerError({ code: error.name === "NotAllowedError" ? "cameraDenied" : "cameraMissing" });
  }
}

/** Takes one picture with the camera and shows its faces. */
async function readCamera(canvas, own) {
  const scale = Math.min(1, CAMERA_SIDE / Math.max(video.videoWidth, video.videoHeight));
  canvas.width = Math.round(video.videoWidth * scale);
  canvas.height = Math.round(video.videoHeight * scale);
  canvas.getContext("2d").drawImage(video, 0, 0, canvas.width, canvas.height);
  const blob = await new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.92));
  try {
    const time = performance.now() / 1000; // of the picture
    const found = await readPicture(blob, own.controller.signal);
    own.frames = [byPerson({ ...found, faces: own.people.numbered(found.faces, time) })];
  } catch (error) {
    if (error.code !== "busy") throw error;
    await new Promise((done) => setTimeout(done, 1000));
  }
  if (own !== shown || !own.frames.length) return;
  own.source = canvas;
  show("result");
  redraw();
}

function fromLeftToRight({ faces, ...others }) {
  return { ...others, faces: faces.toSorted((one, other) => one.box[0] - other.box[0]) };
}

function byPerson({ faces, ...others }) {
  const place = ({ person }) => person || Infinity;
  return { ...others, faces: faces.toSorted((one, other) => place(one) - place(other) || 0) };
}

/** Shows a file in an element; if the browser cannot, boxes are drawn on an empty frame. */
async function load(element, file, own) {
  own.url = URL.createObjectURL(file);
  element.src = own.url;
  const event = element === video ? "loadeddata" : "load";
  const works = await new Promise((done) => {
    element.addEventListener(event, () => done(true), { once: true });
    element.addEventListener("error", () => done(false), { once: true });
    if (element === video) element.load();
  });
  if (own !== shown) return;
  element.hidden = !works;
  own.source = works ? element : null;
  if (!works) own.notes.push("notShown");
}

/** Stops and hides what is shown; returns the new, empty state. */
function leave() {
  shown.controller.abort();
  shown.stream?.getTracks().forEach((track) => track.stop());
  for (const element of [picture, video]) {
    element.hidden = true;
    element.removeAttribute("src");
  }
  video.srcObject = null;
  if (shown.url) URL.revokeObjectURL(shown.url);
  shown = nothing();
  part("trouble").hidden = true;
  part("boxes").replaceChildren();
  part("faces").replaceChildren();
  return shown;
}

function fail(error) {
  const own = leave();
  if (error.name !== "AbortError") {
    if (!(error instanceof ServerError)) console.error(error);
    own.trouble = error;
  }
  show("start");
  drawTrouble();
  (own.trouble ? part("trouble") : part("choose")).focus();
}

// Drawing

function show(...names) {
  for (const name of ["start", "working", "result"]) part(name).hidden = !names.includes(name);
  document.body.dataset.kind = shown.kind;
}

function redraw() {
  const own = shown;
  drawTrouble();
  part("threshold-value").textContent = percent(threshold);
  const step = model.measured?.steps.find((one) => one.threshold <= threshold);
  part("reliability").textContent = step ? text("measured", percent(step.accuracy), percent(step.coverage)) : "";
  if (!own.frames.length) return;
  const view = part("view");
  const { width, height } = own.frames[0];
  view.style.setProperty("--ratio", width / height);
  view.classList.toggle("empty-view", !own.source);
  const count = own.kind === "video" ? countPeople(own.frames) : own.frames[0].faces.length;
  part("result-title").textContent =
    own.kind === "camera" ? text("live") : text(own.kind === "video" ? "people" : "faces", count, number(count));
  part("again").textContent = text(own.kind === "camera" ? "stop" : "again");
  part("board").classList.toggle("wide", own.kind !== "video" && count > 1 && width > 1.4 * height);
  part("timeline").hidden = own.kind !== "video";
  part("player").hidden = own.kind !== "video" || own.source !== video;
  const notes = own.notes.map((key) => text(key));
  if (own.kind === "video" && own.trouble) notes.push(errorText(own.trouble));
  part("note").textContent = notes.join(" ");
  part("note").hidden = !notes.length;
  if (own.kind === "video") {
    own.drawn = part("smooth").checked
      ? own.frames.map((frame) => ({ ...frame, faces: frame.faces.map(smoothed) }))
      : own.frames;
    const every = spacing(own.frames);
    timeline.draw(own.drawn, { threshold, labels: model.labels, every, gap: model.longest_gap_s });
  }
  drawMoment();
}

/** Draws the boxes and cards of the frame that is shown. */
function drawMoment() {
  const { kind, index, source } = shown;
  const frames = shown.drawn ?? shown.frames;
  const frame = frames[Math.min(index, frames.length - 1)];
  const how = { threshold, labels: model.labels, moving: kind !== "picture", mirrored: kind === "camera" };
  drawBoxes(part("boxes"), frame, how);
  const ready = source !== video || video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA;
  const empty = text(kind === "video" ? "noFaceHere" : "noFace");
  drawCards(part("faces"), frame, { ...how, source: ready ? source : null, empty });
  if (kind === "video") {
    timeline.show(Math.min(index, frames.length - 1));
    const [time, end] = [frame, frames.at(-1)].map((one) => number(one.time_s - frames[0].time_s, 1));
    part("moment").textContent = text("moment", time, end);
    part("play").textContent = text(video.paused ? "play" : "pause");
  }
  if (kind === "picture") picture.alt = text("pictureOf", inWords(frame));
}

function drawProgress({ frames, expected }) {
  const bar = part("progress");
  const words = text("readingVideo", number(frames.length), expected ? number(expected) : "");
  part("working-words").textContent = words;
  if (expected) Object.assign(bar, { max: Math.max(expected, frames.length), value: frames.length });
}

function drawTrouble() {
  const trouble = shown.frames.length ? null : shown.trouble;
  part("trouble").hidden = !trouble;
  part("trouble").textContent = trouble ? errorText(trouble) : "";
  part("trouble").tabIndex = -1;
}

/** Tells a screen reader what was found. */
function tell() {
  const words = shown.kind === "picture" ? inWords(shown.frames[0]) : timeline.summary();
  part("status").textContent = `${part("result-title").textContent}. ${words}`;
}

function inWords({ faces }) {
  return faces.map((face, index) => `${nameOf(face, index)}: ${summary(face, threshold)}.`).join(" ");
}

/** The median of the seconds between consecutive frames, from the first 50 frames. */
function spacing(frames) {
  const gaps = frames.slice(1, 50).map((frame, i) => frame.time_s - frames[i].time_s);
  return gaps.sort((one, other) => one - other)[Math.floor(gaps.length / 2)] || model.every_s || 0.04;
}

// The moment of a video

function seek(index) {
  shown.index = index;
  if (shown.source === video) {
    video.pause();
    video.currentTime = shown.frames[index].time_s - shown.frames[0].time_s + 0.001;
  }
  drawMoment();
}

function follow() {
  if (shown.kind !== "video" || !shown.frames.length) return;
  shown.index = nearest(shown.frames, video.currentTime + shown.frames[0].time_s);
  drawMoment();
}

function followPlaying() {
  if (!video.paused) follow();
  video.requestVideoFrameCallback?.(followPlaying);
}

// Language, theme and events

function speak(code) {
  setLanguage(code);
  const button = part("language");
  button.textContent = text("otherLanguage");
  button.lang = language() === "fa" ? "en" : "fa";
  const { model: name, measured } = model;
  part("measured").textContent = measured
    ? text("measuredOn", name, measured.measured_on)
    : text("notMeasured", name);
  redraw();
}

function switchLanguage() {
  const code = language() === "fa" ? "en" : "fa";
  const address = new URL(location.href);
  address.searchParams.set("lang", code);
  history.replaceState(null, "", address);
  speak(code);
}

function switchTheme() {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
}

/** Marks the box and the card of the face under the pointer. */
function highlight(event) {
  const face = event.target.closest?.("[data-face]")?.dataset.face;
  for (const element of document.querySelectorAll("[data-face]")) {
    element.classList.toggle("active", event.type === "pointerover" && element.dataset.face === face);
  }
}

function listen() {
  part("choose").addEventListener("click", () => part("file").click());
  part("file").addEventListener("change", () => {
    const [file] = part("file").files;
    if (file) open(file);
    part("file").value = "";
  });
  part("camera").addEventListener("click", openCamera);
  part("cancel").addEventListener("click", () => shown.controller.abort());
  part("again").addEventListener("click", () => {
    leave();
    show("start");
    part("choose").focus();
  });
  part("threshold").addEventListener("input", (event) => {
    threshold = event.target.value / 100;
    redraw();
  });
  part("smooth").addEventListener("change", redraw);
  part("language").addEventListener("click", switchLanguage);
  part("theme").addEventListener("click", switchTheme);
  for (const id of ["faces", "boxes"]) {
    part(id).addEventListener("pointerover", highlight);
    part(id).addEventListener("pointerout", highlight);
  }
  part("play").addEventListener("click", () => (video.paused ? video.play() : video.pause()));
  for (const name of ["seeked", "timeupdate", "loadeddata", "play", "pause"]) video.addEventListener(name, follow);
  video.requestVideoFrameCallback?.(followPlaying);
  window.addEventListener("dragover", (event) => {
    event.preventDefault();
    part("drop").classList.add("over");
  });
  for (const name of ["dragleave", "drop"]) {
    window.addEventListener(name, () => part("drop").classList.remove("over"));
  }
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    const [file] = event.dataTransfer.files;
    if (file) open(file);
  });
  window.addEventListener("paste", (event) => {
    const [file] = event.clipboardData.files;
    if (file) open(file);
  });
}

async function begin() {
  const wanted = new URLSearchParams(location.search).get("lang") ?? navigator.language.slice(0, 2);
  setLanguage(wanted);
  listen();
  try {
    model = await fetchModel();
    setEmotionNames(model.emotions);
  } catch (error) {
    fail(error);
  }
  speak(wanted);
}

const begun = begin();
