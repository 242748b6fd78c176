// The 68 points of a face over its picture: drag them, or choose one and move it with the arrow keys.
window.AffettoPoints = (() => {
  "use strict";
  const { make, color, clamp, crisp, mount } = Affetto;
  const PARTS = { jaw: [0, 17], "right brow": [17, 22], "left brow": [22, 27], nose: [27, 31], nostrils: [31, 36], "right eye": [36, 42], "left eye": [42, 48], "outer lips": [48, 60], "inner lips": [60, 68] };
  const CLOSED = ["right eye", "left eye", "outer lips", "inner lips"];
  const partOf = (index) => Object.keys(PARTS).find((name) => index >= PARTS[name][0] && index < PARTS[name][1]);

  function build(root, api) {
    let value = {}, points = [], chosen = -1, drag = false, past = [], zoom = null, fresh = false, sent = "";
    const picture = new Image();
    const canvas = make("canvas", { tabindex: "0", role: "application", "aria-label": "Points of the face. Comma and full stop choose a point, the arrow keys move it by a pixel, with Shift by ten." });
    const told = make("span", { class: "pt-told", role: "status" });
    const button = (text, title, action) => make("button", { type: "button", text, title, onclick: action });
    const undo = button("Undo", "Undo (Ctrl+Z)", () => { if (past.length) { points = past.pop(); commit(); } });
    const reset = button("As found", "Back to the points that were found", () => { remember(); points = copy(value.found); commit(); });
    const near = button("Zoom to the face", "Show the face alone", () => { closeUp(!zoom); paint(); });
    const tools = make("div", { class: "tl-row pt-tools" }, undo, reset, near, told);
    const board = make("div", { class: "pt-board" }, canvas);
    root.append(board, tools);
    const copy = (given) => (given || []).map((each) => [...each]);

    function faceBox() {
      const [xs, ys] = [0, 1].map((axis) => points.map((point) => point[axis]));
      const [left, top, right, bottom] = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)], room = 0.22 * Math.max(right - left, bottom - top);
      return { x: left - room, y: top - 1.6 * room, w: right - left + 2 * room, h: bottom - top + 2.6 * room };
    }
    function closeUp(on) { zoom = on && points.length === 68 ? faceBox() : null; near.setAttribute("aria-pressed", String(Boolean(zoom))); }
    function view(width, height) {
      const [w, h] = value.size, box = zoom || { x: 0, y: 0, w, h }, scale = Math.min(width / box.w, height / box.h);
      return { scale, dx: (width - box.w * scale) / 2 - box.x * scale, dy: (height - box.h * scale) / 2 - box.y * scale };
    }
    function paint() {
      const ready = points.length === 68 && picture.complete && picture.naturalWidth;
      root.hidden = !value.image;
      tools.hidden = !ready;
      undo.disabled = !past.length;
      reset.disabled = JSON.stringify(points) === JSON.stringify(value.found);
      const moved = ready ? points.filter((point, index) => Math.hypot(point[0] - value.found[index][0], point[1] - value.found[index][1]) > 0.6).length : 0;
      told.textContent = chosen >= 0 ? `point ${chosen + 1} of the ${partOf(chosen)}${moved ? `, ${moved} moved` : ""}` : moved ? `${moved} of 68 moved by hand` : "68 points found: drag any that lies wrong";
      if (!value.image || !value.size) return;
      const [w, h] = value.size, wide = board.clientWidth || 300, tall = zoom ? 420 : clamp((wide * h) / w, 160, 420);
      const [pen, width, height] = crisp(canvas, tall), { scale, dx, dy } = view(width, height);
      if (picture.complete && picture.naturalWidth) pen.drawImage(picture, dx, dy, w * scale, h * scale);
      if (!ready) return;
      const at = (index) => [points[index][0] * scale + dx, points[index][1] * scale + dy];
      pen.lineWidth = 1.4;
      for (const [name, [start, stop]] of Object.entries(PARTS)) {
        pen.strokeStyle = "rgba(255,255,255,.75)"; pen.beginPath();
        for (let index = start; index < stop; index++) index === start ? pen.moveTo(...at(index)) : pen.lineTo(...at(index));
        if (CLOSED.includes(name)) pen.closePath();
        pen.stroke();
      }
      points.forEach((_, index) => {
        const here = index === chosen;
        pen.fillStyle = here ? "#fff" : color(root, "fill"); pen.strokeStyle = here ? color(root, "fill") : "#fff"; pen.lineWidth = here ? 3 : 1.2;
        pen.beginPath(); pen.arc(...at(index), here ? 6 : zoom ? 4 : 2.8, 0, 7); pen.fill(); pen.stroke();
      });
    }
    function remember() { past.push(copy(points)); if (past.length > 100) past.shift(); }
    function commit() {
      sent = JSON.stringify(points);
      api.props.value = { ...api.props.value, points: copy(points) };
      api.trigger("change");
      paint();
    }
    function place(event) {
      const box = canvas.getBoundingClientRect(), { scale, dx, dy } = view(box.width, box.height);
      return { x: (event.clientX - box.left - dx) / scale, y: (event.clientY - box.top - dy) / scale, scale };
    }
    const inside = ([x, y]) => [clamp(x, 0, value.size[0]), clamp(y, 0, value.size[1])].map((each) => +each.toFixed(1));
    canvas.addEventListener("pointerdown", (event) => {
      if (points.length !== 68) return;
      const { x, y, scale } = place(event);
      const [away, index] = points.map((point, at) => [Math.hypot(point[0] - x, point[1] - y) * scale, at]).sort((a, b) => a[0] - b[0])[0];
      chosen = away < 16 ? index : -1;
      if (chosen >= 0) { canvas.setPointerCapture(event.pointerId); remember(); drag = true; }
      paint();
    });
    canvas.addEventListener("pointermove", (event) => { if (!drag) return; const { x, y } = place(event); points[chosen] = inside([x, y]); paint(); });
    const released = () => { if (drag) { drag = false; commit(); } };
    canvas.addEventListener("pointerup", released);
    canvas.addEventListener("pointercancel", released);
    canvas.addEventListener("keydown", (event) => {
      const by = event.shiftKey ? 10 : 1, moves = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] };
      if ((event.ctrlKey || event.metaKey) && event.key === "z") { event.preventDefault(); undo.click(); return; }
      if (event.key === "," || event.key === ".") { chosen = (chosen + (event.key === "." ? 1 : 67) + 68) % 68; paint(); return; }
      if (!moves[event.key] || chosen < 0) return;
      event.preventDefault();
      remember();
      points[chosen] = inside([points[chosen][0] + moves[event.key][0], points[chosen][1] + moves[event.key][1]]);
      commit();
    });
    picture.addEventListener("load", paint);
    const resizing = new ResizeObserver(paint);
    resizing.observe(root.parentElement);
    return {
      update(given) {
        if (given.image !== value.image) { past = []; chosen = -1; fresh = true; if (given.image) picture.src = given.image; }
        value = given;
        if (JSON.stringify(given.points || []) !== sent) { points = copy(given.points); sent = JSON.stringify(points); }
        if (fresh) { closeUp(true); fresh = false; }
        paint();
      },
      close() { resizing.disconnect(); },
    };
  }
  return { mount: (api) => mount(api, "affetto-points", (root) => build(root, api)) };
})();
