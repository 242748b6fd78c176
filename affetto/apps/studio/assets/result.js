// What a generator made: seen or heard on a dark panel like the stage's, with its file to take along.
window.AffettoResult = (() => {
  "use strict";
  const { make, color, clock, crisp, mount } = Affetto;
  const size = (bytes) => (bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${Math.max(1, Math.round(bytes / 1e3))} kB`);

  function sound(item) {
    const canvas = make("canvas", { role: "slider", tabindex: "0", "aria-label": `Playhead of ${item.name}`, "aria-valuemin": "0" });
    const audio = make("audio", { src: item.audio, preload: "metadata" });
    const play = make("button", { type: "button", class: "play", text: "Play", onclick: () => (audio.paused ? audio.play() : audio.pause()) });
    const readout = make("output", {});
    const whole = () => audio.duration || item.seconds || 0;
    function paint() {
      if (!canvas.isConnected) return;
      const [pen, width, height] = crisp(canvas, 150), peaks = item.peaks || [], top = Math.max(...peaks, 1e-3), share = whole() ? audio.currentTime / whole() : 0;
      const step = width / Math.max(peaks.length, 1);
      peaks.forEach((peak, index) => {
        const tall = Math.max((peak / top) * (height - 16), 2);
        pen.fillStyle = index / peaks.length <= share ? "#b79bff" : "rgba(183,155,255,.6)";
        pen.fillRect(index * step, (height - tall) / 2, Math.max(step - 1, 1), tall);
      });
      pen.fillStyle = "#fff"; pen.fillRect(share * (width - 2), 0, 2, height);
      readout.textContent = `${clock(audio.currentTime)} / ${clock(whole())}`;
      canvas.setAttribute("aria-valuenow", audio.currentTime.toFixed(1)); canvas.setAttribute("aria-valuemax", whole().toFixed(1));
    }
    const seek = (event) => { const box = canvas.getBoundingClientRect(); audio.currentTime = Math.max(0, ((event.clientX - box.left) / box.width) * whole()); paint(); };
    canvas.addEventListener("pointerdown", seek);
    canvas.addEventListener("keydown", (event) => { const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key]; if (by) { event.preventDefault(); audio.currentTime = Math.max(0, audio.currentTime + by); paint(); } });
    for (const name of ["timeupdate", "loadedmetadata", "seeked"]) audio.addEventListener(name, paint);
    for (const name of ["play", "pause", "ended"]) audio.addEventListener(name, () => { play.textContent = audio.paused ? "Play" : "Pause"; if (!audio.paused) requestAnimationFrame(function run() { paint(); if (!audio.paused && canvas.isConnected) requestAnimationFrame(run); }); });
    new ResizeObserver(paint).observe(canvas.parentElement || canvas);
    requestAnimationFrame(paint);
    return make("div", { class: "rs-sound" }, canvas, make("div", { class: "tl-row" }, play, readout, audio));
  }
  function shown(item) {
    if (item.video) return make("video", { src: item.video, controls: true, playsinline: true, preload: "metadata", "aria-label": `Video of ${item.name}` });
    if (item.audio) return sound(item);
    if (item.picture) return make("img", { src: item.picture, alt: item.name });
    return make("div", { class: "rs-file" }, make("strong", { text: item.file }), make("span", { text: "This kind of file is opened by other programs: take it along below." }));
  }
  function build(root) {
    let last = "";
    return {
      update(value) {
        if (JSON.stringify(value) === last) return;
        last = JSON.stringify(value);
        const item = value.item;
        root.replaceChildren(make("div", { class: item ? "rs-view" : "rs-view rs-none" }, item ? shown(item) : make("div", { class: "rs-file" }, make("strong", { text: value.made || "" }), make("span", { text: value.hint || "" }))),
          ...(item ? [make("div", { class: "tl-row rs-foot" }, make("span", { text: item.name }), make("small", { text: [item.took, size(item.size)].filter(Boolean).join(", ") }), make("a", { href: item.url, download: item.file, text: `Download ${item.file}` }))] : []));
      },
    };
  }
  return { mount: (api) => mount(api, "affetto-result", (root) => build(root)) };
})();
