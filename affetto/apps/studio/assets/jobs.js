// The list of jobs: where each is, how long it may take, and what can be done with it.
window.AffettoJobs = (() => {
  "use strict";
  const { make, mount } = Affetto;
  const WORDS = { queued: "waiting", running: "running", done: "done", failed: "will be tried again", dead: "failed", cancelled: "cancelled" };

  function build(root, api) {
    const list = make("div", { role: "list", "aria-live": "polite" });
    root.append(list);
    const act = (what, job) => async (event) => { event.currentTarget.disabled = true; await api.server[what](job.output); api.trigger("input"); };
    function row(job) {
      const share = job.state === "done" ? 1 : job.fraction || 0;
      const bar = make("i", {});
      bar.style.width = `${Math.round(100 * share)}%`;
      const detail = [WORDS[job.state] || job.state, job.stage, job.state === "running" && job.eta !== null ? `about ${Math.ceil(job.eta)} s left` : "", job.state === "done" && job.seconds !== null ? `${job.seconds.toFixed(0)} s` : ""].filter(Boolean).join(", ");
      const buttons = [
        ["queued", "running", "failed"].includes(job.state) && ["Cancel", "cancel_job"],
        job.state === "queued" && ["First", "job_first"],
        ["dead", "cancelled"].includes(job.state) && ["Try again", "retry_job"],
        job.state === "done" && ["Show", "show_job"],
      ].filter(Boolean).map(([text, what]) => make("button", { type: "button", text, "aria-label": `${text}: ${job.name}`, onclick: act(what, job) }));
      return make("div", { class: "jb", role: "listitem", "data-job": job.output, "data-state": job.state },
        make("div", { class: "jb-head" }, make("span", { class: "jb-name", text: job.name, title: job.name }), ...buttons),
        make("div", { class: "jb-bar", role: "progressbar", "aria-label": `Progress of ${job.name}`, "aria-valuemin": "0", "aria-valuemax": "100", "aria-valuenow": String(Math.round(100 * share)) }, bar),
        make("div", { class: "jb-state", text: detail }),
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
