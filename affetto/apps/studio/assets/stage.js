// The stage: one clock drives video, 3D head, and all that the timeline shows; two renders may stand side by side.
window.AffettoStage = (() => {
  "use strict";
  const { make, clamp, clock, time, heard, mount } = Affetto;
  const SPEEDS = [0.25, 0.5, 1, 1.5, 2];
  const VIEWER = document.currentScript.src.replace("stage.js", "viewer.js");
  let fetched = null;
  // The 3D viewer is large: it is fetched with the first head.
  const viewerScript = () => (fetched = fetched || new Promise((done, failed) => document.head.append(make("script", { src: VIEWER, onload: () => done(window.AffettoViewer), onerror: () => { fetched = null; failed(new Error("no viewer")); } }))));

  function build(root, api) {
    let value = {}, shown = "", media = null, other = null, viewer = null, duration = 0, frame = 0, free = null, speed = 1, fps = 25;
    const button = (text, title, action, label = title) => make("button", { type: "button", text, title, "aria-label": label, onclick: action });
    const play = make("button", { type: "button", class: "play", text: "Play", title: "Play or pause (space, K)", onclick: () => toggle() });
    const slow = button("\u2212", "Slower (J)", () => pace(-1), "Slower");
    const fast = button("+", "Faster (L)", () => pace(1), "Faster");
    const back = button("\u25c2", "One frame back (left arrow)", () => seek(time.seconds - 1 / fps), "One frame back");
    const on = button("\u25b8", "One frame on (right arrow)", () => seek(time.seconds + 1 / fps), "One frame on");
    const front = make("button", { type: "button", text: "Front view", title: "Turn the head to the front", onclick: () => viewer && viewer.home() });
    const ears = ["A", "B"].map((name, index) => make("button", { type: "button", text: `Hear ${name}`, "aria-pressed": String(index === 0), onclick: () => listen(index) }));
    const apart = make("button", { type: "button", text: "End comparison", onclick: () => { const { other: _, ...alone } = value; api.props.value = alone; update(alone); } });
    const pair = make("span", { class: "st-pair", hidden: true }, ...ears, apart);
    const scrub = make("input", { type: "range", min: 0, max: 1000, value: 0, "aria-label": "Playhead", oninput: () => seek((scrub.value / 1000) * duration) });
    const readout = make("output", {});
    const views = make("div", { class: "st-views" });
    root.setAttribute("tabindex", "0");
    root.setAttribute("role", "region");
    root.setAttribute("aria-label", "Stage");
    root.append(views, make("div", { class: "st-transport" }, play, back, on, slow, fast, front, pair, scrub, readout));

    // ---- what is seen
    function player(what, label) {
      const name = `${label ? `${label}: ` : ""}${what.title || "video"}`;
      if (what.video) {
        const video = make("video", { src: what.video, playsinline: true, preload: "auto" });
        views.append(make("div", { class: "st-view" }, video, make("b", { text: name })));
        return video;
      }
      if (!what.audio) return null;
      if (label) views.append(make("div", { class: "st-empty st-heard" }, make("strong", { text: name })));
      return make("audio", { src: what.audio, preload: "auto" });
    }
    function show() {
      // Rebuilds the views when what there is to see has changed.
      const what = JSON.stringify([value.video, value.glb, value.audio, value.other]);
      if (what === shown) return;
      shown = what;
      pause();
      if (viewer) { viewer.close(); viewer = null; }
      views.replaceChildren();
      media = player(value, value.other ? "A" : "");
      other = value.other ? player(value.other, "B") : null;
      pair.hidden = !other;
      if (value.glb && !other) {
        const canvas = make("canvas", { "aria-label": "3D head: drag to turn it" });
        views.append(make("div", { class: "st-view" }, canvas, make("b", { text: "3D head" })));
        showHead(canvas, value.glb);
      }
      if (!views.children.length) views.append(empty());
      front.hidden = !value.glb || Boolean(other);
      if (media) {
        media.addEventListener("ended", () => pause());
        media.addEventListener("loadedmetadata", () => { if (!value.duration && Number.isFinite(media.duration)) { duration = media.duration; paint(); } });
      }
      listen(0);
      time.tell(0, "stage");
    }
    function empty() {
      const ready = Boolean(value.audio);
      return make("div", { class: "st-empty" }, make("div", {}, make("strong", { text: ready ? "Ready to direct" : "Bring a voice" }),
        make("span", { text: ready ? "Shape the emotion below, then press Quick preview or Render." : "Record or upload speech on the right, or load the example." })));
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
    function listen(index) {
      ears.forEach((each, at) => each.setAttribute("aria-pressed", String(at === index)));
      if (media) media.muted = Boolean(other) && index !== 0;
      if (other) other.muted = index !== 1;
    }

    // ---- the clock
    const both = () => [media, other].filter(Boolean);
    const playing = () => (media ? !media.paused : free !== null);
    function toggle() { playing() ? pause() : start(); }
    function start() {
      if (!duration) return;
      if (time.seconds >= duration - 0.02) seek(0);
      if (media) for (const each of both()) { each.playbackRate = speed; each.play().catch(() => pause()); } else free = performance.now() - (time.seconds / speed) * 1000;
      play.textContent = "Pause";
      frame = requestAnimationFrame(run);
    }
    function pause() {
      cancelAnimationFrame(frame);
      for (const each of both()) each.pause();
      free = null;
      play.textContent = "Play";
    }
    function run() {
      const now = media ? media.currentTime : ((performance.now() - free) / 1000) * speed;
      if (other && !other.ended && Math.abs(other.currentTime - now) > 0.12) other.currentTime = Math.min(now, other.duration || now);
      time.tell(clamp(now, 0, duration), "stage");
      if (!media && now >= duration) { pause(); return; }
      if (playing()) frame = requestAnimationFrame(run);
    }
    function pace(by) {
      speed = SPEEDS[clamp(SPEEDS.indexOf(speed) + by, 0, SPEEDS.length - 1)];
      if (media) for (const each of both()) each.playbackRate = speed; else if (free !== null) free = performance.now() - (time.seconds / speed) * 1000;
      paint();
    }
    function place(to) { for (const each of both()) if (Math.abs(each.currentTime - to) > 0.01) each.currentTime = Math.min(to, each.duration || to); }
    function seek(seconds) {
      const to = clamp(seconds, 0, duration);
      if (!media && free !== null) free = performance.now() - (to / speed) * 1000;
      place(to);
      time.tell(to, "stage");
    }
    function paint() {
      scrub.value = duration ? Math.round((time.seconds / duration) * 1000) : 0;
      readout.textContent = `${clock(time.seconds)} / ${clock(duration)}${speed !== 1 ? ` \u00d7${speed}` : ""}`;
      play.disabled = !duration;
    }
    const stop = time.hear((seconds, from) => {
      if (from === "timeline") place(clamp(seconds, 0, duration));
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
    function update(given) {
      value = given;
      fps = given.fps || 25;
      duration = Math.max(given.duration || 0, given.other?.duration || 0);
      show();
      paint();
      heard.put(given);
    }
    return {
      update,
      close() { stop(); document.removeEventListener("keydown", keys); if (viewer) viewer.close(); },
    };
  }
  return { mount: (api) => mount(api, "affetto-stage", (root) => build(root, api)) };
})();
