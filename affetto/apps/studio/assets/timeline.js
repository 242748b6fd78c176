// The emotion timeline: what is heard, and below it keys with curves of valence, arousal, dominance and intensity; a pad; names; trims.
window.AffettoTimeline = (() => {
  "use strict";
  const { make, color, clamp, clock, crisp, time, heard, mount } = Affetto;
  const { SIMPLE, handles, bezier, numbers, weight } = AffettoCurves;
  const HEIGHT = 224, LANE = 44, PAD = 200, CURVES = ["valence", "arousal", "dominance"], EDGE = 14;
  const EASES = [...SIMPLE, "bezier"];
  const MODALITIES = ["voice", "face", "portrait", "music"];
  const emptyTrims = () => Object.fromEntries(MODALITIES.map((name) => [name, { gain: 1, lag: 0 }]));
  const copyOf = (thing) => JSON.parse(JSON.stringify(thing));

  function build(root, api) {
    let state = { keys: [], duration: 8, labels: {}, trims: emptyTrims(), snaps: [] };
    let chosen = 0, past = [], future = [], clipboard = null, drag = null, sent = "", project = null, bars = {}, asked = 0;

    // ---- parts
    const button = (label, title, action) => make("button", { type: "button", text: label, title, "aria-label": title, onclick: action });
    const undo = button("Undo", "Undo (Ctrl+Z)", () => step(past, future));
    const redo = button("Redo", "Redo (Ctrl+Shift+Z)", () => step(future, past));
    const remove = button("Delete", "Delete the chosen key (Del)", removeKey);
    const ease = make("select", { "aria-label": "How the way to the next key runs", onchange: () => change(() => { key().ease = ease.value === "bezier" ? bezier(handles(key().ease)) : ease.value; }) }, ...EASES.map((name) => make("option", { value: name, text: name })));
    const snap = make("select", { "aria-label": "What keys jump to when they are moved" }, ...[["all", "words and beats"], ["words", "words"], ["beats", "beats"], ["tenths", "tenths of a second"], ["off", "nothing"]].map(([value, text]) => make("option", { value, text })));
    const readout = make("span", { class: "tl-time", role: "status" });
    const lanes = make("canvas", { class: "tl-lanes", role: "img", "aria-label": "Waveform, words and notes" });
    const curve = make("canvas", { tabindex: "0", role: "application", "aria-label": "Emotion timeline. Arrow keys move the chosen key, Tab through the keys with comma and full stop, Enter adds one at the playhead, Delete removes it." });
    const pad = make("canvas", { tabindex: "0", role: "application", "aria-label": "Circumplex: valence to the right, arousal upwards. Arrow keys move the chosen key." });
    const chips = make("div", { class: "tl-chips", role: "group", "aria-label": "Named emotions" });
    const legend = make("div", { class: "tl-legend", "aria-hidden": "true" }, ...[...CURVES, "intensity"].map((name) => make("span", { "data-curve": name, text: name })));
    const sliders = {};
    const slider = (name, label, low, high) => {
      const value = make("output", {});
      const input = make("input", { type: "range", min: low, max: high, step: "0.05", "aria-label": label,
        oninput: () => { if (!drag) remember(); drag = drag || "slider"; edit(name, Number(input.value)); },
        onchange: () => { drag = null; commit(); } });
      sliders[name] = { input, value };
      return make("div", { class: "tl-slider" }, make("span", { text: label }), input, value);
    };
    const mixture = make("div", { class: "tl-bars", role: "img", "aria-label": "Mixture of named emotions at the playhead" });
    const trims = make("div", { class: "tl-trims" });
    const trimInputs = {};
    for (const name of MODALITIES) {
      const field = (what, low, high, stepSize, label) => {
        const input = make("input", { type: "number", min: low, max: high, step: stepSize, "aria-label": `${name} ${label}`,
          onchange: () => change(() => { state.trims[name][what] = clamp(Number(input.value) || 0, low, high); }) });
        trimInputs[`${name}.${what}`] = input;
        return make("label", {}, make("span", { text: label }), input);
      };
      trims.append(make("fieldset", {}, make("legend", { text: name }), field("gain", 0, 2, 0.1, "gain"), field("lag", -2, 2, 0.05, "lag, s")));
    }
    root.append(
      make("div", { class: "tl-row tl-tools" }, button("Add key", "Add a key at the playhead (Enter)", () => addKey(here())), remove, undo, redo,
        button("Copy", "Copy the chosen key (Ctrl+C)", copy), button("Paste", "Paste at the playhead (Ctrl+V)", paste),
        make("label", { class: "tl-ease" }, make("span", { text: "to next" }), ease), make("label", { class: "tl-ease", title: "Keys that are moved jump to where words begin and beats fall" }, make("span", { text: "snap to" }), snap)),
      make("div", { class: "tl-main" }, make("div", {}, lanes, curve, make("div", { class: "tl-under" }, legend, readout), chips, trims),
        make("div", { class: "tl-side" }, pad, slider("d", "dominance", -1, 1), slider("i", "intensity", 0, 1.5), make("div", { class: "tl-title", text: "at the playhead" }), mixture)));

    // ---- state
    const key = () => state.keys[chosen];
    const document_ = () => ({ keys: state.keys, trims: state.trims });
    function remember() { past.push(JSON.stringify(document_())); if (past.length > 200) past.shift(); future = []; }
    function change(action) { remember(); action(); commit(); }
    function step(from, to) {
      if (!from.length) return;
      to.push(JSON.stringify(document_()));
      Object.assign(state, JSON.parse(from.pop()));
      chosen = clamp(chosen, 0, state.keys.length - 1);
      commit();
    }
    function commit() {
      state.keys.sort((a, b) => a.t - b.t);
      sent = JSON.stringify(document_());
      api.props.value = { ...api.props.value, ...copyOf(document_()) };
      api.trigger("change");
      paint();
    }
    const sampled = (seconds) => AffettoCurves.sampled(state.keys, seconds);
    const axis = () => AffettoLanes.warp(heard.value.warp);
    const here = () => axis().toSource(time.seconds);
    const go = (at) => time.tell(Math.max(axis().toHeard(at), 0), "timeline");
    const reach = () => Math.max(state.duration, axis().toSource(heard.value.duration || 0));
    function snapped(seconds) {
      if (snap.value === "off") return clamp(seconds, 0, state.duration);
      const marks = snap.value === "tenths" ? [] : AffettoLanes.marks(heard.value, state.snaps, snap.value);
      const near = marks.filter((at) => Math.abs(at - seconds) < 0.14).sort((a, b) => Math.abs(a - seconds) - Math.abs(b - seconds))[0];
      return clamp(near ?? Math.round(seconds * 10) / 10, 0, state.duration);
    }
    function addKey(seconds) {
      const at = snapped(seconds), there = state.keys.findIndex((each) => Math.abs(each.t - at) < 0.01);
      if (there >= 0) { chosen = there; paint(); return; }
      change(() => {
        const now = sampled(at), i = Math.max(now.i, 0.01);
        const fresh = { t: at, label: null, v: clamp(now.v / i, -1, 1), a: clamp(now.a / i, -1, 1), d: clamp(now.d / i, -1, 1), i: now.i < 0.05 ? 1 : now.i, ease: "linear" };
        if (now.i < 0.05) Object.assign(fresh, { label: "happy", ...named("happy") });
        state.keys.push(fresh);
        state.keys.sort((a, b) => a.t - b.t);
        chosen = state.keys.indexOf(fresh);
      });
    }
    function removeKey() {
      if (state.keys.length < 2) return;
      change(() => { state.keys.splice(chosen, 1); chosen = clamp(chosen, 0, state.keys.length - 1); });
    }
    function copy() { clipboard = copyOf(key() || {}); }
    function paste() {
      if (!clipboard || clipboard.v === undefined) return;
      change(() => {
        const at = snapped(here());
        state.keys = state.keys.filter((each) => Math.abs(each.t - at) >= 0.01);
        const fresh = { ...clipboard, t: at };
        state.keys.push(fresh);
        state.keys.sort((a, b) => a.t - b.t);
        chosen = state.keys.indexOf(fresh);
      });
    }
    const named = (label) => { const [v, a, d] = state.labels[label] || [0, 0, 0]; return { v, a, d }; };
    function edit(name, value) {
      const each = key();
      if (!each) return;
      if (name === "i") each.i = value; else { each[name] = value; each.label = null; }
      paint();
    }
    function setLabel(label) {
      if (key()) change(() => Object.assign(key(), named(label), { label, i: label === "neutral" ? 0 : key().i || 1 }));
    }

    // ---- drawing
    const x = (seconds, width) => EDGE + (seconds / reach()) * (width - 2 * EDGE);
    const seconds = (px, width) => clamp(((px - EDGE) / (width - 2 * EDGE)) * reach(), 0, reach());
    const y = (value) => LANE + 8 + (1 - (value + 1) / 2) * (HEIGHT - LANE - 28);
    function paint() {
      paintLanes(); paintCurve(); paintPad();
      undo.disabled = !past.length; redo.disabled = !future.length; remove.disabled = state.keys.length < 2;
      const each = key();
      for (const child of chips.children) child.setAttribute("aria-pressed", String(Boolean(each) && each.label === child.dataset.label));
      if (each) {
        ease.value = numbers(each.ease) ? "bezier" : SIMPLE.includes(each.ease) ? each.ease : "linear";
        for (const [name, part] of Object.entries(sliders)) { part.input.value = each[name]; part.value.textContent = Number(each[name]).toFixed(2); }
      }
      for (const [name, input] of Object.entries(trimInputs)) {
        const [modality, what] = name.split(".");
        if (document.activeElement !== input) input.value = state.trims[modality][what];
      }
      readout.textContent = each ? `key ${chosen + 1} of ${state.keys.length} at ${clock(each.t)}, ${each.label || "between names"}` : "";
      paintBars();
    }
    function paintLanes() { AffettoLanes.paint(lanes, root, heard.value, x, time.seconds); }
    // The handles of the chosen key: they bend the way to the next key. Up is arrived, down is not yet left.
    function grips(width) {
      const one = key(), two = state.keys[chosen + 1];
      if (!two || x(two.t, width) - x(one.t, width) < 40) return null;
      const at = (u, w) => [x(one.t + u * (two.t - one.t), width), y(-1) - w * (y(-1) - y(1))];
      const [x1, y1, x2, y2] = handles(one.ease);
      return { at, one, two, ends: [at(0, 0), at(1, 1)], points: [at(x1, y1), at(x2, y2)] };
    }
    function paintGrips(pen, width) {
      const found = grips(width);
      if (!found) return;
      pen.strokeStyle = pen.fillStyle = color(root, "accent");
      pen.lineWidth = 1.25; pen.setLineDash([2, 3]); pen.beginPath();
      for (let step = 0; step <= 40; step++) { const [px, py] = found.at(step / 40, weight(found.one.ease, step / 40)); step ? pen.lineTo(px, py) : pen.moveTo(px, py); }
      pen.stroke(); pen.setLineDash([]);
      found.points.forEach(([px, py], index) => {
        pen.globalAlpha = 0.55; pen.beginPath(); pen.moveTo(...found.ends[index]); pen.lineTo(px, py); pen.stroke(); pen.globalAlpha = 1;
        pen.fillStyle = color(root, "panel"); pen.lineWidth = 2; pen.beginPath(); pen.roundRect(px - 5, py - 5, 10, 10, 3); pen.fill(); pen.stroke(); pen.lineWidth = 1.25;
      });
    }
    function paintCurve() {
      const [pen, width, height] = crisp(curve, HEIGHT);
      pen.font = "11px system-ui";
      pen.strokeStyle = color(root, "line"); pen.fillStyle = color(root, "soft"); pen.lineWidth = 1;
      const tick = [0.5, 1, 2, 5, 10, 30, 60].find((each) => (each / reach()) * (width - 2 * EDGE) > 44) || 120;
      for (let at = 0; at <= reach() + 1e-6; at += tick) {
        pen.beginPath(); pen.moveTo(x(at, width), LANE); pen.lineTo(x(at, width), height - 16); pen.stroke();
        pen.fillText(`${+at.toFixed(1)}`, x(at, width) + 3, height - 4);
      }
      pen.setLineDash([3, 4]); pen.beginPath(); pen.moveTo(EDGE, y(0)); pen.lineTo(width - EDGE, y(0)); pen.stroke(); pen.setLineDash([]);
      pen.fillStyle = color(root, "soft"); pen.globalAlpha = 0.6;
      for (const at of AffettoLanes.marks(heard.value, state.snaps, snap.value)) if (!["off", "tenths"].includes(snap.value)) pen.fillRect(x(at, width) - 0.5, height - 21, 1, 6);
      if (reach() > state.duration) { pen.globalAlpha = 0.5; pen.fillStyle = color(root, "line"); pen.fillRect(x(state.duration, width), LANE, 1.5, height - LANE - 16); pen.fillStyle = color(root, "panel"); pen.fillRect(x(state.duration, width) + 1.5, LANE, width, height - LANE - 16); }
      pen.globalAlpha = 0.16; pen.fillStyle = color(root, "intensity"); pen.beginPath(); pen.moveTo(EDGE, y(-1));
      for (let px = EDGE; px <= width - EDGE; px += 3) pen.lineTo(px, y(-1) - Math.min(sampled(seconds(px, width)).i, 1.5) / 1.5 * (y(-1) - y(1)));
      pen.lineTo(width - EDGE, y(-1)); pen.fill(); pen.globalAlpha = 1;
      for (const name of CURVES) {
        pen.strokeStyle = color(root, name); pen.lineWidth = 2; pen.beginPath();
        for (let px = EDGE; px <= width - EDGE; px += 2) { const value = y(sampled(seconds(px, width))[name[0]]); px === EDGE ? pen.moveTo(px, value) : pen.lineTo(px, value); }
        pen.stroke();
      }
      let taken = -Infinity, lower = false;  // names that would overlap stand on two levels
      state.keys.forEach((each, index) => {
        const at = x(each.t, width), here = index === chosen;
        pen.strokeStyle = here ? color(root, "accent") : color(root, "line"); pen.lineWidth = here ? 2 : 1;
        pen.beginPath(); pen.moveTo(at, LANE - 6); pen.lineTo(at, height - 16); pen.stroke();
        const word = each.label ? `${each.label}${each.i && each.i !== 1 ? ` ${each.i.toFixed(1)}` : ""}` : "\u25cf";
        const size = pen.measureText(word).width + 14, left = clamp(at - size / 2, 2, width - size - 2);
        lower = left < taken && !lower;
        taken = Math.max(taken, left + size + 2);
        const top = lower ? 22 : 2;
        pen.fillStyle = color(root, here ? "fill" : "panel"); pen.strokeStyle = color(root, here ? "fill" : "line");
        pen.beginPath(); pen.roundRect(left, top, size, 18, 9); pen.fill(); pen.stroke();
        pen.fillStyle = here ? "#fff" : color(root, "ink"); pen.fillText(word, left + 7, top + 13);
        for (const name of CURVES) {
          pen.fillStyle = color(root, name); pen.beginPath(); pen.arc(at, y(each[name[0]] * each.i), here ? 5 : 3.5, 0, 7); pen.fill();
        }
      });
      paintGrips(pen, width);
      pen.strokeStyle = color(root, "ink"); pen.lineWidth = 1.5; pen.beginPath();
      pen.moveTo(x(here(), width), 0); pen.lineTo(x(here(), width), height); pen.stroke();
    }
    const padReach = (width, height) => Math.min(width, height) / 2 - 12;
    function paintPad() {
      const [pen, width, height] = crisp(pad, PAD);
      const reach = padReach(width, height), px = (v) => width / 2 + v * reach, py = (a) => height / 2 - a * reach;
      pen.strokeStyle = color(root, "line"); pen.beginPath();
      pen.moveTo(8, height / 2); pen.lineTo(width - 8, height / 2); pen.moveTo(width / 2, 8); pen.lineTo(width / 2, height - 8); pen.stroke();
      pen.beginPath(); pen.arc(width / 2, height / 2, reach, 0, 7); pen.stroke();
      pen.font = "10px system-ui"; pen.fillStyle = color(root, "soft"); pen.textAlign = "center";
      const taken = [];  // names keep clear of each other: above, below, right or left of their point
      for (const [label, [v, a]] of Object.entries(state.labels)) {
        if (label === "neutral") continue;
        const at = [px(v), py(a)], wide = pen.measureText(label).width;
        pen.beginPath(); pen.arc(at[0], at[1], 2, 0, 7); pen.fill();
        const tries = [[0, -5], [0, 13], [wide / 2 + 6, 3.5], [-wide / 2 - 6, 3.5], [0, -15], [0, 23], [wide / 2 + 6, 12], [-wide / 2 - 6, -6]]
          .map(([dx, dy]) => ({ x: clamp(at[0] + dx, wide / 2 + 3, width - wide / 2 - 3), y: at[1] + dy }));
        const free = (spot) => taken.every((box) => Math.abs(box.x - spot.x) > (box.wide + wide) / 2 + 2 || Math.abs(box.y - spot.y) > 10);
        const spot = tries.find(free) || tries[0];
        taken.push({ ...spot, wide });
        pen.fillText(label, spot.x, spot.y);
      }
      pen.textAlign = "start";
      const each = key();
      if (!each) return;
      pen.fillStyle = color(root, "accent"); pen.beginPath(); pen.arc(px(each.v * Math.min(each.i, 1)), py(each.a * Math.min(each.i, 1)), 7, 0, 7); pen.fill();
      pen.strokeStyle = color(root, "accent"); pen.beginPath(); pen.arc(px(each.v), py(each.a), 9, 0, 7); pen.stroke();
    }
    function paintBars() {
      const rows = Object.entries(bars).sort((a, b) => b[1] - a[1]).slice(0, 5);
      mixture.replaceChildren(...rows.flatMap(([name, share]) => {
        const bar = make("i", {}); bar.style.width = `${Math.round(100 * share)}%`;
        return [make("span", { text: name }), bar, make("span", { text: `${Math.round(100 * share)}%` })];
      }));
    }
    function aloneAt(seconds) {
      // The one name between two keys of which each has that name or is neutral; null where emotions cross.
      const after = state.keys.findIndex((each) => each.t > seconds), last = state.keys.length - 1;
      const ends = after === 0 ? [0] : after < 0 ? [last] : [after - 1, after];
      const names = ends.map((index) => state.keys[index]).filter((each) => each && each.i > 0.01 && each.label !== "neutral").map((each) => each.label);
      return names.length && names.every((name) => name && name === names[0]) ? names[0] : null;
    }
    async function ask() {
      const now = sampled(here()), turn = ++asked, alone = now.i < 0.02 ? "neutral" : aloneAt(here());
      if (alone) { bars = { [alone]: 1 }; paintBars(); return; }
      await new Promise((done) => setTimeout(done, 120));
      if (turn !== asked) return;
      const full = [now.v, now.a, now.d].map((value) => clamp(value / now.i, -1, 1));
      const answer = await api.server.mixture_at(full).catch(() => null);
      if (answer && turn === asked) { bars = answer; paintBars(); }
    }

    // ---- hands
    const place = (event, canvas) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top, box.width, box.height]; };
    curve.addEventListener("pointerdown", (event) => {
      curve.setPointerCapture(event.pointerId);
      const [px, py, width] = place(event, curve);
      const grip = (grips(width)?.points || []).findIndex(([gx, gy]) => Math.hypot(gx - px, gy - py) < 10);
      if (grip >= 0) { remember(); drag = `grip${grip}`; return; }
      const near = state.keys.map((each, index) => [Math.abs(x(each.t, width) - px), index]).sort((a, b) => a[0] - b[0])[0];
      if (near && near[0] < 10) {
        chosen = near[1];
        const handle = py > LANE && CURVES.find((name) => Math.abs(y(key()[name[0]] * key().i) - py) < 8);
        remember();
        drag = handle ? handle[0] : "time";
      } else { drag = "playhead"; go(seconds(px, width)); }
      paint();
    });
    curve.addEventListener("pointermove", (event) => {
      if (!drag) return;
      const [px, py, width] = place(event, curve);
      if (drag === "playhead") { go(seconds(px, width)); return; }
      const each = key();
      if (drag.startsWith("grip")) bend(Number(drag.slice(4)), px, py, width);
      else if (drag === "time") {
        const low = chosen ? state.keys[chosen - 1].t + 0.02 : 0, high = chosen < state.keys.length - 1 ? state.keys[chosen + 1].t - 0.02 : state.duration;
        each.t = clamp(snapped(seconds(px, width)), low, high);
      } else if (each.i > 0.01) { each[drag] = clamp((1 - (py - LANE - 8) / (HEIGHT - LANE - 28) * 2) / each.i, -1, 1); each.label = null; }
      paint();
    });
    function bend(which, px, py, width) {
      const one = key(), two = state.keys[chosen + 1];
      if (!two) return;
      const four = [...handles(one.ease)];
      four[2 * which] = clamp((seconds(px, width) - one.t) / (two.t - one.t), 0, 1);
      four[2 * which + 1] = clamp((y(-1) - py) / (y(-1) - y(1)), 0, 1);
      one.ease = bezier(four);
    }
    lanes.addEventListener("pointerdown", (event) => { lanes.setPointerCapture(event.pointerId); drag = "lanes"; const [px, , width] = place(event, lanes); go(seconds(px, width)); });
    lanes.addEventListener("pointermove", (event) => { if (drag === "lanes") { const [px, , width] = place(event, lanes); go(seconds(px, width)); } });
    lanes.addEventListener("pointerup", () => { drag = null; });
    const released = () => { const was = drag; drag = null; if (was && was !== "playhead" && was !== "slider") commit(); };
    curve.addEventListener("pointerup", released);
    curve.addEventListener("pointercancel", released);
    curve.addEventListener("dblclick", (event) => { const [px, , width] = place(event, curve); addKey(seconds(px, width)); });
    const padTo = (event) => {
      const [px, py, width, height] = place(event, pad), each = key();
      if (!each) return;
      Object.assign(each, { v: clamp((px - width / 2) / padReach(width, height), -1, 1), a: clamp((height / 2 - py) / padReach(width, height), -1, 1), label: null });
      if (each.i < 0.05) each.i = 1;
      paint();
    };
    pad.addEventListener("pointerdown", (event) => { pad.setPointerCapture(event.pointerId); remember(); drag = "pad"; padTo(event); });
    pad.addEventListener("pointermove", (event) => { if (drag === "pad") padTo(event); });
    pad.addEventListener("pointerup", released);
    pad.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: ["v", -0.05], ArrowRight: ["v", 0.05], ArrowUp: ["a", 0.05], ArrowDown: ["a", -0.05] }[event.key];
      if (!move || !key()) return;
      event.preventDefault();
      change(() => { key()[move[0]] = clamp(key()[move[0]] + move[1], -1, 1); key().label = null; });
    });
    curve.addEventListener("keydown", (event) => {
      const nudge = event.shiftKey ? 0.5 : 0.1, control = event.ctrlKey || event.metaKey;
      const actions = {
        ArrowLeft: () => change(() => { key().t = clamp(key().t - nudge, chosen ? state.keys[chosen - 1].t + 0.02 : 0, state.duration); }),
        ArrowRight: () => change(() => { key().t = clamp(key().t + nudge, 0, chosen < state.keys.length - 1 ? state.keys[chosen + 1].t - 0.02 : state.duration); }),
        Enter: () => addKey(here()), Delete: removeKey, Backspace: removeKey,
        ",": () => { chosen = clamp(chosen - 1, 0, state.keys.length - 1); paint(); }, ".": () => { chosen = clamp(chosen + 1, 0, state.keys.length - 1); paint(); },
      };
      const controls = { z: () => (event.shiftKey ? step(future, past) : step(past, future)), y: () => step(future, past), c: copy, v: paste };
      const action = control ? controls[event.key.toLowerCase()] : actions[event.key];
      if (action && key()) { event.preventDefault(); event.stopPropagation(); action(); }
    });
    const stops = [time.hear(() => { paintLanes(); paintCurve(); ask(); }), heard.hear(() => paint())];
    snap.addEventListener("change", () => paintCurve());
    const resizing = new ResizeObserver(() => paint());
    resizing.observe(root);

    return {
      update(value) {
        const labels = JSON.stringify(value.labels || {});
        if (labels !== JSON.stringify(state.labels) || !chips.children.length) {
          chips.replaceChildren(...Object.keys(value.labels || {}).map((label) => {
            const chip = make("button", { type: "button", text: label, "aria-pressed": "false", onclick: () => setLabel(label) });
            chip.dataset.label = label;
            return chip;
          }));
        }
        state.labels = value.labels || {}; state.duration = Math.max(value.duration || 8, 0.5); state.snaps = value.snaps || [];
        const incoming = JSON.stringify({ keys: value.keys || [], trims: value.trims || emptyTrims() });
        if (incoming !== sent) {
          if (value.project !== project) { past = []; future = []; chosen = 0; } else if (sent) remember();
          project = value.project;
          Object.assign(state, JSON.parse(incoming));
          sent = incoming;
          chosen = clamp(chosen, 0, Math.max(state.keys.length - 1, 0));
        }
        paint(); ask();
      },
      close() { for (const stop of stops) stop(); resizing.disconnect(); },
    };
  }
  return { mount: (api) => mount(api, "affetto-timeline", (root) => build(root, api)) };
})();
