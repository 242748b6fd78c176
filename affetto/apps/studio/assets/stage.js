// The stage: one clock drives video, 3D head, waveform, piano roll and the timeline's playhead.
window.AffettoStage = (() => {
  "use strict";
  const { make, color, clamp, clock, crisp, time, mount } = Affetto;
  const SPEEDS = [0.25, 0.5, 1, 1.5, 2];
  const VIEWER = document.currentScript.src.replace("stage.js", "viewer.js");
  let fetched = null;
  // The 3D viewer is large: it is fetched with the first head.
  const viewerScript = () => (fetched = fetched || new Promise((done, failed) => document.head.append(make("script", { src: VIEWER, onload: () => done(window.AffettoViewer), onerror: () => { fetched = null; failed(new Error("no viewer")); } }))));

  function build(root, api) {
    let value = {}, shown = "", media = null, viewer = null, duration = 0, frame = 0, free = null, speed = 1, fps = 25;
    const play = make("button", { type: "button", class: "play", text: "Play", title: "Play or pause (space, K)", onclick: () => toggle() });
    const slow = make("button", { type: "button", text: "\u2212", title: "Slower (J)", "aria-label": "Slower", onclick: () => pace(-1) });
    const fast = make("button", { type: "button", text: "+", title: "Faster (L)", "aria-label": "Faster", onclick: () => pace(1) });
    const back = make("button", { type: "button", text: "\u25c2", title: "One frame back (left arrow)", "aria-label": "One frame back", onclick: () => seek(time.seconds - 1 / fps) });
    const on = make("button", { type: "button", text: "\u25b8", title: "One frame on (right arrow)", "aria-label": "One frame on", onclick: () => seek(time.seconds + 1 / fps) });
    const front = make("button", { type: "button", text: "Front view", title: "Turn the head to the front", onclick: () => viewer && viewer.home() });
    const scrub = make("input", { type: "range", min: 0, max: 1000, value: 0, "aria-label": "Playhead", oninput: () => seek((scrub.value / 1000) * duration) });
    const readout = make("output", {});
    const views = make("div", { class: "st-views" });
    const wave = make("canvas", { role: "img", "aria-label": "Waveform" });
    const roll = make("canvas", { role: "img", "aria-label": "Piano roll" });
    const strips = make("div", { class: "st-strip" }, wave, roll);
    root.setAttribute("tabindex", "0");
    root.setAttribute("role", "region");
    root.setAttribute("aria-label", "Stage");
    root.append(views, make("div", { class: "st-transport" }, play, back, on, slow, fast, front, scrub, readout), strips);

    function show() {
      // Rebuilds the views when what there is to see has changed.
      const what = JSON.stringify([value.video, value.glb, value.audio]);
      if (what === shown) return;
      shown = what;
      pause();
      if (viewer) { viewer.close(); viewer = null; }
      media = null;
      views.replaceChildren();
      if (value.video) {
        media = make("video", { src: value.video, playsinline: true, preload: "auto" });
        views.append(make("div", { class: "st-view" }, media, make("b", { text: "video" })));
      } else if (value.audio) media = make("audio", { src: value.audio, preload: "auto" });
      if (value.glb) {
        const canvas = make("canvas", { "aria-label": "3D head: drag to turn it" });
        views.append(make("div", { class: "st-view" }, canvas, make("b", { text: "3D head" })));
        showHead(canvas, value.glb);
      }
      if (!value.video && !value.glb) views.append(make("div", { class: "st-empty" }, make("div", {}, make("strong", { text: value.audio ? "Ready to direct" : "Bring a voice" }), make("span", { text: value.audio ? "Shape the emotion below, then press Render." : "Record or upload speech on the right, or load the example." }))));
      front.hidden = !value.glb;
      if (media) {
        media.addEventListener("ended", () => pause());
        media.addEventListener("loadedmetadata", () => { if (!value.duration && Number.isFinite(media.duration)) { duration = media.duration; paint(); } });
        media.currentTime = 0;
      }
      time.tell(0, "stage");
    }
    async function showHead(canvas, glb) {
      try {
        const { open } = await viewerScript();
        if (!canvas.isConnected) return;
        const opened = viewer = open(canvas);
        await opened.load(glb);
        root.dataset.head = "ready";
        opened.show(time.seconds);
      } catch (error) {
        root.dataset.head = "failed";
        if (canvas.isConnected) canvas.replaceWith(make("p", { class: "st-empty", text: "The head cannot be shown here: is WebGL off in this browser?" }));
      }
    }
    const playing = () => (media ? !media.paused : free !== null);
    function toggle() { playing() ? pause() : start(); }
    function start() {
      if (!duration) return;
      if (time.seconds >= duration - 0.02) seek(0);
      if (media) { media.playbackRate = speed; media.play().catch(() => pause()); } else free = performance.now() - (time.seconds / speed) * 1000;
      play.textContent = "Pause";
      frame = requestAnimationFrame(run);
    }
    function pause() {
      cancelAnimationFrame(frame);
      if (media) media.pause();
      free = null;
      play.textContent = "Play";
    }
    function run() {
      const now = media ? media.currentTime : ((performance.now() - free) / 1000) * speed;
      time.tell(clamp(now, 0, duration), "stage");
      if (!media && now >= duration) { pause(); return; }
      if (playing()) frame = requestAnimationFrame(run);
    }
    function pace(by) {
      speed = SPEEDS[clamp(SPEEDS.indexOf(speed) + by, 0, SPEEDS.length - 1)];
      if (media) media.playbackRate = speed; else if (free !== null) free = performance.now() - (time.seconds / speed) * 1000;
      paint();
    }
    function seek(seconds) {
      const to = clamp(seconds, 0, duration);
      if (media) media.currentTime = to; else if (free !== null) free = performance.now() - (to / speed) * 1000;
      time.tell(to, "stage");
    }
    function paint() {
      scrub.value = duration ? Math.round((time.seconds / duration) * 1000) : 0;
      readout.textContent = `${clock(time.seconds)} / ${clock(duration)}${speed !== 1 ? ` \u00d7${speed}` : ""}`;
      paintWave(); paintRoll();
    }
    function playhead(pen, width, height) {
      if (!duration) return;
      pen.fillStyle = color(root, "ink");
      pen.fillRect((time.seconds / duration) * width, 0, 1.5, height);
    }
    function paintWave() {
      const peaks = value.peaks || [];
      wave.hidden = !peaks.length;
      if (!peaks.length) return;
      const [pen, width, height] = crisp(wave, 46);
      pen.fillStyle = color(root, "accent");
      const top = Math.max(...peaks, 1e-3), wide = width * ((value.peaksSeconds || duration) / (duration || 1));
      peaks.forEach((peak, index) => { const tall = Math.max((peak / top) * (height - 8), 1); pen.fillRect((index / peaks.length) * wide, (height - tall) / 2, Math.max(wide / peaks.length - 0.5, 0.5), tall); });
      playhead(pen, width, height);
    }
    function paintRoll() {
      const notes = value.notes || [];
      roll.hidden = !notes.length;
      if (!notes.length) return;
      const [pen, width, height] = crisp(roll, 66);
      const pitches = notes.map((note) => note[2]), low = Math.min(...pitches) - 1, high = Math.max(...pitches) + 1;
      for (const [start, length, pitch, velocity] of notes) {
        pen.globalAlpha = 0.35 + 0.65 * (velocity / 127);
        pen.fillStyle = color(root, time.seconds >= start && time.seconds < start + length ? "valence" : "dominance");
        pen.fillRect((start / duration) * width, height - ((pitch - low) / (high - low)) * height, Math.max((length / duration) * width - 1, 1.5), Math.max(height / (high - low) - 1, 2));
      }
      pen.globalAlpha = 1;
      playhead(pen, width, height);
    }
    const stop = time.hear((seconds, from) => {
      if (from === "timeline" && media && Math.abs(media.currentTime - seconds) > 0.01) media.currentTime = clamp(seconds, 0, duration);
      if (viewer) viewer.show(seconds);
      paint();
    });
    const keys = (event) => {
      const typing = /^(input|textarea|select)$/i.test(event.target.tagName) && event.target.type !== "range" && event.target.type !== "checkbox";
      if (typing || event.target.isContentEditable || event.ctrlKey || event.metaKey || !root.offsetParent) return;
      const within = root.contains(event.target);
      const actions = { " ": toggle, k: toggle, j: () => pace(-1), l: () => pace(1), ...(within ? { ArrowLeft: () => seek(time.seconds - 1 / fps), ArrowRight: () => seek(time.seconds + 1 / fps), Home: () => seek(0), End: () => seek(duration) } : {}) };
      if (event.target.tagName === "BUTTON" && event.key === " ") return;
      const action = actions[event.key];
      if (action) { event.preventDefault(); action(); }
    };
    document.addEventListener("keydown", keys);
    const resizing = new ResizeObserver(() => paint());
    resizing.observe(root);
    return {
      update(given) { value = given; duration = given.duration || 0; fps = given.fps || 25; show(); paint(); },
      close() { stop(); resizing.disconnect(); document.removeEventListener("keydown", keys); if (viewer) viewer.close(); },
    };
  }
  return { mount: (api) => mount(api, "affetto-stage", (root) => build(root, api)) };
})();
