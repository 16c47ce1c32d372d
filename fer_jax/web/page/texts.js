// The words of the page in English and Persian, and how numbers are written in each.

const ENGLISH = {
  otherLanguage: "فارسی",
  skip: "Skip to the content",
  theme: "Switch between light and dark",
  title: "What do these faces show?",
  lede: "Choose a picture, a video or your camera, and see the expression of each face and how sure the answer is.",
  private: "Everything is read on this computer. Nothing is stored, and nothing is sent anywhere.",
  drop: "Drop a picture or a video here",
  choose: "Choose a file",
  camera: "Use the camera",
  cancel: "Cancel",
  again: "Another file",
  stop: "Stop the camera",
  play: "Play",
  pause: "Pause",
  moment: (time, end) => `${time} of ${end} s`,
  reading: "Looking for faces…",
  readingVideo: (done, expected) =>
    expected ? `Reading the video: frame ${done} of about ${expected}` : `Reading the video: frame ${done}`,
  threshold: "Answer only if at least this sure",
  unsureName: "not sure",
  faces: (count, shown) => (count === 1 ? "One face" : count ? `${shown} faces` : "No face found"),
  people: (count, shown) => (count === 1 ? "One person" : count ? `${shown} people` : "No face found"),
  live: "Camera",
  face: (number) => `Face ${number}`,
  someFace: "A face seen briefly",
  person: (number) => `Person ${number}`,
  noFace: "No face was found. Faces from the front, larger than 40 pixels, are found best.",
  noFaceHere: "No face at this moment.",
  sureness: (share) => `${share} sure`,
  pictureOf: (summary) => `The picture. ${summary}`,
  damaged: "The video is damaged or ends too early. The answer is about the part that can be read.",
  notShown: "This browser cannot show the file. The boxes are drawn on an empty frame.",
  stopped: "Reading was cancelled. What was read until then is shown.",
  timeline: "Over time",
  timelineHint: "Move over the bands, or use the arrow keys, to see a moment. The thin line below each band is the answer; it is grey where the answer is not sure.",
  smooth: "Smooth over time",
  timelineSlider: "Moment of the video",
  seconds: (value) => `${value} s`,
  shareOfTime: (name, share) => `${name} ${share}`,
  about: "About the answers",
  measured: (share, answered) => `On held-out faces, ${share} of such answers were right, and ${answered} of the faces got one.`,
  measuredOn: (model, faces) => `The model “${model}” was measured on ${faces}, which it was not trained on.`,
  notMeasured: (model) => `How often the model “${model}” is right was not recorded with it.`,
  calibrated: "The probabilities are calibrated: of the answers with 70%, about seven in ten are right, on faces like those the model was measured on. On other faces they can be worse.",
  unsure: "Answers below the chosen probability are withheld and shown as “not sure”.",
  expression: "An expression is not a feeling. Do not use these answers to decide about people.",
  errors: {
    cameraDenied: "The camera may not be used. Allow it in the browser, next to the address, and try again.",
    cameraMissing: "No camera was found. Connect one, or choose a file.",
    unreadable: "The file cannot be opened; choose another one. Folders are not read.",
    network: "The server does not answer. Is `fer-jax serve` still running?",
    upload_too_large: (facts) => `The file is larger than ${number(facts.megabytes)} MB; make it smaller, or start the page with a larger --max_upload_mb.`,
  },
};

const PERSIAN = {
  otherLanguage: "English",
  skip: "رفتن به محتوا",
  theme: "تغییر میان روشن و تیره",
  title: "این چهره‌ها چه نشان می‌دهند؟",
  lede: "یک عکس یا ویدئو بدهید یا دوربین را روشن کنید تا حالت هر چهره و میزان اطمینان پاسخ را ببینید.",
  private: "همه‌چیز روی همین رایانه خوانده می‌شود. چیزی ذخیره نمی‌شود و به جایی فرستاده نمی‌شود.",
  drop: "عکس یا ویدئو را اینجا بیندازید",
  choose: "انتخاب فایل",
  camera: "استفاده از دوربین",
  cancel: "لغو",
  again: "فایل دیگر",
  stop: "خاموش کردن دوربین",
  play: "پخش",
  pause: "مکث",
  moment: (time, end) => `${time} از ${end} ثانیه`,
  reading: "در جست‌وجوی چهره‌ها…",
  readingVideo: (done, expected) =>
    expected ? `خواندن ویدئو: فریم ${done} از حدود ${expected}` : `خواندن ویدئو: فریم ${done}`,
  threshold: "فقط با دست‌کم این اطمینان پاسخ بده",
  unsureName: "نامطمئن",
  faces: (count, shown) => (count === 1 ? "یک چهره" : count ? `${shown} چهره` : "چهره‌ای پیدا نشد"),
  people: (count, shown) => (count === 1 ? "یک نفر" : count ? `${shown} نفر` : "چهره‌ای پیدا نشد"),
  live: "دوربین",
  face: (number) => `چهرهٔ ${number}`,
  someFace: "چهره‌ای گذرا",
  person: (number) => `نفر ${number}`,
  noFace: "چهره‌ای پیدا نشد. چهره‌های روبه‌رو و بزرگ‌تر از ۴۰ پیکسل بهتر پیدا می‌شوند.",
  noFaceHere: "در این لحظه چهره‌ای نیست.",
  sureness: (share) => `${share} اطمینان`,
  pictureOf: (summary) => `عکس. ${summary}`,
  damaged: "ویدئو آسیب دیده یا ناتمام است. پاسخ دربارهٔ بخشی است که خوانده شد.",
  notShown: "این مرورگر نمی‌تواند فایل را نشان دهد. کادرها روی صفحهٔ خالی کشیده شده‌اند.",
  stopped: "خواندن لغو شد. آنچه تا آن زمان خوانده شده نشان داده می‌شود.",
  timeline: "در گذر زمان",
  timelineHint: "برای دیدن هر لحظه روی نوارها حرکت کنید یا از کلیدهای جهت استفاده کنید. خط باریک زیر هر نوار پاسخ است و جایی که پاسخ نامطمئن است خاکستری می‌شود.",
  smooth: "هموار کردن در گذر زمان",
  timelineSlider: "لحظهٔ ویدئو",
  seconds: (value) => `${value} ثانیه`,
  shareOfTime: (name, share) => `${name} ${share}`,
  about: "دربارهٔ پاسخ‌ها",
  measured: (share, answered) => `روی چهره‌های آزمون، ${share} چنین پاسخ‌هایی درست بود و ${answered} چهره‌ها پاسخ گرفتند.`,
  measuredOn: (model, faces) => `مدل «${model}» با این چهره‌ها سنجیده شد، که با آن‌ها آموزش ندیده است: \u2068${faces}\u2069.`,
  notMeasured: (model) => `همراه مدل «${model}» ثبت نشده که چند بار درست می‌گوید.`,
  calibrated: "احتمال‌ها کالیبره‌اند: از پاسخ‌های ۷۰٪ حدود هفت تا از ده تا درست است، البته برای چهره‌هایی مانند آن‌هایی که مدل با آن‌ها سنجیده شده. برای چهره‌های دیگر می‌تواند بدتر باشد.",
  unsure: "پاسخ‌هایی که احتمالشان از مقدار انتخاب‌شده کمتر است داده نمی‌شوند و «نامطمئن» نشان داده می‌شوند.",
  expression: "حالت چهره همان احساس نیست. با این پاسخ‌ها دربارهٔ آدم‌ها تصمیم نگیرید.",
  errors: {
    busy: "اکنون فایل‌های دیگری خوانده می‌شوند؛ چند ثانیهٔ دیگر دوباره تلاش کنید.",
    cameraDenied: "اجازهٔ استفاده از دوربین داده نشد. در مرورگر، کنار نشانی، اجازه دهید و دوباره تلاش کنید.",
    cameraMissing: "دوربینی پیدا نشد. دوربینی وصل کنید یا فایلی انتخاب کنید.",
    damaged: "فایل آسیب دیده است؛ آن را دوباره ذخیره کنید.",
    empty: "فایل خالی است؛ یک عکس JPEG، PNG، WebP یا TIFF یا یک ویدئوی MP4، MOV یا WebM بدهید.",
    failed: "این فایل خوانده نشد؛ فایل دیگری را امتحان کنید.",
    foreign: "این درخواست از صفحهٔ دیگری آمده است؛ نشانی همین صفحه را باز کنید.",
    unreadable: "فایل باز نمی‌شود؛ فایل دیگری انتخاب کنید. پوشه‌ها خوانده نمی‌شوند.",
    network: "سرور پاسخ نمی‌دهد. آیا fer-jax serve هنوز در حال اجراست؟",
    no_frames: "هیچ فریمی از این ویدئو خوانده نشد؛ شاید آسیب دیده باشد. آن را دوباره ذخیره کنید.",
    no_video_stream: "این فایل فقط صدا دارد؛ ویدئویی با تصویر بدهید.",
    not_a_picture: "این عکسی نیست که بتوان خواند؛ یک عکس JPEG، PNG، WebP یا TIFF بدهید.",
    not_a_video: "این نه عکس است و نه ویدئویی که بتوان خواند؛ یک عکس JPEG، PNG، WebP یا TIFF یا یک ویدئوی MP4، MOV یا WebM بدهید.",
    not_read: "این نوع عکس (مانند HEIC) خوانده نمی‌شود؛ آن را به JPEG یا PNG تبدیل کنید.",
    stalled: "فایل نرسید؛ دوباره بفرستید.",
    too_large: "تصویر بیش از ۶۷ میلیون پیکسل دارد؛ آن را کوچک‌تر کنید.",
    too_long: (facts) => `ویدئو از ${number(facts.minutes)} دقیقه بلندتر است؛ آن را کوتاه کنید یا صفحه را با --max_video_s بزرگ‌تر اجرا کنید.`,
    upload_too_large: (facts) => `فایل بیش از ${number(facts.megabytes)} مگابایت است؛ آن را کوچک‌تر کنید یا صفحه را با --max_upload_mb بزرگ‌تر اجرا کنید.`,
  },
};

const LANGUAGES = { en: ENGLISH, fa: PERSIAN };
let current = "en";
let emotions = { en: {}, fa: {} };

/** The code of the language of the page: "en" or "fa". */
export function language() {
  return current;
}

/** Switches to a language; an unknown code means English. The page keeps the code in its address. */
export function setLanguage(code) {
  current = code in LANGUAGES ? code : "en";
  document.documentElement.lang = current;
  document.documentElement.dir = current === "fa" ? "rtl" : "ltr";
  for (const element of document.querySelectorAll("[data-text]")) {
    element.textContent = text(element.dataset.text);
  }
  for (const element of document.querySelectorAll("[data-label]")) {
    element.setAttribute("aria-label", text(element.dataset.label));
  }
  document.title = `fer_jax · ${text("title")}`;
}

/** A text of the page; a text that contains values is a function of them. */
export function text(key, ...values) {
  const found = LANGUAGES[current][key];
  return typeof found === "function" ? found(...values) : found;
}

/** What went wrong, in the words of the page. */
export function errorText({ code, message, facts = {} }) {
  const found = LANGUAGES[current].errors[code];
  return (typeof found === "function" ? found(facts) : found) ?? message ?? LANGUAGES[current].errors.network;
}

/** Sets the names of emotions: by language and label. */
export function setEmotionNames(names) {
  emotions = names;
}

/** The name of an emotion; a label that is not known stays as it is. */
export function emotionName(label) {
  return emotions[current][label] ?? label;
}

/** A number with the digits of the language. */
export function number(value, digits = 0) {
  return new Intl.NumberFormat(current, { maximumFractionDigits: digits }).format(value);
}

/** A share of 0..1 in percent. */
export function percent(value, digits = 0) {
  return new Intl.NumberFormat(current, { style: "percent", maximumFractionDigits: digits }).format(value);
}
