// Numbers the people in front of the camera. The server cannot, since it reads each picture alone.

const LEAST_OVERLAP = 0.3; // of the boxes of a face in two pictures, as in fer_jax/faces/tracks.py

/**
 * Numbers people from 1. A face keeps its number while its boxes in consecutive pictures overlap. It
 * may be missing in between for at most `gap` seconds.
 */
export class People {
  #known = [];
  #count = 0;

  constructor(gap) {
    this.gap = gap;
  }

  /**
   * The faces of the next picture, taken at `time` in seconds, each with its `person`. Faces with the
   * largest overlap are linked first.
   */
  numbered(faces, time) {
    const known = this.#known.filter((one) => time - one.time <= this.gap);
    const pairs = known
      .flatMap((one) => faces.map((face) => ({ one, face, shared: overlap(one.box, face.box) })))
      .filter(({ shared }) => shared >= LEAST_OVERLAP)
      .sort((one, other) => other.shared - one.shared);
    const linked = new Map();
    const taken = new Set();
    for (const { one, face } of pairs) {
      if (linked.has(face) || taken.has(one)) continue;
      linked.set(face, one.person);
      taken.add(one);
    }
    const found = faces.map((face) => ({ ...face, person: linked.get(face) ?? ++this.#count }));
    const unseen = known.filter((one) => !taken.has(one));
    this.#known = [...unseen, ...found.map(({ person, box }) => ({ person, box, time }))];
    return found;
  }
}

/** The area that two boxes share, divided by the area that they cover. */
function overlap(one, other) {
  const side = (axis) => Math.min(one[axis + 2], other[axis + 2]) - Math.max(one[axis], other[axis]);
  const shared = Math.max(0, side(0)) * Math.max(0, side(1));
  return shared / (area(one) + area(other) - shared);
}

function area([x0, y0, x1, y1]) {
  return (x1 - x0) * (y1 - y0);
}
