// What is heard, on the timeline's axis: the waveform with its words, and the music's notes and beats.
window.AffettoLanes = (() => {
  "use strict";
  const { color, crisp } = Affetto;
  const WAVE = 38, WORDS = 28, ROLL = 40;

  // Times of the recording and of what was made from it: a converted voice may speak slower or faster.
  function warp(knots) {
    const table = knots && knots.length > 1 ? knots : [[0, 0], [1, 1]];
    const along = (from, to) => (at) => {
      const next = table.findIndex((knot) => knot[from] >= at), last = table.length - 1;
      if (next === 0) return table[0][to] + at - table[0][from];
      if (next < 0) return table[last][to] + at - table[last][from];
      const [a, b] = [table[next - 1], table[next]];
      return a[to] + ((at - a[from]) / (b[from] - a[from] || 1)) * (b[to] - a[to]);
    };
    return { toSource: along(1, 0), toHeard: along(0, 1) };
  }

  function paint(canvas, root, heard, x, now) {
    const { peaks = [], notes = [], words = [], beats = [] } = heard;
    const tall = (peaks.length ? WAVE : 0) + (words.length ? WORDS : 0) + (notes.length ? ROLL : 0);
    canvas.hidden = !tall;
    if (!tall) return;
    const [pen, width, height] = crisp(canvas, tall + 4), { toSource } = warp(heard.warp);
    const place = (seconds) => x(toSource(seconds), width);
    let top = 2;
    if (peaks.length) {
      const loudest = Math.max(...peaks, 1e-3), step = (heard.peaksSeconds || heard.duration) / peaks.length;
      pen.fillStyle = color(root, "accent");
      peaks.forEach((peak, index) => {
        const left = place(index * step), tallness = Math.max((peak / loudest) * (WAVE - 6), 1);
        pen.globalAlpha = index * step <= now ? 1 : 0.55;
        pen.fillRect(left, top + (WAVE - tallness) / 2, Math.max(place((index + 1) * step) - left - 0.4, 0.6), tallness);
      });
      pen.globalAlpha = 1;
      top += WAVE;
    }
    if (words.length) {
      pen.font = "11px system-ui";
      const free = [0, 0];  // two rows, so that short words have room
      for (const [word, start, stop] of words) {
        const left = x(start, width), room = x(stop, width) - left, heardNow = toSource(now) >= start && toSource(now) < stop;
        pen.fillStyle = color(root, heardNow ? "accent" : "line");
        pen.fillRect(left, top, Math.max(room - 1.5, 1), 2);
        pen.fillStyle = color(root, heardNow ? "accent" : "soft");
        const row = free[0] <= left ? 0 : free[1] <= left ? 1 : -1, size = pen.measureText(word).width;
        if (row < 0 || left + size > width - 2) continue;
        pen.fillText(word, left, top + 13 + 12 * row);
        free[row] = left + size + 5;
      }
      top += WORDS;
    }
    if (notes.length) {
      const pitches = notes.map((note) => note[2]), low = Math.min(...pitches) - 1, span = Math.max(...pitches) + 1 - low;
      pen.fillStyle = color(root, "line");
      for (const beat of beats) pen.fillRect(place(beat), top + 2, 1, ROLL - 4);
      for (const [start, long, pitch, velocity] of notes) {
        const left = place(start);
        pen.globalAlpha = 0.4 + 0.6 * (velocity / 127);
        pen.fillStyle = color(root, now >= start && now < start + long ? "valence" : "dominance");
        pen.fillRect(left, top + ROLL - 3 - ((pitch - low) / span) * (ROLL - 6), Math.max(place(start + long) - left - 0.8, 1.5), 2.5);
      }
      pen.globalAlpha = 1;
    }
    pen.fillStyle = color(root, "ink");
    pen.fillRect(place(now) - 0.75, 0, 1.5, height);
  }

  // Where keys may jump to, in seconds of the recording: word starts (else where the voice sets in), and beats.
  function marks(heard, onsets, what) {
    const { toSource } = warp(heard.warp), words = (heard.words || []).map((each) => each[1]);
    return [...(what === "beats" ? [] : words.length ? words : onsets || []), ...(what === "words" ? [] : (heard.beats || []).map(toSource))];
  }
  return { paint, warp, marks };
})();
