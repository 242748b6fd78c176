// The list of jobs: where each is, what it looks like so far, how long it may take, and what can be done with it.
window.AffettoJobs = (() => {
  "use strict";
  const { make, color, crisp, mount } = Affetto;
  const WORDS = { queued: "waiting", running: "running", done: "done", failed: "will be tried again", dead: "failed", cancelled: "cancelled" };
  const INKS = ["valence", "arousal", "dominance", "intensity"];

  // One stage of a running job as a small picture: a waveform, curves, notes, or the frame that was drawn last.
  function look(seen) {
    const frame = make("figure", { class: "jb-look", title: seen.stage });
    if (seen.picture) frame.append(make("img", { src: seen.picture, alt: `The newest picture of ${seen.stage}` }));
    else {
      const canvas = make("canvas", { role: "img", "aria-label": `${seen.stage} so far` });
      frame.append(canvas);
      requestAnimationFrame(() => canvas.isConnected && draw(canvas, seen));
    }
    frame.append(make("figcaption", { text: seen.stage }));
    return frame;
  }
  function draw(canvas, seen) {
    const [pen, width, height] = crisp(canvas, 46), ink = (name) => color(canvas, name);
    if (seen.peaks) {
      pen.fillStyle = ink("accent");
      const top = Math.max(...seen.peaks, 1e-3), step = width / seen.peaks.length;
      seen.peaks.forEach((peak, index) => { const tall = Math.max((peak / top) * (height - 6), 1); pen.fillRect(index * step, (height - tall) / 2, Math.max(step - 0.5, 0.5), tall); });
    }
    if (seen.notes) {
      const pitches = seen.notes.map((note) => note[2]), low = Math.min(...pitches) - 1, span = Math.max(...pitches) + 1 - low;
      pen.fillStyle = ink("dominance");
      for (const [start, long, pitch] of seen.notes) pen.fillRect((start / seen.seconds) * width, height - 3 - ((pitch - low) / span) * (height - 6), Math.max((long / seen.seconds) * width - 0.5, 1), 2);
    }
    Object.values(seen.curves || {}).forEach((values, index) => {
      pen.strokeStyle = ink(INKS[index % INKS.length]); pen.lineWidth = 1.3; pen.beginPath();
      values.forEach((each, at) => pen[at ? "lineTo" : "moveTo"]((at / Math.max(values.length - 1, 1)) * width, height - 3 - each * (height - 6)));
      pen.stroke();
    });
  }

  function build(root, api) {
    const list = make("div", { role: "list", "aria-live": "polite" });
    root.append(list);
    const act = (what, job) => async (event) => { event.currentTarget.disabled = true; await api.server[what](job.output); };
    // What concerns this page alone goes with the value, not to the server's jobs.
    const ask = (what, job) => () => { api.props.value = { ...api.props.value, wish: [what, job.output, Date.now()] }; api.trigger("input"); };
    function row(job) {
      const share = job.state === "done" ? 1 : job.fraction || 0;
      const bar = make("i", {});
      bar.style.width = `${Math.round(100 * share)}%`;
      const detail = [WORDS[job.state] || job.state, job.state === "running" && job.stage, job.state === "running" && job.eta !== null ? `about ${Math.ceil(job.eta)} s left` : "", job.state === "done" && job.seconds !== null ? `${job.seconds.toFixed(0)} s` : ""].filter(Boolean).join(", ");
      const { shows, compares } = api.props.value;
      const button = (text, action) => make("button", { type: "button", text, "aria-label": `${text}: ${job.name}`, onclick: action });
      const buttons = [
        ["queued", "running", "failed"].includes(job.state) && button("Cancel", act("cancel_job", job)),
        job.state === "queued" && button("First", act("job_first", job)),
        ["dead", "cancelled"].includes(job.state) && button("Try again", act("retry_job", job)),
        job.state === "done" && shows && button("Show", ask("show", job)),
        job.state === "done" && compares && button("Compare", ask("compare", job)),
      ].filter(Boolean);
      const looks = job.looks || [];
      return make("div", { class: "jb", role: "listitem", "data-job": job.output, "data-state": job.state },
        make("div", { class: "jb-head" }, make("span", { class: "jb-name", text: job.kind === "render" ? job.name.replace(/^[\w-]+: /, "") : job.name, title: job.name }), ...buttons),
        job.state === "done" ? null : make("div", { class: "jb-bar", role: "progressbar", "aria-label": `Progress of ${job.name}`, "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round(100 * share)) }, bar),
        make("div", { class: "jb-state", text: detail }),
        looks.length ? make("div", { class: "jb-looks" }, ...looks.map(look)) : null,
        job.error ? make("div", { class: "jb-error", text: job.error }) : null);
    }
    return {
      update(value) {
        const jobs = value.jobs || [];
        list.replaceChildren(...(jobs.length ? jobs.map(row) : [make("div", { class: "jb-none", text: "No jobs yet: what you render appears here." })]));
      },
    };
  }
  return { mount: (api) => mount(api, "affetto-jobs", (root) => build(root, api)) };
})();
