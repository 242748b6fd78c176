// All that was made, the newest first, and two of them side by side on one clock.
window.AffettoLibrary = (() => {
  "use strict";
  const { make, clamp, clock, mount } = Affetto;
  const KINDS = { render: "Scene", voice: "Voice", face: "Face", talk: "Portrait", music: "Music" };
  const size = (bytes) => (bytes >= 1e6 ? `${(bytes / 1e6).toFixed(1)} MB` : `${Math.max(1, Math.round(bytes / 1e3))} kB`);
  const when = (seconds) => new Date(seconds * 1000).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });

  function bars(peaks) {
    const top = Math.max(...peaks, 1e-3);
    return make("div", { class: "lb-bars", "aria-hidden": "true" }, ...peaks.map((peak) => { const bar = make("i", {}); bar.style.height = `${Math.round((peak / top) * 100)}%`; return bar; }));
  }
  function player(item, attributes = {}) {
    if (item.video) return make("video", { src: item.video, preload: "metadata", playsinline: true, "aria-label": `Video of ${item.name}`, ...attributes });
    if (item.audio) return make("audio", { src: item.audio, preload: "metadata", "aria-label": `Sound of ${item.name}`, ...attributes });
    return null;
  }

  function compared(items) {
    // Two outputs on one clock; one of them is heard.
    const media = items.map((item) => player(item, { preload: "auto" }));
    let heard = 0, frame = 0;
    const longest = () => Math.max(...media.map((each) => each.duration || 0));
    const play = make("button", { type: "button", class: "play", text: "Play both", onclick: () => (media.every((each) => each.paused) ? start() : stop()) });
    const scrub = make("input", { type: "range", min: 0, max: 1000, value: 0, "aria-label": "Playhead of both", oninput: () => { for (const each of media) each.currentTime = clamp((scrub.value / 1000) * longest(), 0, each.duration || 0); tell(); } });
    const readout = make("output", {});
    const ears = media.map((_, index) => make("button", { type: "button", text: `Hear ${"AB"[index]}`, "aria-pressed": String(index === 0), onclick: () => hear(index) }));
    function hear(index) { heard = index; media.forEach((each, other) => { each.muted = other !== heard; ears[other].setAttribute("aria-pressed", String(other === heard)); }); }
    function tell() { const now = Math.max(...media.map((each) => each.currentTime)); scrub.value = longest() ? Math.round((now / longest()) * 1000) : 0; readout.textContent = `${clock(now)} / ${clock(longest())}`; }
    function start() {
      if (media.some((each) => each.ended)) for (const each of media) each.currentTime = 0;
      Promise.all(media.map((each) => each.play())).catch(stop);
      play.textContent = "Pause both";
      frame = requestAnimationFrame(run);
    }
    function stop() { cancelAnimationFrame(frame); for (const each of media) each.pause(); play.textContent = "Play both"; tell(); }
    function run() {
      const [lead, other] = [media[heard], media[1 - heard]];
      if (!lead.ended && !other.ended && Math.abs(lead.currentTime - other.currentTime) > 0.08) other.currentTime = lead.currentTime;
      tell();
      if (media.every((each) => each.paused)) stop(); else frame = requestAnimationFrame(run);
    }
    for (const each of media) for (const name of ["loadedmetadata", "seeked"]) each.addEventListener(name, tell);
    hear(0);
    const panel = make("section", { class: "card lb-pair", "aria-label": "Two outputs compared" },
      make("div", { class: "lb-two" }, ...items.map((item, index) => make("figure", {}, media[index], make("figcaption", {}, make("b", { text: "AB"[index] }), make("span", { text: item.name }))))),
      make("div", { class: "st-transport" }, play, ...ears, scrub, readout));
    return { panel, stop };
  }

  function build(root) {
    let items = [], chosen = [], pair = null;
    const board = make("div", {}), shelf = make("div", { class: "lb-shelf" });
    root.append(board, shelf);
    function compare(item) {
      chosen = chosen.includes(item.output) ? chosen.filter((each) => each !== item.output) : [...chosen, item.output].slice(-2);
      paint();
    }
    function card(item) {
      const at = chosen.indexOf(item.output), shown = player(item, { controls: true });
      return make("article", { class: "card lb-card", "data-output": item.output },
        shown ? make("div", { class: `lb-view${item.video ? "" : " sound"}` }, item.peaks ? bars(item.peaks) : null, shown) : item.picture ? make("div", { class: "lb-view" }, make("img", { src: item.picture, alt: item.name, loading: "lazy" }))
          : make("div", { class: "lb-view" }, make("b", { text: item.output.split(".").pop().toUpperCase() })),
        make("h3", {}, make("span", { text: item.name, title: item.name }), make("small", { text: KINDS[item.kind] || item.kind })),
        make("p", { class: "lb-when", text: when(item.finished) }),
        make("div", { class: "tl-row" }, shown ? make("button", { type: "button", class: "lb-pick", text: at < 0 ? "Compare" : `Compared as ${"AB"[at]}`, "aria-pressed": String(at >= 0), onclick: () => compare(item) }) : null,
          make("details", {}, make("summary", { text: `${item.files.length} file${item.files.length === 1 ? "" : "s"}` }), make("ul", {}, ...item.files.map((file) => make("li", {}, make("a", { href: file.url, download: file.name, text: file.name }), make("small", { text: size(file.size) })))))));
    }
    function paint() {
      if (pair) pair.stop();
      const two = chosen.map((output) => items.find((item) => item.output === output)).filter(Boolean);
      pair = two.length === 2 ? compared(two) : null;
      board.replaceChildren(...(pair ? [pair.panel] : two.length === 1 ? [make("p", { class: "lb-hint", role: "status", text: `Choose another output to see it beside ${two[0].name}.` })] : []));
      shelf.replaceChildren(...(items.length ? items.map(card) : [make("div", { class: "empty" }, make("strong", { text: "Nothing made yet" }), make("span", { text: "What you render on the stage or make in a tab is kept here." }))]));
    }
    return {
      update(value) { items = value.items || []; paint(); },
      close() { if (pair) pair.stop(); },
    };
  }
  return { mount: (api) => mount(api, "affetto-library", (root) => build(root)) };
})();
