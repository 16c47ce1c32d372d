// Requests to the server of this page.

/** A failed request; `code` names the kind of problem. */
export class ServerError extends Error {
  constructor({ code, message, facts }) {
    super(message);
    Object.assign(this, { code, facts });
  }
}

/** The description of the model, and the limits of the server. */
export async function fetchModel() {
  return (await send("api/model")).json();
}

/** The faces of a picture. */
export async function readPicture(blob, signal) {
  return (await send("api/picture", blob, signal)).json();
}

/** The lines of the response to a video, one after the other, while it is read. */
export async function* readVideo(blob, signal) {
  const response = await send("api/video", blob, signal);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await failingAsNetwork(reader.read());
    const lines = (rest + (value ?? "")).split("\n");
    rest = lines.pop();
    for (const line of lines) {
      const answer = JSON.parse(line);
      if (answer.error) throw new ServerError(answer.error);
      yield answer;
    }
    if (done) return;
  }
}

async function send(address, body, signal) {
  const request = body ? { method: "POST", body, signal } : { signal };
  const response = await failingAsNetwork(fetch(address, request));
  if (!response.ok) {
    const answer = await response.json().catch(() => ({}));
    throw new ServerError(answer.error ?? { code: "failed" });
  }
  return response;
}

async function failingAsNetwork(promise) {
  try {
    return await promise;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ServerError({ code: "network" });
  }
}
