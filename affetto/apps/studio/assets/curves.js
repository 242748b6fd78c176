// Emotion between keys: how each ease travels, the values at any second, and the handles that bend an ease by hand.
window.AffettoCurves = (() => {
  "use strict";
  const SIMPLE = ["linear", "hold", "cosine", "smoothstep", "catmull-rom"];
  const shape = { linear: (u) => u, hold: () => 0, cosine: (u) => (1 - Math.cos(Math.PI * u)) / 2, smoothstep: (u) => u * u * (3 - 2 * u), "catmull-rom": (u) => u };
  // Where the handles of an ease stand before anyone has drawn them: x and y of both, 0..1 across the segment.
  const AS_BEZIER = { linear: [1 / 3, 1 / 3, 2 / 3, 2 / 3], hold: [1, 0, 1, 0], cosine: [0.3642, 0, 0.6358, 1], smoothstep: [1 / 3, 0, 2 / 3, 1], "catmull-rom": [1 / 3, 1 / 3, 2 / 3, 2 / 3] };

  function numbers(ease) {
    const found = /^(?:cubic-)?bezier\(([^)]*)\)$/.exec(ease || "");
    return found ? found[1].split(",").map(Number) : null;
  }
  const handles = (ease) => numbers(ease) || AS_BEZIER[ease] || AS_BEZIER.linear;
  const bezier = (four) => `bezier(${four.map((each) => +each.toFixed(3)).join(",")})`;
  function weight(ease, u) {
    const four = numbers(ease);
    if (!four) return (shape[ease] || shape.linear)(u);
    if (u <= 0 || u >= 1) return Math.max(0, Math.min(1, u));
    const [x1, y1, x2, y2] = four, at = (a, b, s) => 3 * (1 - s) ** 2 * s * a + 3 * (1 - s) * s * s * b + s ** 3;
    let low = 0, high = 1;
    for (let turn = 0; turn < 30; turn++) { const middle = (low + high) / 2; if (at(x1, x2, middle) < u) low = middle; else high = middle; }
    return at(y1, y2, (low + high) / 2);
  }
  const felt = (key) => ({ v: key.v * key.i, a: key.a * key.i, d: key.d * key.i, i: key.i });
  function sampled(keys, seconds) {
    if (!keys.length) return { v: 0, a: 0, d: 0, i: 0 };
    const after = keys.findIndex((each) => each.t > seconds);
    if (after === 0) return felt(keys[0]);
    if (after < 0) return felt(keys[keys.length - 1]);
    const [one, two] = [keys[after - 1], keys[after]], long = two.t - one.t || 1, u = (seconds - one.t) / long;
    const [x, y] = [felt(one), felt(two)];
    if (one.ease !== "catmull-rom") {
      const share = weight(one.ease, u);
      return Object.fromEntries(Object.keys(x).map((name) => [name, x[name] + share * (y[name] - x[name])]));
    }
    const slope = (index) => {
      const [before, next] = [keys[Math.max(index - 1, 0)], keys[Math.min(index + 1, keys.length - 1)]];
      return (name) => (felt(next)[name] - felt(before)[name]) / Math.max(next.t - before.t, 1e-9);
    };
    const [out, into] = [slope(after - 1), slope(after)];
    return Object.fromEntries(Object.keys(x).map((name) => [name,
      (2 * u ** 3 - 3 * u * u + 1) * x[name] + (u ** 3 - 2 * u * u + u) * long * out(name) + (3 * u * u - 2 * u ** 3) * y[name] + (u ** 3 - u * u) * long * into(name)]));
  }
  return { SIMPLE, handles, bezier, numbers, weight, sampled };
})();
